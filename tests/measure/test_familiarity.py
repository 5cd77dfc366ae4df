"""How unusual shapes are, and which training shapes are near them."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.measure.familiarity import Familiarity
from pointpeft.models.layers import Block
from pointpeft.peft.saving import copy_adapter
from pointpeft.peft.training_features import draw_by_class
from tests.training.conftest import archive, finetune_config, weights  # noqa: F401 - fixtures
from tests.training.support import CLASSES, NUM_POINTS


@pytest.fixture
def near() -> Familiarity:
    """Forty directions about one axis."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([1.0, 0, 0, 0]) + 0.1 * torch.randn(40, 4, generator=generator)
    ids = [f"item {number}" for number in range(40)]
    bank = pp.MemoryBank(F.normalize(rows, dim=1).T.half(), torch.arange(40) % 2, ids)
    return Familiarity.of(bank, ("odd", "even"))


def test_the_score_is_a_share_of_the_training_shapes(near: Familiarity) -> None:
    seen = near.bank.features.T
    assert near.unusual(seen) == [0.0] * 40  # each is its own nearest one
    assert near.unusual(torch.tensor([[0.0, 1, 0, 0], [-1, 0, 0, 0]])) == [1.0, 1.0]
    similarity = (seen @ seen.T).fill_diagonal_(-1).amax(dim=1)
    query = F.normalize(seen[:5] + seen[5:10], dim=1)
    own = (query @ seen.T).amax(dim=1, keepdim=True)
    expected = (similarity[None] > own).float().mean(dim=1)
    assert near.unusual(query) == pytest.approx(expected.tolist(), abs=1 / 40)


def test_shapes_like_those_of_training_are_ordinary() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = F.normalize(torch.randn(600, 6, generator=generator), dim=1)
    memory = Familiarity(pp.MemoryBank(rows[:300].T.half()), ())
    assert np.mean(memory.unusual(rows[300:])) == pytest.approx(0.5, abs=0.06)


def test_the_nearest_shapes_come_first(near: Familiarity) -> None:
    (found,) = near.nearest(near.bank.features.T[7:8].float())
    assert [one.similarity for one in found] == sorted(
        (one.similarity for one in found), reverse=True
    )
    assert found[0].similarity == pytest.approx(1, abs=1e-3)
    assert (found[0].label, found[0].name) == ("even", None)
    assert "item" not in found[0].id


def test_one_training_shape_has_no_scale() -> None:
    memory = Familiarity(pp.MemoryBank(torch.ones(3, 1).half()), ("a",))
    assert memory.unusual(torch.ones(2, 3)) == [None, None]
    assert len(memory.nearest(torch.ones(2, 3))[0]) == 1


def test_a_draw_keeps_small_classes() -> None:
    labels = np.repeat([0, 1, 2], [500, 30, 4])
    drawn = labels[draw_by_class(labels, most=60)]
    assert np.bincount(drawn).tolist() == [28, 28, 4]
    assert np.array_equal(draw_by_class(labels, 60), draw_by_class(labels, 60))
    assert not np.array_equal(draw_by_class(labels, 60), draw_by_class(labels, 60, seed=1))
    assert draw_by_class(labels).tolist() == list(range(534))


# Adapters ----------------------------------------------------------------------------------------


METHODS = ("linear", "knn", "svm", "lda", "full", "point-peft")


@pytest.fixture(
    scope="module",
    params=[*((f"method={each}",) for each in METHODS), ("method=point-peft", "peft.bank_size=9")],
    ids=" ".join,
)
def run(request, finetune_config, tmp_path_factory):  # noqa: F811
    """A short run of a method, with or without a bank."""
    folder = tmp_path_factory.mktemp("remembering") / "run"
    pp.finetune(finetune_config(*request.param, "trainer.epochs=1"), folder)
    return folder


@pytest.fixture
def cloud(tmp_path, archive):  # noqa: F811
    """A training shape, and scattered points."""
    with np.load(archive) as stored:
        np.save(tmp_path / "seen.npy", stored["points"][0])
    strange = np.random.default_rng(0).normal(size=(200, 3)) ** 3
    np.save(tmp_path / "strange.npy", strange)
    return [tmp_path / "seen.npy", tmp_path / "strange.npy"]


def test_every_method_knows_its_training_shapes(run, cloud, archive):  # noqa: F811
    predictor = pp.Predictor(run, neighbors_from=str(archive))
    seen, strange = predictor.predict(cloud)
    assert seen.unusual <= 0.05
    assert seen.nearest[0].label == CLASSES[0]
    assert seen.nearest[0].similarity == pytest.approx(1, abs=1e-3)
    assert strange.unusual == 1
    assert any("training shapes" in warning for warning in strange.warnings)
    names = [near.name for found in (seen, strange) for near in found.nearest]
    assert len(names) == 6
    assert None not in names


def test_neighbours_stand_as_in_training_whichever_way_the_files_do(
    run, cloud, archive, tmp_path  # noqa: F811
):  # fmt: skip
    upright, turned = (
        pp.Predictor(run, up_axis=axis, neighbors_from=str(archive)) for axis in (None, "z")
    )
    with np.load(archive) as stored:
        for place, points in enumerate(stored["points"]):
            np.save(tmp_path / f"{place}.npy", points)
    files = [tmp_path / f"{place}.npy" for place in range(place + 1)]
    known = {n.name: n.points for found in upright.predict(files) for n in found.nearest}
    for near in turned.predict_file(cloud[0]).nearest:
        assert np.array_equal(near.points, known[near.name])


def test_the_frozen_pass_changes_no_probability(run, cloud):
    predictor = pp.Predictor(run)
    found = predictor.predict(cloud)
    points = np.stack([np.load(file)[:128] for file in cloud[:1]])
    prepared = predictor.transform.prepare(pp.data.RawShape(points[0], None, "cloud"))
    logits = predictor.model(torch.from_numpy(prepared[None, :NUM_POINTS])).detach()
    shares = (logits / predictor.model.adapter.temperature).softmax(dim=1)
    assert found[0].probability == pytest.approx(float(shares.max()), abs=1e-5)


@pytest.mark.parametrize("method", ["knn", "svm", "lda"])
def test_one_pass_gives_both(method, finetune_config, cloud, tmp_path, monkeypatch):  # noqa: F811
    pp.finetune(finetune_config(f"method={method}"), tmp_path / "run")
    predictor = pp.Predictor(tmp_path / "run")
    blocks, forward = [], Block.forward
    monkeypatch.setattr(Block, "forward", lambda *given: blocks.append(1) or forward(*given))
    predictor.predict(cloud)
    assert len(blocks) == len(predictor.model.trunk.blocks)


def test_the_memory_is_optional_and_names_nobody(run, cloud, archive, tmp_path):  # noqa: F811
    copied = shutil.copytree(run, tmp_path / "copy")
    memory = copied / "adapter/training_features.safetensors"
    if not memory.is_file():  # the method has a bank of its own
        assert not pp.Predictor(copied).model.bank.has_prototypes
        return
    content = memory.read_bytes()
    assert not any(name.encode() in content for name in (*CLASSES, str(archive)))
    memory.unlink()
    (found, _) = pp.Predictor(copied).predict(cloud)
    assert (found.unusual, found.nearest) == (None, ())
    with pytest.raises(ConfigError, match="neighbors_from"):
        pp.Predictor(copied, neighbors_from=str(archive))
    memory.write_bytes(content[:100])
    with pytest.raises(CheckpointError, match="training_features"):
        pp.Predictor(copied)


def test_other_data_has_no_names(run, tmp_path):
    points = np.random.default_rng(3).normal(size=(8, 100, 3))
    np.savez(tmp_path / "other.npz", points=points, label=np.arange(8) % 4, names=CLASSES)
    if pp.Predictor(run).model.adapter.training_features is not None:  # a bank has names
        with pytest.raises(DataError, match="neighbors_from"):
            pp.Predictor(run, neighbors_from=str(tmp_path / "other.npz"))


def test_a_memory_of_another_adapter_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    folder = tmp_path / "copy/adapter"
    if (folder / "training_features.safetensors").is_file():
        model = pp.Predictor(folder.parent).model
        model.adapter.remember(None)
        model.save_pretrained(folder)
        assert not (folder / "training_features.safetensors").exists()
        trained = next(p for p in model.parameters() if p.requires_grad)
        trained.data += 1
        model.save_pretrained(folder)
        shutil.copy(run / "adapter/training_features.safetensors", folder)
        with pytest.raises(CheckpointError, match="training_features"):
            pp.Predictor(folder.parent)


@pytest.mark.parametrize("damage", [b"\xff", b"\0"])
def test_damaged_features_are_refused(run, tmp_path, damage):
    shutil.copytree(run, tmp_path / "copy")
    file = tmp_path / "copy/adapter/training_features.safetensors"
    if file.is_file():
        content = file.read_bytes()
        file.write_bytes(content[:-100] + damage * 100)
        with pytest.raises(CheckpointError, match="training_features"):
            pp.Predictor(tmp_path / "copy")


@pytest.mark.parametrize("values", [{"radius": "x"}, {"radius": [1, 2]}, {"point_counts": [None]}])
def test_damaged_statistics_are_refused(run, tmp_path, values):
    shutil.copytree(run, tmp_path / "copy")
    file = tmp_path / "copy/adapter/adapter_config.json"
    config = json.loads(file.read_text())
    config["input"]["statistics"] |= values
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=next(iter(values))):
        pp.Predictor(tmp_path / "copy")


def test_what_is_remembered_is_saved_again(run, cloud, archive, tmp_path):  # noqa: F811
    expected = pp.Predictor(run, neighbors_from=str(archive)).predict(cloud)
    folder = shutil.copytree(run, tmp_path / "copy")
    pp.Predictor(folder).model.save_pretrained(folder / "adapter")  # over itself
    again = pp.Predictor(folder, neighbors_from=str(archive)).predict(cloud)
    assert again == expected
    copy_adapter(folder / "adapter", tmp_path / "third/adapter")
    shutil.copy(run / "config.yaml", tmp_path / "third")
    assert pp.Predictor(tmp_path / "third", neighbors_from=str(archive)).predict(cloud) == expected


def test_prototypes_are_no_training_shapes(run, cloud):
    model = pp.Predictor(run).model
    if model.bank is None or not model.bank.has_prototypes:
        return
    assert len(model.bank) == 9
    assert len(model.adapter.training_features) == 32
    (run / "adapter/training_features.safetensors").rename(run / "elsewhere")
    (found, _) = pp.Predictor(run).predict(cloud)
    (run / "elsewhere").rename(run / "adapter/training_features.safetensors")
    assert (found.unusual, found.nearest) == (None, ())
