"""Files of whole networks are known as such, whoever wrote them."""

from dataclasses import asdict

import pytest
import torch
import trimesh

import pointpeft as pp
from pointpeft.compat.checkpoints.checkpoint_converter import convert
from pointpeft.compat.checkpoints.checkpoint_writer import save_pth
from pointpeft.data.shards import write_shards
from pointpeft.measure.pretraining_view import see
from pointpeft.training import PretrainConfig, load_config, pretrain
from pointpeft.training.visualizing import load_pretrained, view_config, visualize_shape
from pointpeft.vision.views import ShadedViews
from tests.models.tiny import SIZES, clouds, settle, tiny

BERT = {
    "queue_size": 64, "feature_dim": 10, "num_tokens": 12, "token_dim": 10, "decoder_dim": 16,
}  # fmt: skip
SHORT = ["trainer.epochs=1", "trainer.accelerator=cpu", "data.num_points=64"]
NETWORKS = ("point_mae", "pcp_mae", "point_bert", "point_m2ae", "i2p_mae")


@pytest.mark.parametrize("write", [save_pth, pp.save_model], ids=["pth", "safetensors"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_of_a_whole_network_is_shown_as_the_network_is(name, write, tmp_path):
    torch.manual_seed(0)
    model = settle(tiny("pretraining", name)).eval()
    path = tmp_path / f"whole.{'pth' if write is save_pth else 'safetensors'}"
    write(model, path)
    config = PretrainConfig(
        model=name,
        checkpoint=str(path),
        backbone=dict(model.backbone.spec.config),
        pretraining=asdict(model.pretraining_config),
    )
    loaded, trained, origin = load_pretrained(config)
    assert path.name in origin
    given = see(model, clouds(1)[0], set(model.state_dict()))
    shown = see(loaded, clouds(1)[0], trained)
    assert [panel.line for panel in shown.panels] == [panel.line for panel in given.panels]
    for one, other in zip(shown.panels, given.panels, strict=True):
        torch.testing.assert_close(one.points, other.points)


@pytest.mark.parametrize("distilled", [True, False])
def test_a_teacher_that_looks_at_no_batch_is_shown_what_is_stored(distilled):
    """Or nothing, if it is not asked: I2P-MAE without what its paper has one for."""
    settings = {"semantics": 0.0, "guided_mask": False, "views": "shaded", "teacher": "random"}
    model = tiny("pretraining", "i2p_mae", **settings, distillation=float(distilled))
    shown = see(model, clouds(1)[0], set(model.state_dict()), stored=clouds(1, 90)[0])
    assert len(shown.panels) > 1
    assert len(shown.views) == (4 if distilled else 0)
    assert any("shown 90 points" in note for note in shown.notes) == distilled


@pytest.mark.parametrize("views", [{"views": "depth"}, {"views": "shaded", "num_views": 2}])
def test_a_published_file_of_ours_says_how_many_views_it_learnt_from(views, tmp_path):
    model = settle(tiny("pretraining", "i2p_mae", **views)).eval()
    save_pth(model, tmp_path / "whole.pth")
    convert(tmp_path / "whole.pth", tmp_path / "ours.safetensors")
    for name in ("whole.pth", "ours.safetensors"):
        loaded = tiny("pretraining", "i2p_mae", checkpoint=tmp_path / name)
        assert loaded.views.count == model.views.count
        for key, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], tensor), key


@pytest.mark.parametrize("given", [True, False])
def test_an_untrained_tokenizer_rebuilds_nothing(given, archive, tmp_path):
    """Point-BERT draws by its tokenizer, which a run keeps as it was."""
    tokenizer = tmp_path / "tokenizer.safetensors"
    pp.save_model(tiny("pretraining", "point_bert_dvae"), tokenizer)
    stated = {"model": "point_bert", "data.source": str(archive), "trainer.batch_size": 16}
    stated |= {f"backbone.{key}": value for key, value in (SIZES | {"embed_dim": 16}).items()}
    stated |= {f"pretraining.{key}": value for key, value in BERT.items()}
    if given:
        stated["pretraining.tokenizer"] = str(tokenizer)
    pretrain(load_config(PretrainConfig, [], SHORT, stated), tmp_path / "run")
    model, trained, _ = load_pretrained(view_config(str(tmp_path / "run"), []))
    titles = [panel.title for panel in see(model, clouds(1)[0], trained).panels]
    assert ("By the tokens of all patches" in titles) == given


@pytest.mark.parametrize("data", ["files", "shards"])
def test_the_teacher_is_shown_what_the_data_of_the_run_holds(data, tmp_path, monkeypatch):
    """The faces of files; of shards as many points as they hold."""
    source = tmp_path / "meshes"
    source.mkdir()
    for place in range(4):
        trimesh.creation.cone(1.0, 1.0 + place).export(source / f"{place}.off")
    file = source / "0.off"
    if data == "shards":
        pytest.importorskip("pyarrow")
        source = tmp_path / "shards"
        write_shards(file.parent, source, num_points=100, workers=0)
    stated = {"model": "point_mae", "data.source": str(source), "trainer.batch_size": 16}
    stated |= {f"backbone.{key}": value for key, value in SIZES.items()}
    stated |= {"pretraining.distillation": 1.0, "pretraining.teacher": "random"}
    run = tmp_path / "run"
    pretrain(load_config(PretrainConfig, [], SHORT, stated), run)
    seen = []
    monkeypatch.setattr(
        ShadedViews, "show", lambda self, *given: seen.append(given) or show(self, *given)
    )
    visualize_shape(file, view_config(str(run), []), tmp_path / "page.html")
    ((points, _, (mesh,)),) = seen
    assert points.shape[1] == (100 if data == "shards" else 2 * 64)
    assert (mesh is None) == (data == "shards")


show = ShadedViews.show
