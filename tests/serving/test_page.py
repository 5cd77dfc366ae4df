"""The page for people, in a browser against a running service."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trimesh
import uvicorn

from pointpeft.serving.served_adapters import AdapterSet
from pointpeft.serving.service import Service
from pointpeft.serving.web_app import create_app
from tests.serving.browser import CHROMIUM, Browser
from tests.serving.conftest import LIMITS, wait_for_names

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

DRAWN = """(canvas) => {
    const { width, height } = canvas;
    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    return data.reduce((sum, value, i) => (i % 4 < 3 || !value ? sum : sum * 31 + i & 0xffffff), 7);
}"""
"""A number that changes with what a canvas shows, and is 7 for an empty one."""
SHOWN = f"[...document.querySelectorAll('canvas')].map({DRAWN})"
STATUS = "document.getElementById('status').textContent"


@pytest.fixture(scope="module")
def address(runs: Path, archive: Path) -> Iterator[str]:
    """Of a running service with an adapter of classes and one of parts."""
    adapters = AdapterSet([runs / "linear", runs / "parts"], neighbors_from=str(archive))
    wait_for_names(adapters)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = create_app(Service(adapters, LIMITS, readers=1))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Browser]:
    """The page on a phone."""
    with Browser(tmp_path / "browser", 390, 844, touch=True) as browser:
        browser.open(address)
        browser.wait("document.readyState === 'complete' && adapters.length")
        yield browser


def test_a_shape_its_classes_and_its_nearest_are_shown(page, address, tmp_path):
    scene = trimesh.creation.box(extents=(2, 1, 1)).export(file_type="gltf")
    for name, content in scene.items():
        (tmp_path / name).write_bytes(content)
    (text,) = tmp_path.glob("*.gltf")
    page.choose("#file", [text, *tmp_path.glob("*.bin")])
    assert "%" in page.wait(f"{STATUS}.includes('%') && {STATUS}")
    assert page.value("document.querySelectorAll('#found meter').length") == 4
    shown = page.value(SHOWN)
    assert len(shown) == 1 + 3
    assert 7 not in shown
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    assert all(one.startswith((address, "blob:", "data:")) for one in page.asked)
    page.screenshot(tmp_path / "phone.png")


def test_all_is_done_by_keyboard(page):
    focused = "document.activeElement.id"
    for _ in range(8):
        if page.value(focused) == "example":
            break
        page.press("Tab")
    page.press("Enter")
    page.wait(f"{STATUS}.includes('%')")
    page.value("document.getElementById('view').focus()")
    before = page.value(SHOWN)
    page.press("ArrowLeft")
    page.press("+")
    after = page.value(SHOWN)
    assert all(one != other for one, other in zip(before, after, strict=True))  # all turn alike


def test_parts_are_coloured_and_saved(page):
    page.value(
        "const select = document.getElementById('adapter'); select.value = 'parts';"
        "select.dispatchEvent(new Event('change'))"
    )
    page.value("document.getElementById('example').click()")
    page.wait(f"{STATUS}.includes('parts')")
    assert page.value("shape.seg.length === shape.points.length")
    assert page.value("document.querySelectorAll('#found .swatch').length") > 1
    page.value("let saved; URL.createObjectURL = (blob) => { saved = blob; return '#'; }")
    page.value("document.querySelector('#found button').click()")
    page.value("let text; saved.text().then((found) => { text = found; })")
    head = page.wait("text")
    assert head.startswith("ply\n")
    assert "property int label" in head


def test_what_is_refused_is_said(page, tmp_path):
    (tmp_path / "bad.off").write_text("no mesh")
    page.choose("#file", [tmp_path / "bad.off"])
    assert page.wait("document.querySelector('#status.bad') && " + STATUS).startswith("bad.off")
