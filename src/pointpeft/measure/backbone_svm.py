"""Linear-SVM evaluation of a backbone on a data set."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from numpy.typing import NDArray

from pointpeft.compat.protocol import find_protocol
from pointpeft.devices import choose_device
from pointpeft.errors import DataError
from pointpeft.measure.records import (
    check_output,
    peak_memory_bytes,
    versions,
    write_measurement,
)
from pointpeft.measure.scores import accuracy_intervals, class_counts, extract_features, score
from pointpeft.measure.svm import SvmResult, linear_svm
from pointpeft.models.safetensors_files import state_hash
from pointpeft.process_state import undisturbed
from pointpeft.training.config import SvmConfig
from pointpeft.training.inputs import load_data, make_backbone, note_shapes_seen_before
from pointpeft.training.run_folder import ENCODER_HASH
from pointpeft.training.run_log import announce_data

__all__ = ["evaluate_backbone", "svm_metrics"]

log = logging.getLogger("pointpeft")


@undisturbed()
def evaluate_backbone(
    config: SvmConfig,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    output: str | Path | None = None,
) -> tuple[SvmResult, str]:
    """Fit a linear SVM on the train split's features and score it on the test split.

    A stated validation split is not used: C comes from cross-validation on train, or is given. The
    papers' protocol takes the first points of every stored cloud.

    Args:
        config: model, weights, data, C.
        device: where to encode: "auto", "cpu" or "cuda".
        progress: called with (done, total) while shapes are read.
        output: folder for ``config.yaml``, ``metrics.json`` and ``log.txt``; None writes nothing.

    Returns:
        The result, and a phrase that names the weights.

    Raises:
        ConfigError: no such device, or ``output`` is a file or holds results already.
        DataError: there is no test split, or too little to train on.
    """
    if output is not None:
        check_output(output)
    L.seed_everything(config.seed, verbose=False)
    protocol = find_protocol(config.protocol)
    backbone, source = make_backbone(config)
    device = choose_device(device)
    backbone = backbone.to(device)
    data = load_data(
        config.data, backbone.spec.num_points, progress, needed=("test",),
        protocol=protocol, farthest=False,
    )  # fmt: skip
    if not len(data.test):
        raise DataError(
            f"{config.data.source} has no test split, and its classes are too small to cut one"
        )
    data = note_shapes_seen_before(data, source)
    announce_data(config.data.source, data, ("train", "test"))
    log.info("linear SVM on features of %s, computed on %s", config.model, device)
    train, test = (
        extract_features(
            backbone,
            torch.from_numpy(part.points)[:, : data.transform.num_points],
            features=protocol.features,
        )
        for part in (data.train, data.test)
    )
    result = linear_svm(train, data.train.labels, test, data.test.labels, config.C)
    if output is not None:
        skipped = [f"{one.item}: {one.reason}" for one in data.problems]
        labels = data.train.labels, data.test.labels
        about = (data.class_names, labels, data.notes, skipped, result)
        metrics = svm_metrics(config, source or "random", *about)
        write_measurement(output, config, metrics | {ENCODER_HASH: state_hash(backbone)})
    if source is None:
        return result, f"random weights (seed {config.seed})"
    return result, f"weights {config.checkpoint or source}"


def svm_metrics(
    config: SvmConfig,
    weights: str,
    class_names: Sequence[str],
    labels: tuple[NDArray, NDArray],
    notes: Sequence[str],
    skipped: Sequence[str],
    result: SvmResult,
) -> dict[str, Any]:
    """What ``metrics.json`` says of a machine.

    Args:
        config: of the measurement.
        weights: phrase that names the weights of the backbone.
        class_names: in label order.
        labels: ``(S,)`` of the training and ``(T,)`` of the test items.
        notes: what the user should know.
        skipped: items that could not be used, and why.
        result: the machine and its scores.
    """
    train, test = labels
    found = score(result.predictions, test, len(class_names))
    metrics = {
        "model": config.model,
        "preset": config.preset,
        "weights": weights,
        "data": config.data.source,
        "protocol": config.protocol,
        "seed": config.seed,
        "C": result.C,
        "C_from": result.C_from,
        "test_accuracy": result.accuracy,
        "test_mean_class_accuracy": found.mean_class_accuracy,
        "train_items": len(train),
        "test_items": len(test),
        **class_counts(class_names, test),
        "confusion": found.confusion.tolist(),
        "peak_memory_bytes": peak_memory_bytes(),
        "notes": list(notes),
        "skipped": list(skipped),
        "versions": versions(),
    }
    return metrics | accuracy_intervals(metrics)
