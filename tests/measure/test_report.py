"""The report: complete, safe with any text, and drawn without an error in a real browser."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from pointpeft.formats import display_name
from pointpeft.measure.report import ReportRun, read_run, write_report, write_run_report
from pointpeft.measure.report.figures import curve
from pointpeft.measure.report.run_page import summary

SECTIONS = ("results", "curves", "confusion", "features", "gallery", "settings")
BAD_CLASS, BAD_ID = '<b>x</b>&"', "a</script><script>document.title='taken'</script><!--"
CLASSES = (BAD_CLASS, "chair", "table")
BROWSER = shutil.which("chromium")


def metrics(**changes):
    return {
        "method": "point-peft", "model": "point_mae_small", "data": "/data/shapes", "seed": 0,
        "test_accuracy": 0.75, "val_accuracy": 0.8, "trainable_parameters": 303839,
        "stored_bytes": 1_300_000, "seconds_per_epoch": 4.25, "peak_memory_bytes": 900_000_000,
        "test_items": 8, "selection": "validation split", "class_names": list(CLASSES),
        "confusion": [[2, 1, 0], [0, 3, 1], [0, 0, 0]], "notes": ["a note"],
        "skipped": [f"{BAD_ID}: cannot be read", "second.off: empty"], "versions": {"torch": "2"},
    } | changes  # fmt: skip


def analysis(mistakes=2, part="test"):
    generator = np.random.default_rng(0)
    cloud = generator.uniform(-1, 1, 3 * 64).round(3).tolist()
    near = [{"id": BAD_ID, "label": i, "similarity": 0.9 - i / 10, "cloud": "0"} for i in range(3)]
    listed = [
        {"id": f"{i} {BAD_ID}", "label": 1, "predicted": 0, "probability": 0.5, "cloud": cloud,
         "neighbours": near} for i in range(mistakes)
    ]  # fmt: skip
    places = generator.normal(size=(12, 2)).tolist()
    return {
        "part": part, "items": 8, "class_names": list(CLASSES),
        "confusion": [[2, 1, 0], [0, 3, 1], [0, 0, 0]],
        "map": {"method": "t-SNE", "items": 12, "shown": 12, "ids": [BAD_ID] * 12,
                "labels": [0, 1, 2] * 4, "held_out": [False] * 8 + [True] * 4,
                "before": places, "after": places},
        "mistakes": {"total": mistakes, "listed": listed, "clouds": {"0": cloud}},
    }  # fmt: skip


def history(epochs=3):
    return [
        {"epoch": float(i), "train_loss": 2.0 - i, "train_accuracy": 0.2 * i, "val_accuracy": 0.3}
        for i in range(epochs)
    ]


def run(name="point-peft", **changes):
    return ReportRun(
        display_name(name), metrics(method=name, **changes), {"seed 0": history()}, analysis(),
        "method: x\n",
    )  # fmt: skip


class Page(HTMLParser):
    """The scripts of a page, its text, the ids in it, and the addresses that it refers to."""

    def __init__(self, path):
        super().__init__()
        self.scripts, self.ids, self.addresses, self.title, self.text = [], set(), [], "", ""
        self._open = None
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given.get("id"), given.get("class")}
        self.addresses += [given[key] for key in ("src", "href") if key in given]
        self._open = tag
        if tag == "script":
            self.scripts.append((given.get("type"), ""))

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, text):
        if self._open == "script":
            kind, before = self.scripts[-1]
            self.scripts[-1] = (kind, before + text)
        elif self._open != "style":
            self.text += text
        if self._open == "title":
            self.title += text

    @property
    def code(self):
        """The scripts that run."""
        return [text for kind, text in self.scripts if kind is None]

    @property
    def figures(self):
        """What is drawn: figures with data and layout, and the clouds of galleries by key."""
        return [json.loads(text) for kind, text in self.scripts if kind == "application/json"]

    @property
    def curves(self):
        """Traces of the learning curves, by figure."""
        lines = ("lines", "markers")
        drawn = [figure["data"] for figure in self.figures if "layout" in figure]
        return [traces for traces in drawn if traces[0].get("mode") in lines and
                traces[0].get("meta") == "epoch"]  # fmt: skip


def page(tmp_path, *runs, title="shapes", warning=""):
    return Page(write_report(tmp_path / "report.html", title, runs, warning))


def test_page_is_complete_and_needs_nothing_else(tmp_path):
    written = page(tmp_path, run())
    assert set(SECTIONS) <= written.ids
    assert written.addresses == []
    assert "Plotly" in written.code[1]
    assert not list(tmp_path.glob("*.tmp"))


def test_no_text_leaves_its_place(tmp_path):
    written = page(tmp_path, run(), title=BAD_ID)
    assert len(written.code) == 3  # error handler, library, drawing
    assert written.title == BAD_ID
    assert f"{BAD_CLASS} instead of chair (0 {BAD_ID})" in written.text
    assert f"{BAD_ID}: cannot be read" in written.text
    for kind, text in written.scripts:
        assert kind is None or "<" not in text
    shown = json.dumps(written.figures)
    assert "&lt;b&gt;x&lt;/b&gt;" in shown  # Plotly reads a little HTML
    assert BAD_CLASS[:3] not in shown.replace("<br>", "")


def test_values_that_json_does_not_know_become_absent(tmp_path):
    rows = [{"epoch": 0.0, "train_loss": float("nan"), "train_accuracy": float("inf")},
            {"epoch": 1.0, "train_loss": 1.5, "train_accuracy": None}]  # fmt: skip
    given = ReportRun("linear", metrics(val_accuracy=None, stored_bytes=None), {"seed 0": rows})
    written = page(tmp_path, given)
    ((trace,),) = written.curves
    assert trace["y"] == [None, 1.5]
    assert "303,839 - 4.2" in written.text  # parameters, stored size, seconds


def test_report_needs_a_run(tmp_path):
    with pytest.raises(ValueError, match="runs"):
        write_report(tmp_path / "report.html", "shapes", [])


FITTED = {"epochs": 0, "selection": "nothing is trained, so no epoch is chosen"}


def test_summary_says_how_the_epochs_of_what_was_trained_were_chosen():
    rule, trained = run("svm", **FITTED), run("linear", epochs=3)
    assert "validation split alone" in summary([rule, trained])
    alone = summary([rule])
    assert "epoch" not in alone
    assert "nothing" not in alone


INTERVAL = {"test_accuracy_interval": [0.409, 0.929]}


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([run()], ["point_mae_small", "shapes by Point-PEFT", "75.0 % of 8 test shapes",
                   "validation split"]),
        ([run(**INTERVAL)], ["3 classes", "40.9 to 92.9 %"]),
        ([run(unmeasured_classes=["table"])],
         ["2 of 3 classes", "there: table."]),
        ([run("linear"), run("full", test_accuracy=0.5)], ["2 ways", "75.0 % (linear probing)",
                                                           "50.0 % (full fine-tuning)"]),
        ([run(test_accuracy_std=0.02, seeds=[0, 1])], ["75.0 ± 2.0 %", "2 seeds"]),
        ([run(test_accuracy=None)], ["80.0 % of the validation", "no test"]),
        ([run(test_accuracy=None, val_accuracy=None, selection="last epoch")],
         ["was not measured", "last epoch"]),
        ([run(selection="test split (published protocol)")],
         ["75.0 %", "chosen on the test split"]),
        ([run(adapter="a", split="all", all_accuracy=0.25, all_items=9)],
         ["25.0 % of all shapes", "9 shapes of 3 classes", "honest"]),
        ([run(adapter="a", split="test", protocol="published")], ["published"]),
    ],
)  # fmt: skip
def test_summary_says_it_in_words(runs, words, tmp_path):
    text = page(tmp_path, *runs).text
    for part in words:
        assert part in text


def test_accuracies_stand_beside_their_intervals(tmp_path):
    text = page(tmp_path, run(**INTERVAL)).text
    assert "75.0 % 40.9 to 92.9 %" in text  # the run's
    assert f"{BAD_CLASS} 66.7 % 20.8 to 93.9 % 3" in text  # of a class: 2 of 3
    assert "table not measured - 0" in text


def test_confusions_are_listed_by_their_number(tmp_path):
    counts = [[2, 1, 0], [3, 0, 1], [0, 0, 0]]
    given = run()
    given.analysis["confusion"] = counts
    text = page(tmp_path, given).text
    first, second = text.index(f"chair taken for {BAD_CLASS}: 3 of 4"), text.index(": 1 of 3")
    assert first < second


def test_the_kept_epoch_is_marked_in_the_curves(tmp_path):
    given = replace(run(), best_epochs={"seed 0": 2})
    written = page(tmp_path, given)
    assert "kept: 2." in written.text
    assert len(written.curves) == 3
    for line, star in written.curves:
        assert line["x"] == [1, 2, 3]
        assert star["marker"]["symbol"] == "star"
        assert (star["x"], star["y"]) == ([2], [line["y"][1]])


@pytest.mark.parametrize("missing", [1, 2])
def test_what_is_measured_now_and_then_is_a_line(missing):
    """From point to point, and points are shown, as between them is nothing."""
    values = [None, 0.5, *([None] * missing), 0.25]
    given = replace(run(), histories={"seed 0": [{"svm": value} for value in values]})
    (trace,) = curve([given], "svm", ".2f")["data"]
    assert trace["x"] == [2, 3 + missing]
    assert trace["y"] == [0.5, 0.25]
    assert trace["mode"] == "lines+markers"


def test_an_unknown_epoch_is_not_marked(tmp_path):
    for best in ({}, {"seed 0": 9}, {"seed 0": 0}, {"seed 1": 1}):
        written = page(tmp_path, replace(run(), best_epochs=best))
        assert [len(traces) for traces in written.curves] == [1, 1, 1]


def test_classes_keep_their_colour_in_both_maps(tmp_path):
    maps = [figure["data"] for figure in page(tmp_path, run()).figures if "layout" in figure][-2:]
    before, after = ({trace["meta"]: trace["marker"]["color"] for trace in one} for one in maps)
    assert before == after
    assert len(set(before.values())) == 3


# Parts -------------------------------------------------------------------------------------------


def part_run():
    generator = np.random.default_rng(0)
    cloud = generator.uniform(-1, 1, 3 * 8).round(3).tolist()
    shape = {"id": BAD_ID, "category": "mug", "iou": 0.5, "cloud": cloud,
             "parts": {"body": 0.75, BAD_CLASS: 0.25}, "true": [1] * 4 + [2] * 4,
             "predicted": [2] * 4 + [1] * 4}  # fmt: skip
    content = {
        "part": "test", "items": 2, "names": ["foot", "body", BAD_CLASS],
        "categories": {"lamp": [0], "mug": [1, 2]}, "category_items": [0, 2],
        "category_iou": {"lamp": None, "mug": 0.5},
        "part_iou": {"lamp": {"foot": None}, "mug": {"body": 0.75, BAD_CLASS: 0.25}},
        "part_items": {"lamp": {"foot": 0}, "mug": {"body": 2, BAD_CLASS: 1}},
        "worst": [shape, shape | {"iou": 0.6}], "random": [shape],
    }  # fmt: skip
    measured = metrics(
        task="part_segmentation", class_names=["lamp", "mug"], test_instance_iou=0.5,
        test_class_iou=0.5, test_accuracy=0.9, val_instance_iou=0.7, test_items=2,
        unmeasured_classes=["lamp"],
    )  # fmt: skip
    rows = [{"epoch": 0.0, "train_loss": 1.0, "val_instance_iou": 0.7}]
    return ReportRun("Linear probing", measured, {"seed 0": rows}, content)


def test_parts_are_listed_with_their_iou(tmp_path):
    written = page(tmp_path, part_run())
    assert {"results", "curves", "parts", "gallery", "settings"} <= written.ids
    assert "2 test shapes of 1 of 2 categories" in written.text
    assert "50.0 % over shapes and 50.0 % over categories" in written.text
    assert "mug 50.0 % 2 shapes body 75.0 % 2" in written.text
    assert f"{BAD_CLASS} 25.0 % 1" in written.text
    assert "lamp not measured 0 shapes" in written.text
    assert "there: lamp." in written.text
    assert "1. mug, IoU 50.0 %" in written.text
    assert "Validation IoU over shapes" in written.text


def test_true_and_predicted_parts_have_the_same_colours(tmp_path):
    galleries = [figure for figure in page(tmp_path, part_run()).figures if "true0" in figure]
    assert len(galleries) == 2
    for clouds in galleries:
        colours = [
            [trace["marker"]["color"] for trace in clouds[key]["data"]]
            for key in ("true0", "predicted0")
        ]
        assert colours[0] == colours[1]
        assert len(set(colours[0])) == 2


def test_parts_that_were_not_measured(tmp_path):
    given = replace(part_run(), analysis={"part": "test", "items": 0})
    assert "No shape" in page(tmp_path, given).text


# Run folders -------------------------------------------------------------------------------------


def write_rows(folder, epochs):
    folder.mkdir(exist_ok=True)
    lines = ["epoch,train_loss,val_accuracy", *(f"{i},{2 - i / 10}," for i in range(epochs))]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def test_run_folder_of_one_seed_is_read(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics()))
    (tmp_path / "config.yaml").write_text("method: point-peft\n")
    write_rows(tmp_path, 2)
    path = write_run_report(tmp_path, analysis())
    found = read_run(tmp_path)
    assert found.name == "Point-PEFT"
    assert found.config == "method: point-peft\n"
    assert found.analysis == analysis()
    assert found.histories == {
        "seed 0": [
            {"epoch": 0.0, "train_loss": 2.0, "val_accuracy": None},
            {"epoch": 1.0, "train_loss": 1.9, "val_accuracy": None},
        ]
    }
    assert Page(path).title == "Point-PEFT on shapes"
    named = metrics(method="full", data_title="ScanObjectNN PB-T50-RS")
    (tmp_path / "metrics.json").write_text(json.dumps(named))
    written = Page(write_run_report(tmp_path, analysis()))
    assert written.title == "Full fine-tuning on ScanObjectNN PB-T50-RS"
    assert "ScanObjectNN PB-T50-RS by full fine-tuning" in written.text


def test_run_folder_of_several_seeds_has_a_history_for_each(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(seeds=[3, 4])))
    write_rows(tmp_path / "seed3", 1)
    write_rows(tmp_path / "seed4", 2)
    write_rows(tmp_path / "seed5", 2)  # of an older run
    found = read_run(tmp_path)
    assert {label: len(rows) for label, rows in found.histories.items()} == {
        "seed 3": 1,
        "seed 4": 2,
    }
    assert found.analysis is None


def test_every_seed_has_its_own_kept_epoch(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(seeds=[3, 4], best_epoch=1)))
    for seed, best in ((3, {"best_epoch": 1}), (4, {"best_epoch": 2})):
        write_rows(tmp_path / f"seed{seed}", 2)
        (tmp_path / f"seed{seed}/metrics.json").write_text(json.dumps(metrics(**best)))
    assert read_run(tmp_path).best_epochs == {"seed 3": 1, "seed 4": 2}
    written = Page(write_run_report(tmp_path, analysis()))
    assert "kept: 1 (seed 3), 2 (seed 4)." in written.text
    (tmp_path / "metrics.json").write_text(json.dumps(metrics()))
    assert read_run(tmp_path).best_epochs == {}  # runs from before it was noted


def browse(file, tmp_path, *options):
    """The page as a browser leaves it."""
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--allow-file-access-from-files", "--virtual-time-budget=10000",
         f"--user-data-dir={tmp_path / 'browser'}", *options, "--dump-dom", file.as_uri()],
        capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def body(dom):
    """What a reader sees: the page up to its scripts."""
    return dom[dom.index("<body") : dom.index('id="settings"')]


needs_browser = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@needs_browser
@pytest.mark.parametrize(
    ("runs", "plots", "clouds"),
    [([run("linear"), run("full")], 3 + 1 + 2, 4), ([part_run()], 2, 2 * 2)],
    ids=["classes", "parts"],
)
def test_browser_draws_every_plot_that_is_seen(runs, plots, clouds, tmp_path):
    path = write_report(tmp_path / "report.html", "shapes", runs)
    dom = browse(path, tmp_path, *WEBGL)
    opening = dom[: dom.index("<head>")]
    assert 'data-state="drawn"' in opening
    assert "data-error" not in opening
    assert "<title>shapes</title>" in dom
    drawn = body(dom)
    assert drawn.count('class="plot-container') == plots + clouds
    assert drawn.count('class="gl-container') >= (plots + clouds)
    assert "<b>x</b>" not in drawn.replace("<b></b>", "")


@needs_browser
@pytest.mark.parametrize(
    "given",
    [
        ReportRun("linear", metrics(confusion=None, test_accuracy=None), analysis=analysis(0)),
        ReportRun("linear", metrics(adapter="a", split="all", all_accuracy=None, all_items=0)),
        ReportRun("full", metrics(), {"seed 0": history(1)}, analysis(1, "validation")),
        replace(part_run(), analysis={"part": "test", "items": 0}),
    ],
    ids=["no mistakes", "evaluation", "one epoch", "no parts"],
)
def test_browser_copes_with_what_is_absent(given, tmp_path):
    path = write_report(tmp_path / "report.html", "shapes", [given])
    assert "data-error" not in browse(path, tmp_path).split("<head>")[0]
    text = Page(path).text
    if given.analysis and given.analysis.get("mistakes", {}).get("total") == 0:
        assert "There are none" in text
    if given.analysis and given.analysis["part"] == "validation":
        assert "no test split" in text


FRAME = """<iframe id="f" src="{}" style="border:0;width:390px;height:2400px"></iframe><script>
f.onload = () => {{
  const page = f.contentDocument, told = document.body.dataset;
  const all = selector => [...page.querySelectorAll(selector)].filter(e => e.offsetParent);
  const widest = () => Math.max(...all("*").map(e => e.getBoundingClientRect().right));
  told.width = Math.ceil(widest());
  all(".steps button")[1].click();
  told.second = all(".steps select")[0].value;
  {}
  told.shapes = all(".scene .plot").length;
  setTimeout(() => told.failed = page.documentElement.dataset.error ?? "nothing", 500);
}};
</script>"""  # browsers have no windows as narrow as a phone, but frames
CLASSES_FRAME = """
  all(".sortable th button")[0].click();
  told.sorted = all(".sortable tbody td")[0].textContent;
  all(".key button")[0].click();
  const method = page.getElementById("method");
  told.opened = method.selectedOptions[0].text;
  method.value = "0";
  method.dispatchEvent(new Event("change"));
  told.maps = all(".features .plot").length;
  told.first = all(".steps select")[0].value;
"""


def on_a_phone(path, tmp_path, script=""):
    """What a frame of the width of a phone tells of a page."""
    frame = tmp_path / "phone.html"
    frame.write_text(FRAME.format(path.as_uri(), script))
    opening = re.search("<body[^>]*>", browse(frame, tmp_path, *WEBGL))[0]
    told = {key: html.unescape(text) for key, text in re.findall(r'data-(\w+)="([^"]*)"', opening)}
    assert int(told.pop("width")) <= 390
    assert told.pop("failed") == "nothing"
    return told


@needs_browser
def test_page_fits_a_phone_and_its_controls_work(tmp_path):
    linear, other = run("linear", **INTERVAL), run("point-peft")
    linear.analysis["map"]["after"] = None
    path = write_report(tmp_path / "report.html", "shapes", [linear, other], "A check.")
    assert '<p class="warning">A check.</p>' in path.read_text(encoding="utf-8")
    assert on_a_phone(path, tmp_path, CLASSES_FRAME) == {
        "second": "1", "sorted": BAD_CLASS,
        "opened": "Point-PEFT", "maps": "1", "first": "0", "shapes": "4",
    }  # fmt: skip


@needs_browser
def test_a_page_of_parts_fits_a_phone(tmp_path):
    path = write_report(tmp_path / "report.html", "shapes", [part_run()])
    assert on_a_phone(path, tmp_path) == {"second": "1", "shapes": "4"}


@needs_browser
def test_many_classes_fit_a_phone(tmp_path):
    names = [f"class number {i} of a long list" for i in range(40)]
    counts = np.eye(40, dtype=int).tolist()
    given = run(class_names=names, confusion=counts)
    given.analysis.update(class_names=names, confusion=counts)
    path = write_report(tmp_path / "report.html", "shapes", [given])
    on_a_phone(path, tmp_path)
