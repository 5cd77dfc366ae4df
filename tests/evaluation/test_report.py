"""The report: complete, safe with any text, and drawn without an error in a real browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from pointpeft.evaluation.report import ReportRun, read_run, write_report, write_run_report
from pointpeft.method_names import display_name

SECTIONS = ("results", "curves", "confusion", "features", "mistakes", "settings")
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
    """The scripts of a page, the ids in it, and the addresses that it refers to."""

    def __init__(self, path):
        super().__init__()
        self.scripts, self.ids, self.addresses, self.title = [], set(), [], ""
        self._open = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.add(given.get("id"))
        self.addresses += [given[key] for key in ("src", "href") if key in given]
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, text):
        if self._open == "script":
            self.scripts[-1] += text
        if self._open == "title":
            self.title += text

    @property
    def data(self):
        return json.loads(self.scripts[1])


def test_page_is_complete_and_needs_nothing_else(tmp_path):
    page = Page(write_report(tmp_path / "report.html", "shapes", [run()]))
    assert set(SECTIONS) <= page.ids
    assert page.addresses == []
    assert "Plotly" in page.scripts[2]
    assert not list(tmp_path.glob("*.tmp"))


def test_no_text_leaves_its_place(tmp_path):
    page = Page(write_report(tmp_path / "report.html", BAD_ID, [run()]))
    assert len(page.scripts) == 4  # error handler, data, library, drawing
    assert page.title == BAD_ID
    (shown,) = page.data["runs"]
    assert shown["metrics"]["class_names"][0] == BAD_CLASS
    assert shown["metrics"]["skipped"][0].startswith(BAD_ID)
    assert "<" not in page.scripts[1]


def test_values_that_json_does_not_know_become_absent(tmp_path):
    rows = [{"epoch": 0.0, "train_loss": float("nan"), "train_accuracy": float("inf")}]
    given = ReportRun("linear", metrics(val_accuracy=float("nan")), {"seed 0": rows})
    page = Page(write_report(tmp_path / "report.html", "shapes", [given]))
    (shown,) = page.data["runs"]
    assert shown["metrics"]["val_accuracy"] is None
    assert shown["histories"]["seed 0"] == [
        {"epoch": 0.0, "train_loss": None, "train_accuracy": None}
    ]


def test_report_needs_a_run(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_report(tmp_path / "report.html", "shapes", [])


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([run()], ["point_mae_small", "shapes by Point-PEFT", "75.0 % of 8 test shapes",
                   "chosen on the validation split alone"]),
        ([run("linear"), run("full", test_accuracy=0.5)], ["two ways", "75.0 % (linear probing)",
                                                           "50.0 % (full fine-tuning)"]),
        ([run(test_accuracy_std=0.02, seeds=[0, 1])], ["75.0 ± 2.0 %", "2 seeds"]),
        ([run(test_accuracy=None)], ["80.0 % of the validation shapes", "no test split"]),
        ([run(test_accuracy=None, val_accuracy=None, selection="last epoch")],
         ["was not measured", "last epoch"]),
        ([run(selection="test split (published protocol)")],
         ["75.0 %", "by the published protocol the epoch to keep was chosen on the test split"]),
        ([run(adapter="a", split="all", all_accuracy=0.25, all_items=9)],
         ["25.0 % of all shapes of shapes", "9 shapes of 3 classes", "by the honest protocol."]),
        ([run(adapter="a", split="test", protocol="published")], ["by the published protocol."]),
    ],
)  # fmt: skip
def test_summary_says_it_in_words(runs, words, tmp_path):
    text = Page(write_report(tmp_path / "report.html", "shapes", runs)).data["summary"]
    for part in words:
        assert part in text


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
    page = Page(write_run_report(tmp_path, analysis()))
    assert page.title == "Full fine-tuning on ScanObjectNN PB-T50-RS"
    assert "adapted to ScanObjectNN PB-T50-RS by full fine-tuning" in page.data["summary"]


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


def browse(page, tmp_path, *options):
    """The page as a browser leaves it."""
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--allow-file-access-from-files", "--virtual-time-budget=10000",
         f"--user-data-dir={tmp_path / 'browser'}", *options, "--dump-dom", page.as_uri()],
        capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def element(dom, name):
    """The text from the element `name` on."""
    return dom[dom.index(f'id="{name}"') :]


needs_browser = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_WEBGL = ("--disable-3d-apis",)


@needs_browser
@pytest.mark.parametrize("options", [WEBGL, NO_WEBGL], ids=["webgl", "no webgl"])
def test_browser_draws_every_plot(options, tmp_path):
    path = write_report(tmp_path / "report.html", "shapes", [run("linear"), run("full")])
    dom = browse(path, tmp_path, *options)
    opening = dom[: dom.index("<head>")]
    assert 'data-state="drawn"' in opening
    assert "data-error" not in opening
    assert "<title>shapes</title>" in dom
    body = dom[dom.index("<body") : dom.index('id="data"')]
    assert body.count('class="main-svg"') >= 3 * (3 + 1 + 2)  # curves, confusion, maps
    select = element(body, "mistake")
    assert len(re.findall("<option", select[: select.index("</select>")])) == 2
    assert ("offers no WebGL" in body) == (options == NO_WEBGL)
    assert len(re.findall("similarity 0", element(body, "shapes"))) == 3
    assert "&lt;b&gt;x&lt;/b&gt;&amp;" in element(body, "class-table")
    assert "<b>x</b>" not in body
    assert "second.off: empty" in element(body, "details")


@needs_browser
@pytest.mark.parametrize(
    "given",
    [
        ReportRun("linear", metrics(confusion=None, test_accuracy=None), analysis=analysis(0)),
        ReportRun("linear", metrics(adapter="a", split="all", all_accuracy=None, all_items=0)),
        ReportRun("full", metrics(), {"seed 0": history(1)}, analysis(1, "validation")),
    ],
    ids=["no mistakes", "evaluation", "one epoch"],
)
def test_browser_copes_with_what_is_absent(given, tmp_path):
    dom = browse(write_report(tmp_path / "report.html", "shapes", [given]), tmp_path)
    assert "data-error" not in dom[: dom.index("<head>")]
    if given.analysis and not given.analysis["mistakes"]["total"]:
        assert "There are none: all 8 test shapes" in element(dom, "mistakes-note")
    if given.analysis and given.analysis["part"] == "validation":
        assert "There is no test split" in element(dom, "confusion-note")


FRAME = """<iframe id="f" src="{}" style="border:0;width:390px;height:2400px"></iframe><script>
f.onload = () => {{
  const page = f.contentDocument, told = document.body.dataset;
  told.width = page.documentElement.scrollWidth;
  page.getElementById("next").click();
  told.second = page.getElementById("mistake").value;
  page.querySelector("#class-table th button").click();
  page.querySelector("#features-key button").click();
  const method = page.querySelector("#confusion select");
  told.opened = method.selectedOptions[0].text;
  method.value = "0";
  method.dispatchEvent(new Event("change"));
  told.maps = page.querySelectorAll("#features .plot:not([hidden] *)").length;
  told.method = page.querySelector("#mistakes .pick select").value;
  told.first = page.getElementById("mistake").value;
  setTimeout(() => told.failed = page.documentElement.dataset.error ?? "nothing", 500);
}};
</script>"""  # browsers have no windows as narrow as a phone, but frames


@needs_browser
def test_page_fits_a_phone_and_its_controls_work(tmp_path):
    linear = run("linear")
    linear.analysis["map"]["after"] = None
    path = write_report(tmp_path / "report.html", "shapes", [linear, run("point-peft")], "A check.")
    assert '<p class="warning">A check.</p>' in path.read_text(encoding="utf-8")
    frame = tmp_path / "phone.html"
    frame.write_text(FRAME.format(path.as_uri()))
    opening = re.search("<body[^>]*>", browse(frame, tmp_path, *WEBGL))[0]
    told = dict(re.findall(r'data-(\w+)="([^"]*)"', opening))
    assert int(told.pop("width")) <= 390
    assert told == {
        "second": "1", "opened": "Point-PEFT", "method": "0", "maps": "1", "first": "0",
        "failed": "nothing",
    }  # fmt: skip
