"""What a classifier does on a split: predictions, features, and a map of them in the plane."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from pointpeft.data import ShapeSplit
from pointpeft.errors import CheckpointError
from pointpeft.locations import resolve_adapter
from pointpeft.measure.scores import extract_features, score
from pointpeft.models.trunk import Trunk
from pointpeft.peft import PeftModel
from pointpeft.peft.adapter import Adapter
from pointpeft.training.config import VALIDATION_BATCH

__all__ = [
    "MEASURED_AT_A_TIME",
    "Outputs",
    "analyse",
    "analyse_change",
    "batch_of_run",
    "model_outputs",
    "project",
]

MEASURED_AT_A_TIME = 64
"""Clouds where no run says otherwise."""


def batch_of_run(adapter: str | Path) -> int:
    """As many clouds as the run of an adapter was measured with, so that the result is the same.

    Published Point-PEFT makes something else of a cloud in another batch. An adapter that lies in
    no folder of a run has :data:`MEASURED_AT_A_TIME`.
    """
    try:
        text = (resolve_adapter(adapter).parent / "config.yaml").read_text(encoding="utf-8")
        return VALIDATION_BATCH * int(yaml.safe_load(text)["trainer"]["batch_size"])
    except (CheckpointError, OSError, yaml.YAMLError, LookupError, TypeError, ValueError):
        return MEASURED_AT_A_TIME


_FEWEST_FOR_TSNE = 10  # items; with fewer there are no neighbourhoods to keep
_PERPLEXITY = 30.0  # neighbours whose order a map keeps, the usual value
_ITERATIONS = 750  # 250 of them exaggerated; more do not change what is near what
_DECIMALS = 3


def project(features: NDArray) -> tuple[NDArray[np.float64], str]:
    """A map of ``features (S, C)``, and how it was made: "t-SNE" or, of a few items, "PCA".

    t-SNE compares directions (cosine), starts from the first two principal components and runs on
    one thread: the same features give the same map.

    Returns:
        Places ``(S, 2)`` without a unit, rounded.
    """
    from sklearn.decomposition import PCA  # takes a second, as all of it, and only reports need it
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features = features.astype(np.float64)
    plane, method = np.zeros((len(features), 2)), "PCA"
    if len(features) > 1 and np.ptp(features, axis=0).any():
        components = min(2, *features.shape)
        plane[:, :components] = PCA(components, random_state=0).fit_transform(features)
    if len(features) >= _FEWEST_FOR_TSNE and plane.any():
        tsne = TSNE(
            perplexity=min(_PERPLEXITY, (len(features) - 1) / 3), metric="cosine",
            init=plane / plane[:, 0].std() * 1e-4, max_iter=_ITERATIONS, random_state=0,
        )  # fmt: skip
        with threadpool_limits(1):  # threads would add up forces in another order every time
            places = tsne.fit_transform(features)
        if np.isfinite(places).all():
            plane, method = places.astype(np.float64), "t-SNE"
    return plane.round(_DECIMALS), method


_MAPPED = 2000  # items on the map; more make it neither clearer nor faster
_SHOWN_MISTAKES = 40
_NEIGHBOURS = 3
_CLOUD_POINTS = 512


class Outputs(NamedTuple):
    """What an adapted classifier makes of ``S`` clouds.

    Attributes:
        features: ``(S, C)``, as they enter the head.
        logits: ``(S, classes)``.
    """

    features: NDArray
    logits: NDArray


def analyse_change(
    backbone: Trunk,
    model: PeftModel,
    train: ShapeSplit,
    test: ShapeSplit,
    part: str = "test",
    outputs: Outputs | None = None,
) -> dict[str, Any]:
    """:func:`analyse` of a model beside the encoder that it was adapted from."""
    features = model.tuner.features
    before = [_encode(backbone, _clouds(model, split), features) for split in (train, test)]
    return analyse(model, train, test, before[0], before[1], part, outputs=outputs)


def analyse(
    model: PeftModel,
    train: ShapeSplit,
    test: ShapeSplit,
    before_train: NDArray,
    before_test: NDArray,
    part: str = "test",
    outputs: Outputs | None = None,
) -> dict[str, Any]:
    """Confusion, feature maps before and after adaptation, and mistakes with their neighbours.

    Neighbours are the training shapes of largest cosine similarity before adaptation, those that
    a memory bank retrieves; a shape is not its own neighbour.

    Args:
        model: the adapted classifier.
        train: shapes that it was trained on, ``S`` of them; may be empty.
        test: shapes to measure, ``T`` of them; may be empty, or share shapes with ``train``.
        before_train: features ``(S, C)`` of ``train`` by the encoder before adaptation.
        before_test: the same of ``test``, ``(T, C)``.
        part: what ``test`` is, in a word.
        outputs: of ``model`` for ``test``, where they are known.

    Returns:
        Plain values, ready for JSON; the same for the same arguments.
    """
    names = model.class_names or tuple(str(i) for i in range(model.adapter.classifier.num_classes))
    features, logits = outputs or model_outputs(model, _clouds(model, test), before_test)
    predictions = logits.argmax(axis=1)
    measured = score(predictions, test.labels, len(names))
    return {
        "part": part,
        "items": len(test),
        "class_names": list(names),
        "confusion": measured.confusion.tolist(),
        "map": _map(model, train, test, before_train, before_test, features),
        "mistakes": _mistakes(train, test, before_train, before_test, logits),
    }


def _map(
    model: PeftModel,
    train: ShapeSplit,
    test: ShapeSplit,
    before_train: NDArray,
    before_test: NDArray,
    after_test: NDArray,
) -> dict[str, Any]:
    """The same items placed by their features before and after adaptation.

    "after" is None where the head alone was trained, which leaves the features as they were.
    """
    held_out = set(test.ids)
    beside = np.array([i for i, name in enumerate(train.ids) if name not in held_out], dtype=int)
    items = len(beside) + len(test)
    chosen = np.arange(items)
    if items > _MAPPED:
        chosen = np.sort(np.random.default_rng(0).permutation(items)[:_MAPPED])
    of_train, of_test = beside[chosen[chosen < len(beside)]], chosen[chosen >= len(beside)]
    of_test = of_test - len(beside)
    trained, tested = train.subset(of_train), test.subset(of_test)
    before, method = project(_stack(before_train[of_train], before_test[of_test]))
    after = None
    if model.count_parameters()["trainable_without_head"]:
        after_train, _ = model_outputs(model, _clouds(model, trained), before_train[of_train])
        after = project(_stack(after_train, after_test[of_test]))[0].tolist()
    return {
        "method": method,
        "items": items,
        "shown": len(chosen),
        "ids": [*trained.ids, *tested.ids],
        "labels": [*trained.labels.tolist(), *tested.labels.tolist()],
        "held_out": [False] * len(trained) + [True] * len(tested),
        "before": before.tolist(),
        "after": after,
    }


def _mistakes(
    train: ShapeSplit,
    test: ShapeSplit,
    before_train: NDArray,
    before_test: NDArray,
    logits: NDArray,
) -> dict[str, Any]:
    """The wrongly classified shapes that the model was surest of, each with its neighbours."""
    from sklearn.metrics.pairwise import cosine_similarity  # slow, and only reports need it

    predictions = logits.argmax(axis=1)
    sure = softmax(logits.astype(np.float64), axis=1).max(axis=1)
    wrong = np.flatnonzero(predictions != test.labels)
    shown = wrong[np.argsort(-sure[wrong], kind="stable")][:_SHOWN_MISTAKES]
    similarity = np.zeros((len(shown), 0))
    if len(shown) and len(train):
        queries, keys = (rows.astype(np.float64) for rows in (before_test[shown], before_train))
        similarity = cosine_similarity(queries, keys)
    clouds: dict[str, list[float]] = {}  # by place in train: mistakes share neighbours
    listed = []
    for i, similar in zip(shown.tolist(), similarity, strict=True):
        near = _nearest(similar, train.ids, test.ids[i])
        clouds |= {str(j): _flat(train.points[j]) for j in near}
        neighbours = [
            {
                "id": train.ids[j],
                "label": int(train.labels[j]),
                "similarity": round(float(similar[j]), 4),
                "cloud": str(j),
            }
            for j in near
        ]
        listed.append(
            {
                "id": test.ids[i],
                "label": int(test.labels[i]),
                "predicted": int(predictions[i]),
                "probability": round(float(sure[i]), 4),
                "cloud": _flat(test.points[i]),
                "neighbours": neighbours,
            }
        )
    return {"total": len(wrong), "listed": listed, "clouds": clouds}


def _nearest(similarity: NDArray, ids: tuple[str, ...], itself: str) -> list[int]:
    """Places of the most similar items, first the nearest; equal ones in their order."""
    order = np.argsort(-similarity, kind="stable")[: _NEIGHBOURS + 1].tolist()
    return [j for j in order if ids[j] != itself][:_NEIGHBOURS]


@torch.no_grad()
def model_outputs(
    model: PeftModel | Adapter,
    points: Tensor,
    before: NDArray | None = None,
    batch_size: int = MEASURED_AT_A_TIME,
) -> Outputs:
    """Features and logits of clouds ``(S, N, 3)``, in eval mode.

    ``before (S, C)``, features by the un-adapted encoder, spares the model encoding the clouds
    once more to look up its bank.
    """
    adapter = model.adapter if isinstance(model, PeftModel) else model
    if not len(points):
        return Outputs(np.zeros((0, 0)), np.zeros((0, adapter.classifier.num_classes)))
    device = next(model.parameters()).device
    batches = points.split(batch_size)
    queries: Sequence[Tensor | None] = [None] * len(batches)
    if before is not None:
        queries = torch.from_numpy(before).to(device).split(batch_size)
    features: list[Tensor] = []
    entered = adapter.tuner.entered(adapter.classifier)
    hook = entered.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    try:
        model.eval()
        logits = [
            model(batch.to(device), query) for batch, query in zip(batches, queries, strict=True)
        ]
    finally:
        hook.remove()
    return Outputs(*(torch.cat(each).float().cpu().numpy() for each in (features, logits)))


def _encode(
    backbone: Trunk, points: Tensor, features: Callable[[Trunk, Tensor], Tensor]
) -> NDArray:
    return extract_features(backbone, points, features) if len(points) else np.zeros((0, 0))


def _clouds(model: PeftModel, split: ShapeSplit) -> Tensor:
    """As many points of each cloud as the model was trained on."""
    number = model.input["transform"]["num_points"] if model.input else None
    return torch.from_numpy(split.points)[:, :number]


def _stack(first: NDArray, second: NDArray) -> NDArray:
    """Rows of both; one without rows need not have the channels of the other."""
    return np.concatenate([rows for rows in (first, second) if len(rows)] or [first])


def _flat(points: NDArray) -> list[float]:
    """An even subsample ``(x, y, z, x, ...)``: clouds are in farthest point order."""
    return points[:_CLOUD_POINTS].astype(np.float64).round(_DECIMALS).ravel().tolist()
