"""Masks of one cloud and what pre-training rebuilds of it, as points in space."""

from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pointpeft.models.dvae import DiscreteVAE
from pointpeft.models.i2p_mae import I2PMAEPretraining
from pointpeft.models.masking import patch_mask
from pointpeft.models.pcp_mae_pretraining import PCPMAEPretraining
from pointpeft.models.point_bert_pretraining import PointBERTPretraining
from pointpeft.models.point_m2ae_pretraining import MaskedClouds, PointM2AEPretraining
from pointpeft.models.point_mae_pretraining import PointMAEPretraining, mask_patches
from pointpeft.models.pretrainable import Pretrainable
from pointpeft.models.tokenizer import Patches
from pointpeft.ops import knn
from pointpeft.ops.chamfer import Norm, rebuilding_error

__all__ = ["KINDS", "Guidance", "Panel", "mask_guidance", "panels_of"]

KINDS = ("visible", "hidden", "rebuilt", "in no patch")
"""What a point of a panel may be. One of several patches is hidden if all of them are."""
_VISIBLE, _HIDDEN, _REBUILT, _IN_NONE = range(len(KINDS))

_SAME = 1e-5
"""Points nearer to each other than this part of the largest coordinate are the same, rounded."""


class Panel(NamedTuple):
    """Points in space.

    Attributes:
        title: what they are.
        line: a number or two about them.
        points: ``(N, 3)``, y up.
        kinds: int64 ``(N,)``, places in :data:`KINDS`; None: of no kind.
    """

    title: str
    line: str
    points: Tensor
    kinds: Tensor | None = None


class Guidance(NamedTuple):
    """How strongly saliency guides a mask, means over clouds.

    Attributes:
        ratio: the largest probability of a group to be drawn first as visible, over the smallest.
        effective: exponential of the entropy of these probabilities; with G groups, G means that
            they are equal.
    """

    ratio: float
    effective: float


def mask_guidance(saliency: Tensor) -> Guidance:
    """The guidance of :func:`pointpeft.models.masking.salience_mask` for ``saliency (B, G)``."""
    log = saliency.double().log_softmax(dim=1)
    ratio = (log.amax(dim=1) - log.amin(dim=1)).exp().mean()
    return Guidance(float(ratio), float((-(log.exp() * log).sum(dim=1)).exp().mean()))


_Shown = tuple[list[Panel], list[str]]
"""Panels and notes."""


@singledispatch
def panels_of(model: Pretrainable, cloud: Tensor, rebuilds: bool) -> _Shown:
    """Masks, truth and what is rebuilt of ``cloud (1, N, 3)``; each kind of network has its own."""
    return [], [f"{type(model).__name__} has no masks that are known here."]


@panels_of.register
def _(model: PointMAEPretraining, cloud: Tensor, rebuilds: bool) -> _Shown:
    patches, mask = _masked_patches(model, cloud)
    panels = [_masked("Patches", cloud, patches, mask)]
    if rebuilds:
        rebuilt = model.rebuild(model.encode_visible(cloud, mask))
        panels += _compared(cloud, patches, mask, rebuilt, model.pretraining_config.loss)
    return panels, []


@panels_of.register
def _(model: PCPMAEPretraining, cloud: Tensor, rebuilds: bool) -> _Shown:
    c, notes = model.pretraining_config, []
    patches, mask = _masked_patches(model, cloud)
    panels = [_masked("Patches", cloud, patches, mask)]
    if rebuilds:
        encoded = model.encode(cloud, mask_patches(model.backbone, cloud, mask, c))
        rebuilt = model.rebuild(encoded, model.predict_codes(encoded))
        panels += _compared(cloud, patches, mask, rebuilt, c.loss)
        notes.append(
            "The decoder is given predicted codes of the centers. Rebuilt patches are drawn "
            "around the true centers, since a code is no place."
        )
    return panels, notes


@panels_of.register
def _(model: PointM2AEPretraining, cloud: Tensor, rebuilds: bool) -> _Shown:
    return _of_scales(model, cloud, model.encode_visible(cloud), rebuilds), []


@panels_of.register
def _(model: I2PMAEPretraining, cloud: Tensor, rebuilds: bool) -> _Shown:
    levels, c = model.backbone.group(cloud), model.pretraining_config
    centers = levels[-1].centers
    if not c.guided_mask:
        mask = patch_mask(centers, c.mask_ratio, "random")
        note = "The mask is drawn at random (guided_mask=false)."
    else:
        seen = model.look(cloud)
        mask = model.draw_mask(seen, centers)
        found, G = mask_guidance(model.saliency(seen, centers)), centers.shape[1]
        note = (
            "The mask is guided: the most salient of the coarsest groups is "
            f"{found.ratio:.3g} times as likely to be drawn as visible as the least salient one, "
            f"and the probabilities are spread as evenly as over {found.effective:.1f} of {G} "
            "groups."
        )
    return _of_scales(model, cloud, model.encode_groups(cloud, levels, mask), rebuilds), [note]


@panels_of.register
def _(model: PointBERTPretraining, cloud: Tensor, rebuilds: bool) -> _Shown:
    patches = model.backbone.tokenizer.group(cloud)
    mask = model.draw_mask(patches.centers)
    panels = [_masked("Patches", cloud, patches, mask)]
    if not rebuilds:
        return panels, []
    labels = model.dvae.tokens(patches)
    panels += _rebuilt_by_tokens(model.dvae, patches, labels, "By the tokens of all patches")
    if not model.pretraining_config.token_loss:
        return panels, ["Tokens are not guessed (token_loss=false)."]
    sequence, _ = model.encode(patches, mask)
    guessed = model.lm_head(sequence[:, 1:]).argmax(dim=-1)
    right = int((guessed == labels)[mask].sum())
    _, fine = model.dvae.decode(_one_hot(model.dvae, guessed.where(mask, labels)), patches.centers)
    places = fine + patches.centers.unsqueeze(2)
    kinds = torch.where(mask, _REBUILT, _VISIBLE)
    title = "By the tokens guessed for hidden patches"
    line = f"{right} of {int(mask.sum())} guesses are right"
    panels.append(_of_patches(title, line, places[0], kinds[0]))
    return panels, []


@panels_of.register
def _(model: DiscreteVAE, cloud: Tensor, rebuilds: bool) -> _Shown:
    patches = model.group(cloud)
    panels = [_masked("Patches", cloud, patches, torch.zeros_like(patches.centers[..., 0]).bool())]
    if rebuilds:
        labels = model.tokens(patches)
        panels += _rebuilt_by_tokens(model, patches, labels, "By the tokens of all patches")
    return panels, ["A tokenizer hides nothing."]


def _masked_patches(
    model: PointMAEPretraining | PCPMAEPretraining, cloud: Tensor
) -> tuple[Patches, Tensor]:
    """Patches of a cloud, and which of them are hidden, ``(1, G)``."""
    c = model.pretraining_config
    patches = model.backbone.tokenizer.group(cloud)
    return patches, patch_mask(patches.centers, c.mask_ratio, c.mask_type)


def _of_scales(
    model: PointM2AEPretraining, cloud: Tensor, masked: MaskedClouds, rebuilds: bool
) -> list[Panel]:
    """Masks of all scales, and what is rebuilt at the one that the decoder ends with."""
    parents = [cloud, *(level.centers for level in masked.levels[:-1])]
    panels = [
        _masked(f"Groups of scale {place + 1}", *one)
        for place, one in enumerate(
            (points, Patches(level.neighborhoods, level.centers), scale.hidden)
            for points, level, scale in zip(parents, masked.levels, masked.scales, strict=True)
        )
    ]
    place = len(masked.levels) - len(model.pretraining_config.decoder_depths)
    level, hidden = masked.levels[place], masked.scales[place].hidden
    if rebuilds and hidden.any():
        rebuilt, _ = model.rebuild(masked)
        patches = Patches(level.neighborhoods, level.centers)
        panels += _compared(parents[place], patches, hidden, rebuilt, "l2")
    return panels


def _masked(title: str, parents: Tensor, patches: Patches, hidden: Tensor) -> Panel:
    """Points ``parents (1, N, 3)`` by what ``hidden (1, G)`` does to the patches they are in."""
    line = f"{int(hidden.sum())} of {hidden.shape[1]} are hidden"
    return Panel(title, line, parents[0], _kinds(parents, patches, hidden))


def _kinds(parents: Tensor, patches: Patches, hidden: Tensor) -> Tensor:
    """Of every parent, ``(N,)``; of equal points all are of the same kind."""
    members = patches.neighborhoods + patches.centers.unsqueeze(2)
    kinds = torch.full((parents.shape[1],), _IN_NONE)
    reach = (_SAME * parents.abs().max()).square()
    for kind, mask in ((_HIDDEN, hidden), (_VISIBLE, ~hidden)):
        if mask.any():
            squared, _ = knn(parents, members[mask].view(1, -1, 3), 1)
            kinds[squared[0, :, 0] <= reach] = kind
    return kinds


def _compared(
    parents: Tensor, patches: Patches, hidden: Tensor, rebuilt: Tensor, norm: Norm
) -> list[Panel]:
    """The true points of hidden patches and ``rebuilt (M, S, 3)`` ones, beside the visible ones.

    Both are drawn around the true centers.
    """
    kinds = _kinds(parents, patches, hidden)
    seen = parents[0][kinds == _VISIBLE]
    centers = patches.centers[hidden].unsqueeze(1)
    target = patches.neighborhoods[hidden]
    error = float(rebuilding_error(rebuilt, target, norm=norm))
    panels = []
    for title, line, points, kind in (
        ("The truth", "hidden patches whole", target, _HIDDEN),
        ("Rebuilt", f"Chamfer distance ({norm}) {error:.3g}", rebuilt, _REBUILT),
    ):
        own = (points + centers).flatten(0, 1)
        of = torch.tensor([_VISIBLE] * len(seen) + [kind] * len(own))
        panels.append(Panel(title, line, torch.cat([seen, own]), of))
    return panels


def _rebuilt_by_tokens(
    dvae: DiscreteVAE, patches: Patches, labels: Tensor, title: str
) -> list[Panel]:
    """The patches, and what a tokenizer makes of their tokens ``labels (1, G)``."""
    _, fine = dvae.decode(_one_hot(dvae, labels), patches.centers)
    target = patches.neighborhoods
    error = float(rebuilding_error(fine[0], target[0], norm="l1"))
    used = f"{len(labels.unique())} different tokens, Chamfer distance (l1) {error:.3g}"
    centers = patches.centers.unsqueeze(2)
    kinds = torch.full_like(labels[0], _VISIBLE)
    return [
        _of_patches("The truth", "all patches", (target + centers)[0], kinds),
        _of_patches(title, used, (fine + centers)[0], torch.full_like(kinds, _REBUILT)),
    ]


def _one_hot(dvae: DiscreteVAE, labels: Tensor) -> Tensor:
    return F.one_hot(labels, len(dvae.codebook)).to(dvae.codebook.dtype)


def _of_patches(title: str, line: str, places: Tensor, kinds: Tensor) -> Panel:
    """Points ``(G, S, 3)`` of patches, each of its kind ``(G,)``."""
    return Panel(title, line, places.flatten(0, 1), kinds.repeat_interleave(places.shape[1]))
