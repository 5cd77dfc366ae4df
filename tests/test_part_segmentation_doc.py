"""What docs/part-segmentation.md shows runs as shown, with fewer shapes, points and epochs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import read_shape

ROOT = Path(__file__).resolve().parents[1]
DOC = ROOT / "docs" / "part-segmentation.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOC.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands have run, in order."""
    folder = tmp_path_factory.mktemp("doc")
    commands = [line for block in blocks("sh") for line in block.strip().splitlines()]
    assert len(commands) == 4
    for line in commands:
        short = line.replace("'my_parts')", "'my_parts', count=8, num_points=512)")
        short = re.sub(r"--epochs \d+", "--epochs 1 data.num_points=256", short)
        short = re.sub(r"^pointpeft", f"{shlex.quote(sys.executable)} -m pointpeft", short)
        short = re.sub(r"^python", shlex.quote(sys.executable), short)
        done = subprocess.run(
            ["bash", "-c", short], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return folder


def test_commands_leave_what_they_promise(folder):
    metrics = (folder / "runs/parts/metrics.json").read_text()
    named = re.findall(r"^\| `(test_\w+)` \|", DOC.read_text(), re.MULTILINE)
    assert len(named) == 4
    for key in named:
        assert f'"{key}"' in metrics, key
    assert (folder / "runs/parts-test/metrics.json").is_file()
    for number in ("0000", "0001"):
        shape = read_shape(folder / f"labelled/seat/{number}.ply", segmented=True)
        assert len(shape.points) == 512
        original = read_shape(folder / f"my_parts/seat/{number}.xyz")
        assert np.array_equal(shape.points, original.points)


def test_python_examples_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for example in blocks("python"):
        short = re.sub(
            r'"trainer.epochs": \d+', '"trainer.epochs": 1, "data.num_points": 256', example
        )
        assert short != example
        exec(compile(short, DOC.name, "exec"), {})


def test_files_that_it_links_to_exist():
    for target in re.findall(r"\]\(([^)#]+)", DOC.read_text()):
        assert target.startswith("http") or (DOC.parent / target).exists(), target
