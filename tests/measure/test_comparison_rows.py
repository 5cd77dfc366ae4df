"""Rows, tables, verdicts, files and the page of a comparison."""

import csv
import json

import numpy as np
import pytest

from pointpeft.formats import mean_and_spread
from pointpeft.measure.comparison_rows import (
    judge,
    make_row,
    read_rows,
    shown,
    tables,
    write_results,
)
from pointpeft.measure.report.comparison_page import write_comparison_page
from pointpeft.tasks.shown import spread
from tests.measure.test_report import BAD_ID, Page, browse, needs_browser

SHAPES = 60


def cells(accuracy, seeds=2, **changes):
    """Runs in which the first shapes are right."""
    right = [place < accuracy * SHAPES for place in range(SHAPES)]
    return [
        {
            "seed": seed, "test_accuracy": float(np.mean(right)), "val_accuracy": 0.5 + 0.1 * seed,
            "trainable_parameters": 1000, "stored_bytes": 4000, "seconds_per_epoch": 2.0,
            "epochs": 3, "steps_per_epoch": 4,
            "peak_memory_bytes": 10 + seed, "train_items": 40, "test_items": SHAPES,
            "versions": {}, "test_shapes": "of these",
            "test_scores": right, "data_title": None, "task": "classification",
            "weights": "0123456789ab", **changes,
        }
        for seed in range(seeds)
    ]  # fmt: skip


def row(method, accuracy, model="m", shots=None, **changes):
    labels = {"data": "d", "model": model, "method": method, "shots": shots, "lr": 0.1}
    return make_row({**labels, "lr_search": {}, "precision": "32-true"}, cells(accuracy, **changes))


def test_a_row_has_means_and_costs():
    made = row("lora", 0.5)
    assert made["test_score"] == 0.5
    assert made["test_score_std"] == 0.0
    assert made["val_score"] == pytest.approx(0.55)
    assert made["peak_memory_bytes"] == 11
    assert made["training_seconds"] == 6.0
    assert made["seconds_per_step"] == 0.5
    assert np.mean(made["scores"]) == 0.5


@pytest.mark.parametrize(
    ("searches", "said"),
    [
        (({"0.1": 0.5, "0.3": 0.4}, {"1": 0.2, "3": 0.3}), "2 multiples"),
        (({}, {}), "one learning rate"),
        (({"0.1": 0.5, "0.3": 0.4}, {}), "Not all methods"),
    ],
)
def test_the_page_says_how_rates_were_chosen(searches, said, tmp_path):
    rows = [row(str(i), 0.5) | {"lr_search": each} for i, each in enumerate(searches)]
    assert said in write_comparison_page(tmp_path / "page.html", judge(rows)).read_text()


def test_what_is_fitted_before_the_first_epoch_counts():
    assert row("lora", 0.5, fit_seconds=1.5)["training_seconds"] == 7.5


def test_seeds_that_change_nothing_show_no_spread():
    assert mean_and_spread(0.5, float(np.std([0.1] * 3, ddof=1))) == mean_and_spread(0.5, None)
    assert mean_and_spread(0.5, 0.004) != mean_and_spread(0.5, None)
    metrics = {"a": 0.1, "a_std": float(np.std([0.1] * 3, ddof=1)), "a_per_seed": [0.1] * 3}
    assert "3 seeds" in spread(metrics, "a")
    assert "0.0" not in spread(metrics, "a")
    assert "20.0 %" in spread({"a_std": 0.1, "a_per_seed": [0.1, 0.2]}, "a")


def test_a_fitted_method_and_a_single_seed():
    made = row("svm", 0.5, seeds=1, seconds_per_epoch=None, epochs=0, fit_seconds=1.5)
    assert made["training_seconds"] == made["fit_seconds"] == 1.5
    assert made["epochs"] is made["seconds_per_step"] is None
    assert made["test_score_std"] is None


def test_a_table_shows_seconds_of_a_step_and_the_rates_that_were_tried():
    searched = row("a", 0.9) | {"lr_search": {"0.1": 0.5, "0.3": 0.4}}
    older = row("b", 0.2)
    del older["seconds_per_step"]
    table = shown(judge([searched, older, row("svm", 0.1, seconds_per_epoch=None) | {"lr": None}]))
    of = {title: column for title, *column in zip(table.columns, *table.rows, strict=True)}
    assert of["seconds per step"] == ["0.5", "-", "-"]
    assert of["lr"] == ["0.1 (of 0.1, 0.3)", "0.1 (1 rate)", "-"]


def test_verdicts_are_of_the_table():
    rows = [row("a", 0.2), row("b", 0.9), row("c", 0.88), row("d", 0.2, shots=5)]
    verdicts = {each["method"]: each["verdict"] for each in judge(rows)}
    assert verdicts == {
        "a": "below the best", "b": "best", "c": "no difference to the best", "d": "best",
    }  # fmt: skip


def test_equally_good_methods_are_rarely_called_worse():
    """The best of many is found on the same shapes."""
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(100):
        right = generator.integers(0, 2, (10, 80)).astype(float)
        rows = [row(f"m{place}", each.mean()) | {"scores": each.tolist()}
                for place, each in enumerate(right)]  # fmt: skip
        wrong += any(each["verdict"] == "below the best" for each in judge(rows))
    assert wrong <= 5


def test_tables_hold_the_same_test_shapes():
    other = row("b", 0.9)
    other["test_shapes"] = "others"
    assert [len(table) for table in tables([row("a", 0.2), other, row("c", 0.5)])] == [2, 1]


def test_backbones_stand_in_one_table():
    (table,) = tables([row("a", 0.2, model="x"), row("a", 0.9, model="y")])
    assert [each["model"] for each in table] == ["y", "x"]


def test_files_hold_what_was_found(tmp_path):
    judged = judge([row("lora,r=4", 0.5), row("svm", 0.9, shots=5)])
    write_results(tmp_path / "out", {"rows": judged, "failures": []})
    assert json.loads((tmp_path / "out/results.json").read_text())["rows"] == judged
    with (tmp_path / "out/results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["method"], first["shots"]) == ("lora,r=4", "all")
    assert float(second["test_score"]) == 0.9
    assert judge(read_rows(tmp_path / "out/rows")) == judged
    assert judge(read_rows(tmp_path)) == judged
    assert len(shown(judged).columns) == len(shown(judged).rows[0])


def test_rows_of_an_earlier_result_do_not_stay(tmp_path):
    write_results(tmp_path, {"rows": judge([row("a", 0.5), row("b", 0.6)])})
    write_results(tmp_path, {"rows": judge([row("b", 0.6)])})
    assert [each["method"] for each in read_rows(tmp_path / "rows")] == ["b"]


def test_nothing_found_is_written_too(tmp_path):
    write_results(tmp_path, {"rows": [], "failures": [{"run": "x"}]})
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == []


def a_page(tmp_path):
    rows = [
        row(method, accuracy, shots=shots, trainable_parameters=parameters)
        for shots in (5, None)
        for method, accuracy, parameters in (("svm", 0.8, 0), ("lora", 0.5, 10), (BAD_ID, 0.4, 9))
    ]
    return write_comparison_page(tmp_path / "compare.html", judge(rows))


def test_the_page_needs_nothing_else(tmp_path):
    written = Page(a_page(tmp_path))
    assert written.addresses == []
    assert len(written.code) == 3
    assert written.text.count("below the best") == 4
    assert BAD_ID in written.text


@needs_browser
def test_the_browser_draws_every_figure(tmp_path):
    dom = browse(a_page(tmp_path), tmp_path)
    opening = dom[: dom.index("<head>")]
    assert 'data-state="drawn"' in opening
    assert "data-error" not in opening
    assert dom[: dom.rindex('id="notes"')].count('class="plot-container') == 2 * 2 + 1
