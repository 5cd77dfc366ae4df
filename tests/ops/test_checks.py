"""Every operation refuses unusable input with a message that names the argument and the value."""

import math

import pytest
import torch

from pointpeft import ops

GOOD = {"cloud": torch.ones(2, 8, 3), "features": torch.ones(2, 8, 5)}

# Operation -> keyword arguments of a valid call; every ``(2, 8, ...)`` tensor is attacked in turn.
CALLS = {
    ops.farthest_point_sample: {"points": "cloud", "num_samples": 2},
    ops.knn: {"query": "cloud", "points": "cloud", "k": 2},
    ops.ball_query: {"query": "cloud", "points": "cloud", "radius": 0.1, "k": 2},
    ops.gather_points: {"points": "features", "indices": torch.zeros(2, 3, dtype=torch.int64)},
    ops.group_points: {"points": "cloud", "centers": "cloud", "k": 2},
    ops.inverse_distance_weights: {"query": "cloud", "source": "cloud"},
    ops.three_interpolate: {"query": "cloud", "source": "cloud", "features": "features"},
    ops.squared_distance: {"query": "cloud", "points": "cloud"},
    ops.chamfer_distance: {"a": "cloud", "b": "cloud"},
    ops.earth_mover_distance: {"a": "cloud", "b": "cloud"},
    ops.soft_matching: {"a": "cloud", "b": "cloud"},
}
TENSORS = [
    pytest.param(op, name, kind, id=f"{op.__name__}-{name}")
    for op, arguments in CALLS.items()
    for name, kind in arguments.items()
    if isinstance(kind, str)
]


def call(op, **changes):
    arguments = {
        name: GOOD[value].clone() if isinstance(value, str) else value
        for name, value in CALLS[op].items()
    }
    return op(**(arguments | changes))


@pytest.mark.parametrize("op", CALLS, ids=lambda op: op.__name__)
def test_valid_calls_pass(op):
    call(op)


@pytest.mark.parametrize(("op", "name", "kind"), TENSORS)
def test_wrong_rank(op, name, kind):
    with pytest.raises(ValueError, match=rf"^{name} .*unsqueeze"):
        call(op, **{name: GOOD[kind][0]})


@pytest.mark.parametrize(("op", "name", "kind"), TENSORS)
def test_empty_cloud(op, name, kind):
    with pytest.raises(ValueError, match=f"^{name} .*one"):
        call(op, **{name: GOOD[kind][:, :0]})


@pytest.mark.parametrize(("op", "name", "kind"), TENSORS)
def test_integer_dtype(op, name, kind):
    with pytest.raises(ValueError, match=f"^{name} .*torch.int64"):
        call(op, **{name: GOOD[kind].long()})


@pytest.mark.parametrize(("op", "name", "kind"), TENSORS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(op, name, kind, value):
    bad = GOOD[kind].clone()
    bad[1, 3, 0] = value
    with pytest.raises(ValueError, match=f"^{name} .*finite.* 1 .*cloud 1"):
        call(op, **{name: bad})


@pytest.mark.parametrize(
    ("op", "name"), [case.values[:2] for case in TENSORS if case.values[2] == "cloud"]
)
def test_last_dimension(op, name):
    with pytest.raises(ValueError, match=rf"^{name} .*\(2, 8, 4\)"):
        call(op, **{name: torch.ones(2, 8, 4)})


@pytest.mark.parametrize(
    ("op", "name", "kind"),
    [case for case in TENSORS if case.values[0] is not ops.farthest_point_sample],  # one tensor
)
def test_mismatched_batch(op, name, kind):
    with pytest.raises(ValueError, match="batch"):
        call(op, **{name: GOOD[kind][:1]})


@pytest.mark.parametrize(
    ("op", "changes", "message"),
    [
        (ops.farthest_point_sample, {"num_samples": 9}, "^num_samples .*8.*9"),
        (ops.farthest_point_sample, {"num_samples": 0}, "^num_samples .*0"),
        (ops.knn, {"k": 9}, "^k .*8.*9"),
        (ops.knn, {"k": 0}, "^k .*0"),
        (ops.group_points, {"k": 9}, "^k .*8.*9"),
        (ops.ball_query, {"k": 0}, "^k .*0"),
        (ops.ball_query, {"radius": 0.0}, "^radius .*0.0"),
        (ops.ball_query, {"radius": math.nan}, "^radius .*nan"),
        (ops.three_interpolate, {"k": 0}, "^k .*0"),
        (ops.three_interpolate, {"features": torch.ones(2, 7, 5)}, "^features .*7.*8"),
        (ops.gather_points, {"indices": torch.tensor([[8], [0]])}, r"\[0, 8\), .* 0 to 8"),
        (ops.gather_points, {"indices": torch.tensor([[-1], [0]])}, r"\[0, 8\), .* -1 to 0"),
        (ops.gather_points, {"indices": torch.zeros(2, 1)}, "^indices .*int"),
        (ops.gather_points, {"indices": torch.zeros(3, 1).long()}, "indices .* 3 and 2"),
        (ops.chamfer_distance, {"norm": "l3"}, "^norm .*l3"),
        (ops.chamfer_distance, {"reduction": "sum"}, "^reduction .*sum"),
        (ops.earth_mover_distance, {"method": "auction"}, "^method .*auction"),
        (ops.earth_mover_distance, {"b": torch.ones(2, 7, 3)}, "^b .*7.*8"),
    ],
)
def test_settings_out_of_range(op, changes, message):
    with pytest.raises(ValueError, match=message):
        call(op, **changes)


def test_large_finite_values_whose_sum_overflows_are_accepted():
    ops.farthest_point_sample(torch.full((1, 64, 3), 3e4, dtype=torch.float16), 2)
