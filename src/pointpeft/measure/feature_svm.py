"""Linear-SVM evaluation on a folder of features, whose shapes need not be read again."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointpeft.data.corpus import read_shards
from pointpeft.data.corpus.features import feature_values, features_folder
from pointpeft.data.splits import Item, assign_splits, check_classes, leave_out_copies
from pointpeft.errors import ConfigError, DataError
from pointpeft.measure.backbone_svm import svm_metrics
from pointpeft.measure.corpus import Features
from pointpeft.measure.feature_index import FeatureModel
from pointpeft.measure.records import check_output, write_measurement
from pointpeft.measure.svm import SvmResult, linear_svm
from pointpeft.training.config import DataConfig, SvmConfig

__all__ = ["evaluate_features", "features_of"]


def features_of(config: SvmConfig, data_given: bool) -> Features | None:
    """What makes the features that a measurement asks for; None: they are there.

    Args:
        config: of the measurement.
        data_given: whether its data is to be embedded, and not what was embedded before.

    Raises:
        ConfigError: a setting says what features that are there cannot follow any more, or asks for
            a model that `pointpeft embed` does not know.
    """
    default, data = SvmConfig(), config.data
    fixed = {
        "preset": config.preset, "backbone": config.backbone or None,
        "protocol": config.protocol != default.protocol, "data.variant": data.variant,
        "data.num_points": data.num_points, "data.normalize": data.normalize != "unit_ball",
    }  # fmt: skip
    if not data_given:
        fixed |= {"model": config.model != default.model, "checkpoint": config.checkpoint}
        fixed |= {"data.up_axis": data.up_axis != DataConfig.up_axis}
    for name, asked in fixed.items():
        if asked:
            raise ConfigError(
                f"`{name}` cannot be chosen with `features`, which are made as `pointpeft embed` "
                "makes them: leave it out"
            )
    if not data_given:
        return None
    return Features(config.model, config.checkpoint, up_axis=data.up_axis)


def evaluate_features(
    features: str | Path, config: SvmConfig, output: str | Path | None = None
) -> tuple[SvmResult, str]:
    """Fit a linear SVM on the features of training shapes and score it on those of test shapes.

    The shapes have classes by their folders or by the table of files that was embedded. Splits are
    cut, and copies left out, as :func:`pointpeft.load_shapes` does it.

    Args:
        features: folder of shards that `pointpeft embed` wrote.
        config: C, and how splits are cut.
        output: folder for ``config.yaml``, ``metrics.json`` and ``log.txt``; None writes nothing.

    Returns:
        The result, and a phrase that names the model.

    Raises:
        ConfigError: ``output`` is a file or holds results already.
        DataError: no such folder, no test split, or too little to train on.
    """
    if output is not None:
        check_output(output)
    folder = features_folder(features)
    model = str(FeatureModel.from_dict(folder.made_by["model"]))
    shapes = _read(features)
    names = folder.files.classes
    items, notes = assign_splits(
        shapes.items, shapes.digests, config.data.val_fraction, config.data.seed, ("test",)
    )
    items, of_copies = leave_out_copies(items, shapes.digests)
    notes += [*of_copies, *check_classes(items, names, need_train=True)]
    labels = np.array([names.index(str(item.class_name)) for item in items], dtype=np.int64)
    of = {split: np.array([item.split == split for item in items]) for split in ("train", "test")}
    if not of["test"].any():
        raise DataError(f"{features} has no test split, and its classes are too small to cut one")
    train, test = labels[of["train"]], labels[of["test"]]
    known = shapes.features
    result = linear_svm(known[of["train"]], train, known[of["test"]], test, config.C)
    if output is not None:
        named = replace(config, data=replace(config.data, source=str(features)))
        metrics = svm_metrics(named, model, names, (train, test), notes, shapes.problems, result)
        write_measurement(output, named, metrics)
    return result, model


@dataclass(frozen=True)
class _Shapes:
    """Usable shapes with a class, their features ``(S, C)`` as the model gave them, and others."""

    items: list[Item]
    digests: list[str]
    features: NDArray[np.float32]
    problems: list[str]


def _read(path: str | Path) -> _Shapes:
    items: list[Item] = []
    digests: list[str] = []
    features: list[NDArray] = []
    problems: list[str] = []
    columns = ["id", "class", "split", "digest", "feature", "length", "error"]
    folder = features_folder(path)
    for shard, table in enumerate(read_shards(folder, columns)):
        problems += table["error"].drop_null().to_pylist()
        usable = table.filter(table["error"].is_null())
        kept = usable.filter(usable["class"].is_valid())
        if not len(kept):
            continue
        columns_of: dict[str, list[Any]] = kept.drop_columns(["feature", "length"]).to_pydict()
        named = zip(*(columns_of[key] for key in ("id", "class", "split")), strict=True)
        items += [Item(id, name, split, Path(id)) for id, name, split in named]
        digests += columns_of["digest"]
        channels = features[0].shape[1] if features else None
        rows = feature_values(kept, folder.part(shard), channels)
        features.append(rows.astype(np.float32) * kept["length"].to_numpy()[:, None])
    if not items:
        raise DataError(
            f"{path} has no usable shape with a class: embed a folder <class>/<files>, or a table "
            "of files with a column `class`"
        )
    return _Shapes(items, digests, np.concatenate(features), problems)
