"""Adapters and backbones on the hub of Hugging Face."""

from pathlib import Path

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.peft import read_adapter_config
from pointpeft.peft.hugging_face import LoRAConfig
from tests.models.tiny import SIZES, clouds
from tests.peft.support import adapted, encoder


@pytest.fixture
def points():
    return clouds(3)


def test_an_adapter_goes_there_and_back(hub, points):
    model = adapted(pp.BitFitConfig()).eval()
    assert pp.push_to_hub(model, "me/bits") == "https://example.org/me/bits"
    assert (hub / "me/bits/README.md").read_text().startswith("---")
    loaded = pp.load_adapter(encoder(), "hf://me/bits")
    assert torch.equal(loaded(points), model(points))


def test_a_run_or_adapter_folder_is_uploaded(hub, points, tmp_path):
    model = adapted(pp.LinearConfig()).eval()
    model.save_pretrained(tmp_path / "run/adapter")
    pp.push_to_hub(tmp_path / "run", "me/run")
    assert torch.equal(pp.load_adapter(encoder(), "hf://me/run")(points), model(points))


def test_a_backbone_goes_there_and_back(hub, points):
    trunk = encoder()
    pp.push_to_hub(trunk, "me/trunk")
    loaded = pp.create_model("point_mae", checkpoint="hf://me/trunk", **SIZES)
    assert torch.equal(loaded.eval()(points).tokens, trunk.eval()(points).tokens)


def test_a_saved_trunk_has_a_card_with_both_licenses_and_keeps_words_of_ones_own(tmp_path):
    encoder().save_pretrained(tmp_path / "own", license="MIT", data_license="CC-BY-4.0")
    card = (tmp_path / "own/README.md").read_text()
    assert "license: mit" in card
    assert "CC-BY-4.0" in card
    pp.create_model("point_mae_small", pretrained=True).save_pretrained(tmp_path / "shipped")
    assert "license: apache-2.0" in (tmp_path / "shipped/README.md").read_text()
    (tmp_path / "own/README.md").write_text("# Mine")
    encoder().save_pretrained(tmp_path / "own")
    assert (tmp_path / "own/README.md").read_text() == "# Mine"
    with pytest.raises(ConfigError, match="data_license"):
        encoder().save_pretrained(tmp_path / "bad", data_license="")
    assert not (tmp_path / "bad").exists()


def same_outputs(one, other, points) -> bool:
    with torch.no_grad():
        return torch.equal(one.eval()(points).tokens, other.eval()(points).tokens)


def test_a_trunk_is_saved_loaded_and_shared_by_its_methods(hub, points, tmp_path):
    trunk = encoder()
    trunk.save_pretrained(tmp_path / "trunk")
    trunk.push_to_hub("me/trunk")
    for place in (tmp_path / "trunk", "hf://me/trunk"):
        loaded = pp.Trunk.from_pretrained(place)
        assert not loaded.training
        assert type(loaded) is type(trunk)
        assert loaded.spec == trunk.spec
        assert same_outputs(loaded, trunk, points)
        assert same_outputs(type(trunk).from_pretrained(place), trunk, points)
    assert loaded.loaded_from == "hf://me/trunk"


def test_a_trunk_of_another_class_or_none_is_refused(hub, tmp_path):
    encoder().save_pretrained(tmp_path)
    other = type(pp.create_model("point_m2ae_small"))
    with pytest.raises(CheckpointError, match=other.__name__):
        other.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="nowhere"):
        pp.Trunk.from_pretrained(tmp_path / "nowhere")
    torch.save({}, tmp_path / "theirs.pth")
    with pytest.raises(CheckpointError, match="`checkpoint`"):
        pp.Trunk.from_pretrained(tmp_path / "theirs.pth")


def test_an_adapter_is_loaded_and_shared_by_its_methods(hub, points, tmp_path):
    model = adapted(pp.STAGConfig(width=6, num_neighbors=3)).eval()
    model.save_pretrained(tmp_path / "mine")
    model.push_to_hub("me/stag")
    for place in (tmp_path / "mine", "hf://me/stag"):
        loaded = pp.PeftModel.from_pretrained(encoder(), place, "theirs")
        assert loaded.active == "theirs"
        assert torch.equal(loaded(points), model(points))


def test_an_adapter_in_a_repository_is_replaced_whole(hub, points, tmp_path):
    adapted(LoRAConfig({"r": 2})).push_to_hub("me/one")
    assert (hub / "me/one/hugging_face").is_dir()
    (hub / "me/one/LICENSE").write_text("mine")
    model = adapted(pp.BitFitConfig()).eval()
    model.push_to_hub("me/one")
    assert {file.name for file in (hub / "me/one").rglob("*") if file.is_file()} == {
        "README.md", "LICENSE", "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    assert torch.equal(pp.load_adapter(encoder(), "hf://me/one")(points), model(points))


def test_of_a_folder_the_adapter_and_its_card_are_uploaded(hub, tmp_path):
    model = adapted(pp.LinearConfig())
    model.base_checkpoint = str(tmp_path / "secret/trunk.safetensors")
    folder = tmp_path / "secret/adapter"
    model.save_pretrained(folder)
    (folder / "README.md").write_text("# Mine")
    (folder / "notes.txt").write_text("private")
    for what in (folder, model):
        pp.push_to_hub(what, "me/folder")
        config = read_adapter_config(hub / "me/folder")
        assert config["base_model"]["checkpoint"] == "trunk.safetensors"
        if what is folder:
            assert (hub / "me/folder/README.md").read_text() == "# Mine"
    assert not (hub / "me/folder/notes.txt").exists()


def test_what_is_not_there_is_named(hub, tmp_path):
    with pytest.raises(CheckpointError, match="me/none"):
        pp.load_adapter(encoder(), "hf://me/none")
    (hub / "me/empty").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="hf://me/empty"):
        pp.load_adapter(encoder(), "hf://me/empty")
    with pytest.raises(CheckpointError, match="hf://me/empty"):
        pp.create_model("point_mae", checkpoint="hf://me/empty", **SIZES)
    with pytest.raises(CheckpointError, match=Path(tmp_path).name):
        pp.push_to_hub(tmp_path, "me/none")


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="huggingface_hub"):
        pp.load_adapter(encoder(), "hf://me/bits")


def test_what_is_no_model_of_ours_is_refused(hub):
    with pytest.raises(ConfigError, match="`what`"):
        pp.push_to_hub(torch.nn.Linear(2, 2), "me/other")
    assert not hub.exists()
