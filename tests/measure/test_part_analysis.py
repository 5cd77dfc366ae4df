"""The analysis of a part segmenter, and that its runs leave a report."""

import json

import numpy as np
import pytest
import torch

from pointpeft.data import PartTable, ShapeSplit
from pointpeft.measure.evaluate import evaluate_adapter
from pointpeft.measure.part_scores import analyse_parts, part_ious, score_labels
from pointpeft.measure.report import read_run
from pointpeft.training import FinetuneConfig, finetune, load_config
from tests.training.conftest import light_runs  # noqa: F401 - shared fixture
from tests.training.parts import CATEGORIES, DEPTH, PART_NAMES, write_part_archive
from tests.training.support import TINY

TABLE = PartTable(("base", "top", "side"), {"cup": (0, 2), "lamp": (0, 1)})


class Halves(torch.nn.Module):
    """The second part of the category above the ground, the first below."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, points, category):
        height = points[..., 1] * self.weight
        return torch.stack([-height, height, height], dim=-1)


def shapes(count=30, points=40):
    """Cups and lamps; of the place-th shape so many points have the wrong label."""
    cloud = np.random.default_rng(0).normal(size=(count, points, 3)).astype(np.float32)
    labels = np.arange(count) % 2
    upper = cloud[..., 1] > 0
    upper[np.arange(count)[:, None] > np.arange(points)] ^= True
    seg = np.where(upper, np.where(labels == 0, 2, 1)[:, None], 0)
    return ShapeSplit(cloud, labels, tuple(f"shape {i}" for i in range(count)), seg)


def test_iou_of_parts_by_hand():
    target, found = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])
    assert part_ious(found, target, [0, 1, 2]) == pytest.approx([1 / 2, np.nan, 2 / 3], nan_ok=True)
    alone = np.zeros(4, dtype=int)
    scores = score_labels([found, alone], [target, alone], ["cup", "cup"], TABLE.categories)
    assert scores.part_iou["cup"] == {0: pytest.approx(3 / 4), 2: pytest.approx(2 / 3)}
    assert scores.part_items["cup"] == {0: 2, 2: 1}
    assert scores.part_iou["lamp"] == {0: None, 1: None}
    assert scores.part_items["lamp"] == {0: 0, 1: 0}


def test_the_worst_shapes_come_first():
    found = analyse_parts(Halves(), shapes(), TABLE, num_points=40)
    assert [shape["id"] for shape in found["worst"]] == [f"shape {i}" for i in range(29, 17, -1)]
    ious = [shape["iou"] for shape in found["worst"]]
    assert ious == sorted(ious)
    for shape in [*found["worst"], *found["random"]]:
        split, place = shapes(), int(shape["id"].removeprefix("shape "))
        assert shape["true"] == split.seg[place].tolist()
        wrong = np.not_equal(shape["true"], shape["predicted"])
        assert wrong.sum() == place
        cloud = np.array(shape["cloud"]).reshape(-1, 3)
        np.testing.assert_allclose(cloud, split.points[place], atol=6e-4)
        numbers = TABLE.categories[shape["category"]]
        named = dict(zip([TABLE.names[n] for n in numbers],
                         part_ious(np.array(shape["predicted"]), split.seg[place], numbers),
                         strict=True))  # fmt: skip
        assert shape["parts"] == pytest.approx(named)
        assert shape["iou"] == pytest.approx(np.mean(list(named.values())))


def test_same_for_the_same_input_and_ready_for_json():
    first, second = (analyse_parts(Halves(), shapes(), TABLE, num_points=32) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert len({shape["id"] for shape in first["random"]}) == 12
    assert first["category_items"] == [15, 15]


@pytest.mark.parametrize("items", [0, 1])
def test_copes_with_few_or_no_shapes(items):
    found = analyse_parts(Halves(), shapes().subset(range(items)), TABLE, num_points=40)
    assert found["items"] == items
    assert len(found.get("worst", [])) == items
    if items:
        assert (found["category_iou"]["cup"], found["category_iou"]["lamp"]) == (1.0, None)


def test_runs_and_measurements_leave_a_report(tmp_path):
    source = write_part_archive(tmp_path / "parts.npz", 8)
    given = [f"data.source={source}", "method=linear", "task=part_segmentation", "seeds=2"]
    config = load_config(FinetuneConfig, [], [*TINY, DEPTH, *given, "trainer.epochs=1"])
    finetune(config, tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert [page.parent for page in tmp_path.rglob("report.html")] == [tmp_path / "run"]
    assert list(run.histories) == ["seed 0", "seed 1"]
    assert run.analysis["names"] == list(PART_NAMES)
    assert run.analysis["category_iou"] == pytest.approx(run.metrics["best_test_category_iou"])
    assert run.analysis["part_iou"] == run.metrics["best_test_part_iou"]
    assert list(run.metrics["best_test_part_iou"]) == list(CATEGORIES)
    metrics = evaluate_adapter(tmp_path / "run", str(source), tmp_path / "measured")
    assert (tmp_path / "measured/report.html").is_file()
    assert read_run(tmp_path / "measured").analysis["part_iou"] == metrics["test_part_iou"]
    page, analysis = tmp_path / "run/report.html", tmp_path / "run/analysis.json"
    page.unlink()
    analysis.unlink()
    finetune(config, tmp_path / "run", resume=True)  # stopped before its report was written
    assert page.is_file()
