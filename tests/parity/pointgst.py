"""Parity of PointGST on Point-MAE.

Eigenvectors have no sign of their own, and those of the published graph hang on how a library
rounds: the network is compared with those of the case, and graphs by their Laplacians.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_CLASSIFICATION
from pointpeft.models.checkpoint import Layout
from pointpeft.peft.pointgst import Bases, PointGSTTuner, graph_basis, laplacian, morton_order
from tests.parity.support import Case, Fields, Taps, assert_array, load_weights
from tests.parity.tuned import MODEL, Passage, adapted, check_tuned

_LAYERS = {
    "norm_ly1": "norm_whole",
    "norm_ly2": "norm_local",
    "down": "down",
    "up": "up",
    "adapt1": "mix",
}
POINTGST = Layout(
    "PointGST on Point-MAE",
    ("blocks.blocks.0.gft_adapter.",),
    (
        *(
            (f"blocks.blocks.*.gft_adapter.{theirs}.", f"tuner.adapters.*.{ours}.")
            for theirs, ours in _LAYERS.items()
        ),
        *MODEL,
    ),
    convolutions=POINT_MAE_CLASSIFICATION.convolutions,
)
BASES = {"U", "sub_U", "U_exact", "sub_U_exact"}  # inputs
ROUNDED = {"laplacian", "sub_laplacian"}  # of distances that are mostly rounding residues
GRAPHS = {"laplacian_exact", "sub_laplacian_exact", "eigenvalues_exact"}
LOGITS = {"logits_exact", "logits_alone", "logits_exact_alone"}
LAPLACIAN_TOLERANCE = 1e-6
PARALLEL = 0.999  # cosine of eigenvectors that are the same


def check_pointgst(case: Case) -> None:
    config = case.data["config"]
    config.without_effect("tsne")
    settings = pp.PointGSTConfig(rank=config["rank"], local=config["local"], reference_compat=True)
    model = adapted(case, settings)
    load_weights(model.adapter, case, POINTGST)
    case.stored("bases")
    points = case.cloud()
    centers = model.model.backbone.tokenizer.group(points).centers
    order = morton_order(centers)
    _check_order(case, centers, order)
    clouds = _check_graphs(case, centers)
    _check_own_bases(case, model, centers)

    passage = Passage(model)
    taps = Taps(
        model.adapter,
        patch_tokens="model.backbone.tokenizer.embed",
        adapter0="tuner.adapters.0",
        norm="model.backbone.norm",
    )

    def outputs() -> dict[str, Tensor]:
        return {**taps.seen, "idx": order, **passage.outputs(lambda stream: stream.tokens)}

    known = BASES | ROUNDED | GRAPHS | LOGITS
    known |= {"idx"} if case.data["order"]["key_ties"] else set()
    inject(model, case)
    check_tuned(case, model, POINTGST, outputs, passage, known)
    _check_logits(case, model, points, clouds)


def inject(
    model: Any, case: Case, kind: str = "", cloud: int | None = None, transposed: bool = False
) -> None:
    """Let the model use bases of the case, ``kind`` "" or "_exact", of all clouds or of one."""
    names = (f"U{kind}", "idx", f"sub_U{kind}")
    whole, order, local = (torch.from_numpy(case.arrays[name]) for name in names)
    if transposed:
        whole, local = whole.mT, local.mT
    of = slice(None) if cloud is None else slice(cloud, cloud + 1)
    model.tuner.bases = lambda _: Bases(whole[of], order[of].long(), local[of])


def _check_order(case: Case, centers: Tensor, order: Tensor) -> None:
    """The order along the curve, up to centers of one key."""
    stated = torch.from_numpy(case.arrays["idx"]).long()
    cells = (100 * centers).trunc()
    ours, theirs = (cells.gather(1, o.unsqueeze(-1).expand(-1, -1, 3)) for o in (order, stated))
    assert torch.equal(ours, theirs)
    distinct = [len(cloud.unique(dim=0)) for cloud in cells]
    assert distinct == case.data["order"]["distinct_keys"]


def _runs(case: Case, centers: Tensor) -> Tensor:
    """Local point sets ``(B, n, l, 3)`` in the order of the case."""
    order = torch.from_numpy(case.arrays["idx"]).long()
    runs = centers.gather(1, order.unsqueeze(-1).expand(-1, -1, 3))
    return runs.unflatten(1, (-1, case.data["config"]["local"]))


def _units(points: Tensor) -> Tensor:
    """The smallest positive distance of every point set, ``(..., m, 3) -> (...)``."""
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.masked_fill(distance == 0, torch.inf).amin(dim=(-2, -1))


def _check_graphs(case: Case, centers: Tensor) -> list[int]:
    """Laplacians of exact distances, and eigenvectors; clouds with the units of the batch."""
    whole, local = centers.double(), _runs(case, centers).double()
    of_clouds, of_runs = _units(whole), _units(local)
    scale = case.data["scale"]
    scale.without_effect("about")
    _assert_near(of_clouds, scale["global_exact_per_cloud"])
    _assert_near(of_clouds.min(), scale["global_exact"])
    _assert_near(of_runs.min(), scale["local_exact"])
    _assert_near(torch.stack([of_runs.min(), of_runs.max()]), scale["local_exact_per_group_range"])
    exact = laplacian(whole, of_clouds.min())
    values = torch.linalg.eigvalsh(exact)
    _assert_near(exact, case.arrays["laplacian_exact"])
    _assert_near(laplacian(local, of_runs.min()), case.arrays["sub_laplacian_exact"])
    _assert_near(values, case.arrays["eigenvalues_exact"])
    _assert_near(laplacian(whole), laplacian(whole, of_clouds[:, None, None]))
    sensitivity = case.data["sensitivity"]
    _assert_near(
        torch.stack([values.min(), values.max()]), sensitivity["eigenvalue_range"]["exact"]
    )
    _assert_near(values.diff().min(), sensitivity["eigenvalue_smallest_gap"]["exact"])
    _assert_parallel(graph_basis(exact), case.arrays["U_exact"])
    of_batch = (of_clouds == of_clouds.min()) & (of_runs.amin(dim=1) == of_runs.min())
    return of_batch.nonzero().flatten().tolist()


def _check_own_bases(case: Case, model: Any, centers: Tensor) -> None:
    """Bases that are made here, as columns of eigenvectors or, corrected, as rows."""
    units, scale = _units(centers.double()), case.data["scale"]
    shared = units == units.min()
    corrected = PointGSTTuner.basis(model.tuner, centers[shared]).mT
    _assert_parallel(corrected, case.arrays["U_exact"][shared.numpy()])
    for name, key, points in (("U", "global", centers), ("sub_U", "local", _runs(case, centers))):
        sets = points.flatten(0, -3)
        distance = torch.cdist(sets, sets, compute_mode="use_mm_for_euclid_dist")
        diagonal = distance.diagonal(dim1=-2, dim2=-1)
        assert diagonal.numel() == scale[f"diagonal_entries_{key}"]
        residues = int((diagonal > 0).sum()), float(distance[distance > 0].min())
        stated = scale[f"nonzero_diagonal_entries_{key}"], scale[f"{key}_reference"]
        if residues == stated:  # this library rounds as that of the case
            _assert_parallel(model.tuner.basis(points), case.arrays[name])


def _check_logits(case: Case, model: Any, points: Tensor, clouds: list[int]) -> None:
    """Logits with other bases, and of single clouds.

    A cloud by itself has the bases of the batch if the unit of the batch is its own. Otherwise
    signs of its own eigenvectors decide, which are not stated.
    """
    sensitivity, stored = case.data["sensitivity"], case.arrays
    found = {}
    with torch.no_grad():
        for kind in ("", "_exact"):
            inject(model, case, kind)
            found[kind] = model(points)
            assert_array(found[kind], stored[f"logits{kind}"], f"logits{kind}")
            for number, cloud in enumerate(points.split(1)):
                inject(model, case, kind, number)
                alone = model(cloud)
                assert_array(alone, stored[f"logits{kind}"][[number]], f"logits{kind}, alone")
                if kind and number in clouds:
                    name = f"logits{kind}_alone"
                    assert_array(alone, stored[name][[number]], name)
        inject(model, case, transposed=True)
        transposed = model(points)
    changes = {
        "logit_scale": found[""],
        "transposed_basis": transposed - found[""],
        "exact_distances": found["_exact"] - found[""],
        "cloud_alone": torch.from_numpy(stored["logits_alone"] - stored["logits"]),
        "exact_distances_cloud_alone_against_exact_batch": torch.from_numpy(
            stored["logits_exact_alone"] - stored["logits_exact"]
        ),
    }
    for name, change in changes.items():
        assert abs(change.abs().max() - sensitivity[name]) <= 1e-4 * sensitivity["logit_scale"]
    _without_effect(sensitivity)


def _without_effect(sensitivity: Fields) -> None:
    """What depends on random numbers, on solvers, and on rounding."""
    sensitivity.without_effect(
        "about",
        "random_column_signs",
        "transposed_basis_random_signs_against_transposed",
        "numpy_eigh_against_torch_eigh",
    )
    for key in ("eigenvalue_range", "eigenvalue_smallest_gap"):
        sensitivity[key].without_effect("reference")


def _assert_near(actual: Tensor, expected: Any) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=LAPLACIAN_TOLERANCE)


def _assert_parallel(vectors: Tensor, expected: np.ndarray) -> None:
    """Columns are the same but for their signs, and but for a few of nearly equal eigenvalues."""
    cosines = (vectors.double() * torch.from_numpy(expected).double()).sum(dim=-2).abs()
    assert (cosines > PARALLEL).double().mean() > 0.95
