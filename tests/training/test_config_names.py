"""Configs are found by file and by name, in any folder."""

from pathlib import Path

import pytest

from pointpeft.errors import ConfigError
from pointpeft.training import FinetuneConfig, load_config
from pointpeft.training.config_files import ALIASES, CONFIGS, find_config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["fine-tuning/scan_pb", "cfgs/fine-tuning/scan_pb.yaml", "./cfgs/fine-tuning/scan_pb.yaml"],
)
def test_configs_of_the_package_are_found_from_any_folder(name):
    assert find_config(name) == CONFIGS / "fine-tuning/scan_pb.yaml"
    assert load_config(FinetuneConfig, [name]).data.variant == "scanobjectnn_pb_t50_rs"


def test_a_file_comes_first(elsewhere):
    (elsewhere / "fine-tuning").mkdir()
    (elsewhere / "fine-tuning/scan_pb").write_text("seed: 7\n")
    assert load_config(FinetuneConfig, ["fine-tuning/scan_pb"]).seed == 7


@pytest.mark.parametrize("name", ALIASES)
def test_published_names_are_those_of_configs_of_ours(name):
    assert find_config(f"cfgs/{name}.yaml") == CONFIGS / f"{ALIASES[name]}.yaml"
    assert find_config(name).is_file()


def test_a_name_of_two_repositories_is_the_tuned_one_on_request():
    plain, tuned = (find_config("cfgs/finetune_scan_hardest.yaml", tuned=t) for t in (False, True))
    assert plain == CONFIGS / "fine-tuning/point-mae_scan_pb.yaml"
    assert tuned == CONFIGS / "peft/point-mae_scan_pb_aug.yaml"


@pytest.mark.parametrize(
    "name", ["fine-tuning/scan_bp", "/not/there/pretrain.yaml", "../cfgs/pretrain", "", "cfgs"]
)
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match="config file"):
        find_config(name)


def test_the_nearest_name_is_proposed():
    with pytest.raises(ConfigError, match="'fine-tuning/scan_pb'"):
        find_config("fine-tuning/scan_bp")


def test_configs_that_end_so_are_proposed():
    with pytest.raises(ConfigError, match="fine-tuning/point-mae_scan_pb"):
        find_config("point-mae_scan_pb")


def test_it_says_which_config_a_published_name_means(caplog):
    with caplog.at_level("INFO", "pointpeft"):
        find_config("finetune_scan_hardest")
    assert "fine-tuning/point-mae_scan_pb" in caplog.text


def test_the_folder_beside_the_sources_is_that_of_the_package():
    assert (Path(__file__).parents[2] / "cfgs").resolve() == CONFIGS.resolve()
