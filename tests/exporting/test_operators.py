"""Points are chosen in a graph as by our own operators, ties included."""

import numpy as np
import onnxruntime
import pytest
import torch

from pointpeft.exporting.onnx_operators import TRANSLATIONS
from pointpeft.exporting.torch_operators import DECOMPOSITIONS
from pointpeft.ops import farthest_point_sample, gather_points, knn


class Search(torch.nn.Module):
    """Farthest points twice, so that no loop takes the names of the other, and neighbours."""

    def forward(self, points):
        chosen = farthest_point_sample(points, 12)
        others = farthest_point_sample(points, 5, skip_near_origin=True)
        centers = gather_points(points, chosen)
        return chosen, others, knn(centers, points, 9)[1]


@pytest.fixture(scope="module")
def graph():
    shapes = {"points": {0: torch.export.Dim("clouds", min=1)}}
    return torch.export.export(Search(), (torch.rand(3, 32, 3),), dynamic_shapes=shapes)


def tied():
    """Points of a coarse lattice, many of them copies, and one cloud that is a single place."""
    points = torch.randint(-2, 3, (6, 32, 3), generator=torch.Generator().manual_seed(0)) / 50
    points[-1] = 0.25
    return points


def test_onnx_chooses_the_same(graph, tmp_path):
    program = torch.onnx.export(
        graph, dynamo=True, custom_translation_table=TRANSLATIONS, optimize=False, verbose=False
    )
    program.save(tmp_path / "search.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "search.onnx")
    found = session.run(None, {session.get_inputs()[0].name: tied().numpy()})
    for ours, theirs in zip(Search()(tied()), found, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


def test_torch_chooses_the_same(graph):
    found = graph.run_decompositions(DECOMPOSITIONS).module()(tied())
    for ours, theirs in zip(Search()(tied()), found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
