"""What the README shows runs as shown."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.strip().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def test_make_targets_exist():
    shown = [line.split()[1] for line in COMMANDS if line.startswith("make ")]
    assert set(shown) == {"demo", "test"}
    assert set(shown) <= TARGETS


def test_commands_run_as_shown(folder):
    """In order and in one folder, shortened to one epoch each."""
    shown = [line for line in COMMANDS if not line.startswith(("make ", ". "))]
    assert len(shown) > 4
    program = f"{shlex.quote(sys.executable)} -m pointpeft"
    for line in shown:
        command = re.sub(r"--epochs \d+", "--epochs 1", line)
        command = re.sub(r"^pointpeft", lambda _: program, command)
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "test accuracy" in (folder / "runs/mine/metrics.json").read_text().replace("_", " ")


def test_python_examples_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for example in blocks("python"):
        exec(compile(example.replace('epochs": 30', 'epochs": 1'), "README.md", "exec"), {})
    assert (folder / "my_adapter" / "adapter_config.json").is_file()


def test_files_that_it_links_to_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
