"""The page's readers and sampler, run by node."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pointpeft.exporting import browser_page

__all__ = ["NODE", "area_and_centroid", "copy_scripts", "needs_node", "run"]

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def copy_scripts(folder: Path) -> Path:
    """The scripts of the page, without model and runtime."""
    for file in (Path(browser_page.__file__).parent / "site").iterdir():
        shutil.copy(file, folder)
    return folder


def run(folder: Path, script: str, given: object) -> object:
    """What a script makes of ``given``, with the page's scripts beside it."""
    copy_scripts(folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.js").write_text(
        f'import {{ readFileSync }} from "node:fs";\n{script}\n'
        "console.log(JSON.stringify(run(JSON.parse(readFileSync(0)))));"
    )
    done = subprocess.run(
        [str(NODE), str(folder / "run.js")],
        input=json.dumps(given), capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def area_and_centroid(points: np.ndarray, faces: np.ndarray) -> tuple[float, np.ndarray]:
    """Of the surface of triangles ``(F, 3)``."""
    corners = points[faces]
    sides = corners[:, 1:] - corners[:, :1]
    with np.errstate(all="ignore"):  # numbers of a damaged file may overflow
        areas = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
        total = areas.sum()
        centroid = (areas[:, None] * corners.mean(axis=1)).sum(axis=0) / max(total, 1e-300)
    return float(total), centroid
