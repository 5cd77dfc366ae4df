"""Every config of a published experiment loads, builds its network, and says what it is of."""

import copy
import functools
import operator
from pathlib import Path

import pytest
import yaml

import pointpeft as pp
from pointpeft.data.published import get_dataset
from pointpeft.data.transforms import recipe
from pointpeft.tasks import FinetuneConfig, PretrainConfig, load_config
from pointpeft.tasks.config import SvmConfig

FOLDER = Path(__file__).parents[1] / "cfgs"
FILES = sorted(FOLDER.rglob("*.yaml"))
KINDS = {"pre-training": PretrainConfig, "linear-svm": SvmConfig}
PUBLISHED = [file for file in FILES if file.stem != "point_mae_small"]
EXPERIMENTS = [file for file in FILES if file.parent.name != "dataset"]
BACKBONES = ("point-bert", "point-mae", "point-m2ae")
SCANS = ("scan_pb", "scan_obj", "scan_obj-bg")


def load(file):
    return load_config(KINDS.get(file.parent.name, FinetuneConfig), [file])


def name(file):
    return str(file.relative_to(FOLDER))


@pytest.mark.parametrize("file", FILES, ids=name)
def test_it_loads_and_begins_with_what_it_is(file):
    assert file.read_text().startswith("# ")
    config = load(file)
    recipe(config.data.augmentation, 64)
    if config.data.variant is not None:
        dataset = get_dataset(config.data.variant)
        assert config.data.train_split in {*dataset.counts, *dataset.unions}


@pytest.mark.parametrize("file", PUBLISHED, ids=name)
def test_it_states_only_what_differs(file, tmp_path):
    """Whatever is taken out, the settings change."""
    content, settings = yaml.safe_load(file.read_text()), load(file)
    content["defaults"] = [str(file.parent / below) for below in content.get("defaults", [])]
    for path in leaves(content):
        shorter = copy.deepcopy(content)
        *above, last = path
        functools.reduce(operator.getitem, above, shorter).pop(last)
        alone = tmp_path / file.parent.name / "shorter.yaml"
        alone.parent.mkdir(exist_ok=True)
        alone.write_text(yaml.safe_dump(shorter))
        assert load(alone) != settings, path


def leaves(content, above=()):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, key))
        elif key != "defaults":
            yield (*above, key)


def network(file):
    """Arguments of ``create_model`` for a config."""
    config, kind = load(file), file.parent.name
    sizes = dict(config.backbone)
    if kind == "pre-training":
        sizes |= config.pretraining | ({"teacher": "random"} if config.model == "i2p_mae" else {})
    counts = {
        "pre-training": {"task": "pretraining"},
        "linear-svm": {},
        "part-segmentation": {"num_parts": 50},
    }.get(kind, {"num_classes": 15})
    return {"name": config.model, "preset": config.preset, **counts, **sizes}


# Many experiments have the same network.
NETWORKS = {repr(network(file)): (name(file), network(file)) for file in EXPERIMENTS}


@pytest.mark.parametrize(
    "arguments", [pytest.param(given, id=file) for file, given in NETWORKS.values()]
)
def test_its_network_builds(arguments):
    model = pp.create_model(**arguments)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e6


def test_every_published_experiment_has_a_file():
    expected = {"linear-svm/modelnet40", "linear-svm/scan_obj-bg"}
    expected |= {f"linear-svm/point-m2ae_{data}" for data in ("modelnet40", "scan_obj-bg")}
    trained = (*BACKBONES, "point-bert-dvae", "i2p-mae")
    expected |= {f"pre-training/{backbone}" for backbone in trained}
    expected |= {f"fine-tuning/{data}" for data in ("modelnet40", *SCANS)}
    for backbone in BACKBONES:
        expected |= {f"few-shot/{backbone}", f"part-segmentation/{backbone}"}
        for data in ("modelnet40", *SCANS, *(f"{scan}_aug" for scan in SCANS)):
            expected.add(f"fine-tuning/{backbone}_{data}")
    for backbone in (*BACKBONES, "i2p-mae"):
        for data in ("modelnet40", "scan_pb", "scan_pb_aug"):
            expected.add(f"peft/{backbone}_{data}")
    expected |= {f"fine-tuning/{backbone}_modelnet40_8k" for backbone in BACKBONES[:2]}
    found = {str(file.relative_to(FOLDER).with_suffix("")) for file in EXPERIMENTS}
    assert found == expected | {"pre-training/point_mae_small"}
