"""What pre-training sees of one cloud: views and saliency, masks, and what is rebuilt."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pointpeft.measure.pretraining_panels import Panel, panels_of
from pointpeft.models.i2p_mae import I2PMAEPretraining
from pointpeft.models.objective import Pretraining
from pointpeft.models.pretrainable import Pretrainable
from pointpeft.vision import Mesh, unscale_gray

__all__ = ["PretrainingView", "View", "see"]

_BESIDE = ("terms.", "key.", "queue", "cls_head.", "feature_head.")
"""Entries of networks without which points are rebuilt all the same."""


class View(NamedTuple):
    """An image of the cloud, and how salient its parts are.

    Attributes:
        image: brightness in [0, 1], ``(S, S)``.
        saliency: of the teacher, not negative, ``(h, w)``.
    """

    image: Tensor
    saliency: Tensor


@dataclass(frozen=True)
class PretrainingView:
    """What there is to see.

    Attributes:
        views: of the teacher; none without one.
        panels: the cloud, its masks from the finest scale on, the truth and what is rebuilt.
        notes: what is missing and why, and what a reader should know.
    """

    views: Sequence[View]
    panels: Sequence[Panel]
    notes: Sequence[str]


@torch.no_grad()
def see(
    model: Pretrainable,
    points: Tensor,
    trained: Collection[str],
    seed: int = 0,
    mesh: Mesh | None = None,
    stored: Tensor | None = None,
) -> PretrainingView:
    """Show a cloud to a pre-training network, in eval mode.

    Args:
        model: made by ``create_model(name, task="pretraining")``, on the CPU.
        points: ``(N, 3)``, as the network expects them.
        trained: entries of its state that are not at random. What would be rebuilt by others is
            left out, with a note.
        seed: of the mask; random numbers of the caller are left as they are.
        mesh: that the points are of; it is shown to teachers that see faces.
        stored: all points of the shape that data holds, ``(M, 3)``; a teacher that looks before
            training is shown these. None: ``points``.
    """
    model.eval()
    cloud, notes = points.unsqueeze(0), list[str]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        views, note = _views(model, cloud, cloud if stored is None else stored.unsqueeze(0), mesh)
        notes.append(note)
        problem = _untrained(model, trained)
        if problem:
            notes.append(f"Nothing is rebuilt: {problem}.")
        own, more = panels_of(model, cloud, not problem)
    start = Panel("The cloud", f"{len(points)} points", points)
    return PretrainingView(views, [start, *own], [*notes, *more])


def _untrained(model: Pretrainable, trained: Collection[str]) -> str:
    """Why what the network rebuilds would mean nothing; empty if it means something."""
    needed = [name for name in model.state_dict() if not name.startswith(_BESIDE)]
    if missing := [name for name in needed if name not in trained]:
        roots = ", ".join(dict.fromkeys(name.partition(".")[0] for name in missing))
        return (
            f"{len(missing)} of the {len(needed)} entries that it takes were never trained "
            f"({roots}). An encoder alone cannot rebuild points: pass the folder of a run with "
            "checkpoints/last.ckpt, or a file of the whole network"
        )
    if isinstance(model, Pretraining) and not model.pretraining_config.reconstruction:
        return "the network was trained with reconstruction=0, so its decoder has learnt nothing"
    return ""


def _views(
    model: Pretrainable, cloud: Tensor, stored: Tensor, mesh: Mesh | None
) -> tuple[list[View], str]:
    """What the image encoder of the paper's objective or of further terms is shown, and a note."""
    if isinstance(model, I2PMAEPretraining) and model.looks_at_batches:
        assert model.teacher is not None, "loaded where something needs it"
        teacher, views = model.teacher, model.views
        mesh = None  # it looks at every batch, whose clouds are augmented
    elif isinstance(model, Pretraining) and model.terms.teacher is not None:
        teacher, views = model.terms.teacher.encoder, model.terms.teacher.views
        cloud = stored
    elif isinstance(model, Pretraining) and model.terms.semantics is not None:
        teacher, views = model.terms.semantics.teacher, model.terms.semantics.views
        mesh = None  # likewise
    else:
        return [], "This pre-training has no teacher, so there are no views."
    images = views.show(cloud, teacher.image_size, [mesh])
    saliency = teacher(images).saliency
    drawn = "the faces of the mesh" if mesh and views.draws_faces else f"{cloud.shape[1]:,} points"
    note = f"The teacher is shown {drawn}."
    return list(map(View, unscale_gray(images), saliency.squeeze(1))), note
