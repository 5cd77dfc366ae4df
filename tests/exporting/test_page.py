"""The page reads and prepares shapes as the library does, and classifies them in a browser."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from typing import ClassVar

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.exporting import browser_page
from tests.exporting.page_readers import copy_scripts
from tests.exporting.support import POINTS, adapted, described

BROWSER = shutil.which("chromium")
RUNTIME = os.environ.get("ONNXRUNTIME_WEB", "")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
needs_runtime = pytest.mark.skipif(
    not RUNTIME, reason="ONNXRUNTIME_WEB does not name the unpacked npm package onnxruntime-web"
)
CUBE = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 2) for z in (0, 3)], dtype=float)


class Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *given):
        self.server.asked.append(self.path)


@pytest.fixture
def browse(tmp_path):
    """Serves a folder, opens a page of it, and returns its text and what was asked for."""

    def look(folder, name):
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            done = subprocess.run(
                [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update",
                 "--disable-sync", "--virtual-time-budget=60000",
                 f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom",
                 f"http://127.0.0.1:{server.server_port}/{name}"],
                capture_output=True, encoding="utf-8", timeout=300, check=False,
            )  # fmt: skip
        finally:
            server.shutdown()
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout, server.asked

    return look


def probe(folder, script):
    """A page that writes what a script gives as JSON into its body."""
    text = f"""<pre id="out">nothing</pre><script type="module">
    {script}
    const tell = value => document.getElementById("out").textContent = JSON.stringify(value);
    try {{ tell(await run()); }} catch (error) {{ tell({{error: error.message}}); }}
    </script>"""
    (folder / "probe.html").write_text(text)


def told(dom):
    return json.loads(re.search(r'<pre id="out">(.*?)</pre>', dom, re.S)[1])


def write_cube(folder):
    """One box in every format."""
    triangles = [t for a, b, c, d in CUBE for t in ((a, b, c), (a, c, d))]
    rows = "\n".join(" ".join(map(str, p)) for p in CORNERS)
    (folder / "box.obj").write_text(
        "\n".join([*(f"v {x} {y} {z}" for x, y, z in CORNERS),
                   *("f " + " ".join(f"{n + 1}/1" for n in face) for face in CUBE)])
    )  # fmt: skip
    quads = "\n".join("4 " + " ".join(map(str, face)) for face in CUBE)
    (folder / "box.off").write_text(f"OFF 8 6 0\n# corners\n{rows}\n{quads}\n")
    head = "ply\nformat {} 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\nelement face 6\nproperty list uchar int vertex_indices\nend_header\n"  # noqa: E501
    (folder / "box.ply").write_text(head.format("ascii") + f"{rows}\n{quads}\n")
    faces = b"".join(bytes([4]) + np.array(f, "<i4").tobytes() for f in CUBE)
    (folder / "bin.ply").write_bytes(
        head.format("binary_little_endian").encode() + CORNERS.astype("<f4").tobytes() + faces
    )
    body = b"".join(
        np.zeros(3, "<f4").tobytes() + CORNERS[list(t)].astype("<f4").tobytes() + b"\0\0"
        for t in triangles
    )
    (folder / "box.stl").write_bytes(b"\0" * 80 + np.uint32(12).tobytes() + body)
    facets = (
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex " + " ".join(map(str, CORNERS[n])) + "\n" for n in triangle)
        + "endloop\nendfacet\n"
        for triangle in triangles
    )
    (folder / "text.stl").write_text(f"solid\n{''.join(facets)}endsolid\n")
    return ["box.obj", "box.off", "box.ply", "bin.ply", "box.stl", "text.stl"]


SCRIPT = """
import {{readShape}} from "./read.js"; import {{prepare}} from "./prepare.js";
const rules = {rules};
async function run() {{
  const found = {{}};
  for (const name of {names}) {{
    const data = await (await fetch(name)).arrayBuffer();
    try {{ const {{input, notes}} = prepare(readShape(name, data), rules); found[name] = {{input: [...input], notes}}; }}
    catch (error) {{ found[name] = {{error: error.message}}; }}
  }}
  return found;
}}"""  # noqa: E501


@needs_browser
def test_shapes_are_prepared_as_by_the_library(browse, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    names = write_cube(copy_scripts(folder))
    cloud = np.random.default_rng(0).normal(size=(100, 3)) + 5
    np.savetxt(folder / "cloud.xyz", cloud, delimiter=",", header="x y z")
    (folder / "flat.xyz").write_text("1 2 3\n" * 20)
    (folder / "bad.obj").write_text("v 0 0 0\nv 1 0 0\nf 1 2 9\n")
    names += ["cloud.xyz", "flat.xyz", "bad.obj"]
    transform = pp.InputTransform(num_points=64, up_axis="z")
    probe(folder, SCRIPT.format(rules=json.dumps(transform.to_dict()), names=json.dumps(names)))
    found = told(browse(folder, "probe.html")[0])

    expected = transform.prepare(pp.data.RawShape(cloud, None, "cloud"))[:64]
    given = np.array(found["cloud.xyz"]["input"]).reshape(-1, 3)
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert "place" in found["flat.xyz"]["error"]
    assert "vertex" in found["bad.obj"]["error"]
    for name in names[:6]:
        points = np.array(found[name]["input"]).reshape(-1, 3)
        assert np.linalg.norm(points, axis=1).max() <= 1 + 1e-6
        span = np.ptp(points, axis=0)  # 1, 2, 3 upright along z, which becomes y
        assert span[1] > 1.2 * span[2] > 1.2 * span[0]
        walls = np.abs(points / (span / 2) - np.round(points / (span / 2))) < 0.1
        assert walls.any(axis=1).mean() > 0.5  # on the surface, not within


@needs_browser
@needs_runtime
def test_a_browser_gives_the_classes_that_the_library_gives(browse, tmp_path):
    folder = tmp_path / "site"
    model = described(adapted("point_mae", "linear"))
    pp.export(model, folder, format="web", runtime=RUNTIME)
    cloud = np.random.default_rng(0).normal(size=(100, 3))
    np.savetxt(folder / "cloud.xyz", cloud)
    probe(
        folder,
        """import {loadModel, classify} from "./classify.js";
    async function run() {
      const data = await (await fetch("cloud.xyz")).arrayBuffer();
      return await classify(await loadModel(), "cloud.xyz", data);
    }""",
    )
    dom, _ = browse(folder, "probe.html")
    ranking = {one["label"]: one["probability"] for one in told(dom)["ranking"]}
    import torch

    points = pp.InputTransform(POINTS).prepare(pp.data.RawShape(cloud, None, "cloud"))[:POINTS]
    expected = (model(torch.from_numpy(points)[None]) / 2).softmax(1)[0].tolist()
    assert [ranking[name] for name in "abcd"] == pytest.approx(expected, abs=1e-3)

    dom, asked = browse(folder, "index.html")
    assert 'data-state="ready"' in dom
    assert "a, b, c, d" in dom
    assert {path.rpartition("/")[2] for path in asked} <= {p.name for p in folder.iterdir()}
    assert "MIT License" in (folder / "onnxruntime-web.LICENSE.txt").read_text()


DROP = """
const frame = document.createElement("iframe");
frame.src = "index.html";
document.body.append(frame);
const until = async (holds) => { while (!holds()) await new Promise((next) => setTimeout(next, 50)); };
async function drop(page, names) {
  const { DataTransfer, DragEvent, File } = page.defaultView, dataTransfer = new DataTransfer();
  for (const name of names) {
    const data = await (await fetch(name)).arrayBuffer();
    dataTransfer.items.add(new File([data], name));
  }
  const settings = { dataTransfer, bubbles: true, cancelable: true };
  const [over, drop] = ["dragover", "drop"].map((kind) => new DragEvent(kind, settings));
  for (const event of [over, drop]) page.querySelector("h1").dispatchEvent(event);
  const state = page.getElementById("state");
  await until(() => !state.textContent.endsWith("..."));
  const rows = page.querySelectorAll("#results li").length;
  return { isOurs: over.defaultPrevented && drop.defaultPrevented, rows, state: state.textContent };
}
async function run() {
  await until(() => frame.contentDocument?.documentElement.dataset.state === "ready");
  const page = frame.contentDocument, picker = page.getElementById("picker");
  const found = [];
  for (const names of [["cloud.xyz"], ["bad.ply"], ["cloud.xyz", "bad.ply"]]) found.push(await drop(page, names));
  picker.focus();
  return { found, isReached: page.activeElement === picker && picker.matches(":enabled") && picker.tabIndex === 0 };
}
"""  # noqa: E501


@needs_browser
@needs_runtime
def test_a_file_is_taken_wherever_it_is_dropped_and_the_keyboard_reaches_the_box(browse, tmp_path):
    folder = tmp_path / "site"
    pp.export(described(adapted("point_mae", "linear")), folder, format="web", runtime=RUNTIME)
    np.savetxt(folder / "cloud.xyz", np.random.default_rng(0).normal(size=(100, 3)))
    (folder / "bad.ply").write_text("ply\nformat ascii 1.0\n")
    probe(folder, DROP)
    said = told(browse(folder, "probe.html")[0])
    whole, bad, several = said["found"]
    assert whole == {"isOurs": True, "rows": 4, "state": "cloud.xyz"}
    assert (bad["isOurs"], bad["rows"]) == (True, 0)
    assert "bad.ply: cut short" in bad["state"]
    assert several["rows"] == 0
    assert "one by one" in several["state"]
    assert said["isReached"]


def test_nothing_is_made_of_a_model_that_cannot_be_written(tmp_path):
    model = described(adapted("point_mae", "pointgst"))
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / "package" / "dist").mkdir(parents=True, exist_ok=True)
        (tmp_path / "package" / "dist" / name).touch()
    with pytest.raises(ConfigError, match="pointgst"):
        pp.export(model, tmp_path / "site", format="web", runtime=tmp_path / "package")
    assert not (tmp_path / "site").exists()


def test_a_page_holds_the_named_files_alone_each_whole(tmp_path, monkeypatch):
    runtime = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
    (tmp_path / "package/dist").mkdir(parents=True)
    for name in runtime:
        (tmp_path / "package/dist" / name).write_text(name)
    (tmp_path / "site").mkdir()
    ours = {file.name for file in copy_scripts(tmp_path / "site").iterdir()}
    (tmp_path / "site/left-behind.js").touch()
    (tmp_path / "site/__pycache__").mkdir()
    monkeypatch.setattr(browser_page, "files", lambda package: tmp_path)
    (tmp_path / "model").write_text("new")
    given = tmp_path / "page", tmp_path / "model", {"num_points": 8}, tmp_path / "package"
    browser_page.write_page(*given)
    held = {file.name: file.read_bytes() for file in (tmp_path / "page").iterdir()}
    assert set(held) == {*ours, *runtime, browser_page.MODEL, "model.json"}

    def fails(source, target):
        target.write_text("ha")
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil, "copyfile", fails)
    with pytest.raises(OSError, match="space"):
        browser_page.write_page(*given)
    assert {file.name: file.read_bytes() for file in (tmp_path / "page").iterdir()} == held


def test_a_page_needs_names_and_a_runtime(tmp_path):
    model = adapted("point_mae", "linear")
    with pytest.raises(ConfigError, match="format"):
        pp.export(model, tmp_path / "site", format="web", runtime=tmp_path)
    with pytest.raises(ConfigError, match="runtime"):
        pp.export(described(model), tmp_path / "site", format="web", runtime=tmp_path)
    assert not (tmp_path / "site").exists()
