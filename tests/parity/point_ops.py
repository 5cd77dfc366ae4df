"""Parity of point operations and of the linear SVM."""

import re

import numpy as np
import pytest
import torch

from pointpeft import ops
from pointpeft.measure.svm import linear_svm
from tests.parity.support import Case


def check_ops(case: Case) -> None:
    p, stored = case.data["parameters"], case.arrays
    points = torch.from_numpy(case.made("points"))
    assert points.shape == (p["batch"], p["points"], 3)
    case.stored("centers", "ball_queries")
    chosen = ops.farthest_point_sample(points, p["fps"])
    np.testing.assert_array_equal(chosen, stored["fps_idx"])
    origin = _origin_cloud(case, points)
    skipped = ops.farthest_point_sample(origin, stored["fps_origin_idx"].shape[1], True)
    np.testing.assert_array_equal(skipped, stored["fps_origin_idx"])

    centers = ops.gather_points(points, chosen)
    squared, neighbors = ops.knn(centers, points, p["k"])
    np.testing.assert_array_equal(neighbors, stored["knn_idx"])
    np.testing.assert_allclose(squared, stored["knn_sq"], rtol=1e-5, atol=1e-7)
    grouped, _ = ops.group_points(points, centers, p["k"])
    np.testing.assert_allclose(grouped, stored["group"], atol=1e-6)

    queries = centers.clone()
    queries[:, -1] = 5.0
    balls = ops.ball_query(queries, points, p["radius"], p["nsample"])
    np.testing.assert_array_equal(balls, stored["ball_idx"])

    features = torch.from_numpy(case.made("features"))
    spread = ops.three_interpolate(points, centers, features)
    np.testing.assert_allclose(spread, stored["interp"], atol=1e-4)
    _check_chamfer(case)
    _check_earth_mover(case)
    for key, count in (("chamfer_a", "n1"), ("chamfer_b", "n2"), ("emd_a", "emd")):
        assert case.made(key).shape[1] == p[count]


def _origin_cloud(case: Case, points: torch.Tensor) -> torch.Tensor:
    text = case.data["inputs"]["origin_cloud"]
    count, low, high, factor, to0, to1, from0, from1 = re.search(
        r"points\[:, :(\d+)\] with rows (\d+)\.\.(\d+) multiplied by ([\d.]+) .* rows "
        r"(\d+)\.\.(\d+) copied from rows (\d+)\.\.(\d+)",
        text,
    ).groups()
    cloud = points[:, : int(count)].clone()
    cloud[:, int(low) : int(high) + 1] *= np.float32(factor)
    cloud[:, int(to0) : int(to1) + 1] = cloud[:, int(from0) : int(from1) + 1].clone()
    return cloud


def _check_chamfer(case: Case) -> None:
    for norm in ("l2", "l1"):
        a, b = (
            torch.from_numpy(case.made(f"chamfer_{side}")).requires_grad_() for side in ("a", "b")
        )
        loss = ops.chamfer_distance(a, b, norm=norm)
        assert loss.item() == pytest.approx(case.data[f"chamfer_{norm}"], rel=1e-5)
        loss.backward()
        np.testing.assert_allclose(a.grad, case.arrays[f"chamfer_{norm}_grad_a"], atol=1e-6)
        np.testing.assert_allclose(b.grad, case.arrays[f"chamfer_{norm}_grad_b"], atol=1e-6)


def _check_earth_mover(case: Case) -> None:
    a, b = (torch.from_numpy(case.made(f"emd_{side}")).requires_grad_() for side in ("a", "b"))
    for squared, key in ((True, "emd_squared"), (False, "emd_plain")):
        exact = ops.earth_mover_distance(a, b, squared=squared)
        np.testing.assert_allclose(exact.detach(), case.data[key], rtol=1e-5)
    match = ops.soft_matching(a.detach(), b.detach()).transpose(1, 2)  # stored as (B, a, b)
    stored = case.arrays["approx_match"]
    np.testing.assert_allclose(match, stored, atol=1e-4 * np.abs(stored).max())
    cost = ops.earth_mover_distance(a, b, method="soft") * a.shape[1]
    np.testing.assert_allclose(cost.detach(), case.data["approx_cost"], rtol=1e-4)
    cost.sum().backward()
    for tensor, side in ((a, "a"), (b, "b")):
        expected = case.arrays[f"approx_grad_{side}"]
        np.testing.assert_allclose(tensor.grad, expected, atol=1e-4 * np.abs(expected).max())


def check_linear_svm(case: Case) -> None:
    inputs, scaled = case.data["inputs"], {}
    for key in ("prototypes", "train", "test"):
        made = case.made(key, followed=True)
        scaled[key] = made * np.float32(np.sqrt(made.shape[1]))
    noise = float(re.search(r"\* ([\d.]+) \+ P", inputs["train"])[1])
    features, labels = {}, {}
    for part in ("train", "test"):
        pattern = r"(\d+)\)\.randint\((\d+), (\d+), (\d+)\)"
        numbers = re.search(pattern, inputs[f"{part}_labels"]).groups()
        seed, low, high, count = map(int, numbers)
        labels[part] = np.random.RandomState(seed).randint(low, high, count)
        features[part] = scaled[part] * noise + scaled["prototypes"][labels[part]]
    assert high == case.data["classes"]
    assert case.data["seed"] is not None
    data = (features["train"], labels["train"], features["test"], labels["test"])
    result = linear_svm(*data, C=case.data["C"])
    assert result.accuracy == pytest.approx(case.data["accuracy"])
    np.testing.assert_array_equal(result.predictions, case.arrays["predictions"])
    np.testing.assert_allclose(result.decision, case.arrays["decision"], atol=1e-3)
    for C, accuracy in case.data["accuracy_by_C"].pop_all().items():
        assert linear_svm(*data, C=float(C)).accuracy == pytest.approx(accuracy)
