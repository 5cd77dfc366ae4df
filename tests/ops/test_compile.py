"""The operations go into one compiled graph, and their registrations are consistent."""

import pytest
import torch

from pointpeft import ops
from pointpeft.ops.chamfer import _match
from pointpeft.ops.earth_mover import _assign
from pointpeft.ops.neighbors import _ball_query, _knn
from pointpeft.ops.sampling import _sample


def patches(points):
    centers = ops.gather_points(points, ops.farthest_point_sample(points, 8))
    return ops.group_points(points, centers, 4)[0]


def pipeline(points, target):
    centers = ops.gather_points(points, ops.farthest_point_sample(points, 8, True))
    groups, _ = ops.group_points(points, centers, 4)
    distances, _ = ops.knn(points, centers, 3)
    features = ops.three_interpolate(points, centers, groups.flatten(2))
    inside = ops.ball_query(centers, points, 0.5, 4)
    return (
        ops.chamfer_distance(centers, target, "l1")
        + ops.earth_mover_distance(centers, target).mean()
        + (distances.sum() + features.sum() + inside.sum()) / 1000
    )


def test_a_full_graph_compiles_and_agrees_with_eager():
    points = torch.randn(2, 64, 3, requires_grad=True)
    target = torch.randn(2, 8, 3)
    result = torch.compile(pipeline, backend="aot_eager", fullgraph=True)(points, target)
    expected = pipeline(points, target)
    torch.testing.assert_close(result, expected)
    gradients = [torch.autograd.grad(value, points)[0] for value in (result, expected)]
    torch.testing.assert_close(*gradients)


def test_one_compilation_serves_all_sizes():
    compiled = torch.compile(patches, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in [(2, 64), (3, 50)]:
        points = torch.randn(*size, 3)
        with torch.compiler.set_stance("default" if size == (2, 64) else "fail_on_recompile"):
            torch.testing.assert_close(compiled(points), patches(points))


def test_sampling_is_one_node_of_the_graph():
    graph = torch.export.export(Sampler(), (torch.randn(1, 64, 3),)).graph
    assert sum(node.op == "call_function" for node in graph.nodes) < 5


class Sampler(torch.nn.Module):
    def forward(self, points):
        return ops.farthest_point_sample(points, 32)


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        (_sample, (torch.rand(2, 9, 3), 4, False)),
        (_knn, (torch.rand(2, 5, 3), torch.rand(2, 9, 3), 4)),
        (_ball_query, (torch.rand(2, 5, 3), torch.rand(2, 9, 3), 0.5, 4)),
        (_match, (torch.rand(2, 5, 3), torch.rand(2, 9, 3))),
        (_assign, (torch.rand(2, 5, 3), torch.rand(2, 5, 3), True)),
    ],
    ids=["sample", "knn", "ball_query", "match_nearest", "optimal_assignment"],
)
def test_registration(op, arguments):
    torch.library.opcheck(op, arguments)
