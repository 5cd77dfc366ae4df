"""Every config of a published experiment loads, builds its network, and says what it is of."""

import copy
import dataclasses
import functools
import operator
from pathlib import Path

import pytest
import yaml

import pointpeft as pp
from pointpeft.data.benchmarks import get_dataset
from pointpeft.data.transforms import recipe
from pointpeft.errors import ConfigError
from pointpeft.models import get_entry
from pointpeft.tasks.classification import Classification
from pointpeft.tasks.part_segmentation import PartSegmentation
from pointpeft.training import FinetuneConfig, PretrainConfig, load_config
from pointpeft.training.config import SvmConfig
from tests.published_experiments import EXPERIMENTS, Experiment, Recipe, Sizes

FOLDER = Path(__file__).parents[1] / "cfgs"
FILES = sorted(FOLDER.rglob("*.yaml"))
KINDS = {"pre-training": PretrainConfig, "linear-svm": SvmConfig}
PUBLISHED = [file for file in FILES if not file.stem.endswith("_small")]
SHARED = [file for file in FILES if file.parent.name == "dataset" or file.stem.startswith("_")]
RUNS = [file for file in FILES if file not in SHARED]
GOALS = {goal.name: goal for goal in (Classification, PartSegmentation)}


def read(file):
    return load_config(KINDS.get(file.parent.name, FinetuneConfig), [file])


load = functools.cache(read)  # of files that stay as they are


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


def _load_or_refuse(file):
    """Settings; None where an entry that is there needs one that is not."""
    try:
        return read(file)
    except ConfigError:
        return None


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
        assert _load_or_refuse(alone) != settings, path


def leaves(content, above=()):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, key))
        elif key != "defaults":
            yield (*above, key)


def network(file):
    """Arguments of ``create_model`` for a config, but with few blocks."""
    config, kind = load(file), file.parent.name
    shallow = {"depth": 3, "depths": (1, 1, 1)}
    known = {key for key in shallow if hasattr(get_entry(config.model).config, key)}
    sizes = config.backbone | {key: shallow[key] for key in known}
    if kind == "pre-training":
        sizes |= config.pretraining | ({"teacher": "random"} if config.model == "i2p_mae" else {})
    counts = {
        "pre-training": {"task": "pretraining"},
        "linear-svm": {},
        "part-segmentation": {"num_parts": 50},
    }.get(kind, {"num_classes": 15})
    return {"name": config.model, "preset": config.preset, **counts, **sizes}


BUILT = {}
"""Parameters of a network by its arguments; many experiments have the same one."""


@pytest.mark.parametrize("file", RUNS, ids=name)
def test_its_network_builds(file):
    given = network(file)
    if repr(given) not in BUILT:
        BUILT[repr(given)] = sum(p.numel() for p in pp.create_model(**given).parameters())
    assert BUILT[repr(given)] > 5e5


def test_every_published_experiment_has_a_file():
    found = {str(file.relative_to(FOLDER).with_suffix("")) for file in RUNS}
    own = {f"pre-training/{name}_small" for name in ("point_mae", "point_m2ae")}
    assert found == {*EXPERIMENTS} | own


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_it_has_the_published_numbers(experiment):
    config = load(FOLDER / f"{experiment}.yaml")
    is_svm = isinstance(config, SvmConfig)
    assert EXPERIMENTS[experiment] == Experiment(
        None if is_svm else trained(config),
        seen(config),
        None if is_svm else config.data.augmentation or usual(config),
        getattr(config, "label_smoothing", 0.0),
        config.C if is_svm else strength_of_check(config),
    )


def usual(config):
    """The augmentation of a task, or of pre-training, where none is stated."""
    return "scale-shift" if isinstance(config, PretrainConfig) else GOALS[config.task].augmentation


def trained(config):
    """How a network is trained under the published protocol."""
    optimizer, trainer = config.optimizer, config.trainer
    return Recipe(
        optimizer.lr,
        optimizer.weight_decay,
        trainer.epochs,
        optimizer.cosine_epochs or trainer.epochs,
        optimizer.warmup_epochs,
        trainer.batch_size,
        optimizer.grad_clip,
        optimizer.head_lr_factor,
    )


def strength_of_check(config):
    """C of the linear SVM that pre-training is followed by, where it is."""
    svm = getattr(config, "svm", None)
    return svm.C if svm and svm.source else None


def seen(config):
    """What a network sees of a cloud, as :func:`create_model` would build it."""
    entry = get_entry(config.model)
    preset = entry.presets[config.preset] if config.preset else None
    stated = (preset.overrides if preset else {}) | config.backbone
    sizes = dataclasses.asdict(entry.config) | stated
    radii = sizes.get("local_radius")
    return Sizes(
        config.data.num_points or (preset or entry).num_points,
        sizes["num_groups"],
        sizes.get("group_size") or sizes["group_sizes"],
        radii and tuple(radii),
    )
