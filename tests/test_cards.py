"""Model cards: under which terms weights, data and adapters are, and what they are called."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import pointpeft as pp
from pointpeft.data import load_shapes
from pointpeft.data.embedded import EMBEDDED_LICENSES, EMBEDDED_NAMES
from pointpeft.errors import ConfigError
from pointpeft.peft import read_adapter_config
from tests.peft.support import adapted, encoder
from tests.training.conftest import archive, finetune_config, weights  # noqa: F401 - fixtures
from tests.training.support import NUM_POINTS


def tags(folder: Path) -> dict:
    """What the hub reads of the card in a folder."""
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])


def rows(folder: Path) -> dict[str, str]:
    """The table of the card."""
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ", 1) for line in lines if line.startswith("| ")]
    return {cell[0]: cell[-1] for cell in cells}


def on_shipped_weights():
    backbone = pp.create_model("point_mae_small", pretrained=True)
    return pp.get_peft_model(pp.build_classifier(backbone, 3), pp.LinearConfig())


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (None, {"license": "unknown"}),
        ("MIT", {"license": "mit"}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("Our terms: ask | us", {"license": "other", "license_name": "our-terms-ask-us"}),
    ],
)
def test_what_is_stated_comes_back_and_is_on_the_card(stated, expected, tmp_path):
    model = adapted(pp.LinearConfig())
    model.license, model.data_license = stated, stated
    model.save_pretrained(tmp_path)
    assert {key: value for key, value in tags(tmp_path).items() if "license" in key} == expected
    loaded = pp.load_adapter(encoder(), tmp_path)
    assert (loaded.license, loaded.data_license) == (stated, stated)
    loaded.save_pretrained(tmp_path / "again")
    config = read_adapter_config(tmp_path / "again")
    assert (config["license"], config["data_license"]) == (stated, stated)


@pytest.mark.parametrize("name", ["license", "data_license"])
@pytest.mark.parametrize("value", ["", "two\nlines", 3])
def test_what_is_no_license_is_refused(name, value, tmp_path):
    model = adapted(pp.LinearConfig())
    setattr(model, name, value)
    with pytest.raises(ConfigError, match=f"`{name}`"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=f"`{name}`"):
        pp.FinetuneConfig(**{name: value})


def test_weights_that_come_along_have_their_license_and_no_others(tmp_path):
    on_shipped_weights().save_pretrained(tmp_path / "shipped")
    assert read_adapter_config(tmp_path / "shipped")["base_model"]["license"] == "Apache-2.0"
    pp.save_model(pp.create_model("point_mae_small"), tmp_path / "far/own.safetensors")
    backbone = pp.create_model("point_mae_small", checkpoint=tmp_path / "far/own.safetensors")
    model = pp.get_peft_model(pp.build_classifier(backbone, 3), pp.LinearConfig())
    model.save_pretrained(tmp_path / "own")
    config = read_adapter_config(tmp_path / "own")
    assert config["base_model"]["license"] is None
    shown = rows(tmp_path / "own")["base model"]
    assert "`own.safetensors`" in shown
    assert config["base_model"]["hash"][:16] in shown
    assert not any(word in shown for word in ("..", "far", "Apache"))


def test_a_run_records_both_and_knows_the_data_that_comes_along(
    finetune_config,  # noqa: F811
    archive,  # noqa: F811
    tmp_path,
):
    data = load_shapes(archive, pp.InputTransform(NUM_POINTS))
    cases = {
        "own": (data, (), None),
        "stated": (data, ("data_license=CC0-1.0",), "CC0-1.0"),
        "shipped": (replace(data, source="mechparts"), (), "Apache-2.0"),
    }
    for name, (given, settings, expected) in cases.items():
        config = finetune_config("method=knn", "license=MIT", *settings)
        pp.finetune(config, tmp_path / name, data=given, report=False)
        recorded = read_adapter_config(tmp_path / name / "adapter")
        assert (recorded["license"], recorded["data_license"]) == ("MIT", expected)


def test_every_data_set_that_comes_along_has_a_license():
    assert set(EMBEDDED_LICENSES) == set(EMBEDDED_NAMES)


def test_a_backbone_on_the_hub_has_the_license_of_its_weights(hub):
    shipped = pp.create_model("point_mae_small", pretrained=True)
    pp.push_to_hub(shipped, "me/shipped")
    assert tags(hub / "me/shipped")["license"] == "apache-2.0"
    with torch.no_grad():
        shipped.final_norm.weight += 1  # they are somebody's own now
    pp.push_to_hub(shipped, "me/own")
    assert tags(hub / "me/own")["license"] == "unknown"
    shipped.push_to_hub("me/stated", license="MIT")
    assert tags(hub / "me/stated")["license"] == "mit"


def test_an_adapter_has_a_license_of_its_own(hub, tmp_path):
    model = adapted(pp.LinearConfig())
    model.save_pretrained(tmp_path)
    for what in (model, tmp_path):
        with pytest.raises(ConfigError, match="`license`"):
            pp.push_to_hub(what, "me/adapter", license="MIT")
    assert not hub.exists()


def test_an_adapter_from_before_licenses_is_loaded(tmp_path):
    model = adapted(pp.LinearConfig())
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    config = json.loads(file.read_text())
    del config["license"], config["data_license"], config["base_model"]["license"]
    file.write_text(json.dumps(config))
    loaded = pp.load_adapter(encoder(), tmp_path)
    assert (loaded.license, loaded.data_license) == (None, None)
