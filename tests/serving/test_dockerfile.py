"""The Dockerfile, read as far as that is possible without building an image."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instructions and what they say."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def said(steps: list[tuple[str, str]], instruction: str) -> list[str]:
    return [rest for word, rest in steps if word == instruction]


def test_what_is_copied_is_there_and_is_all_that_the_build_needs(steps):
    copied = [path for rest in said(steps, "COPY") for path in shlex.split(rest)[:-1]]
    assert all((ROOT / path).exists() for path in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", project["readme"], *project["license-files"]}
    assert "src" in copied
    assert all(path in copied or path.startswith("src/") for path in needed)


def test_what_is_installed_is_known_here(steps):
    (command,) = said(steps, "RUN")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (asked,) = re.findall(r"\.\[([\w,]+)\]", command)
    assert {"serve"} <= set(asked.split(",")) <= set(project["optional-dependencies"])
    (torch,) = re.findall(r"torch==([\d.]+)", command)
    assert f"torch=={torch}" in (ROOT / "constraints.txt").read_text()


def test_the_service_runs_as_a_user_without_rights(steps):
    (user,) = said(steps, "USER")
    assert int(user) > 0
    words = [word for word, _ in steps]
    assert words.index("RUN") < words.index("USER") < words.index("ENTRYPOINT")


def test_the_entry_point_is_the_service(steps):
    (entry,) = said(steps, "ENTRYPOINT")
    program, *arguments = json.loads(entry)
    assert program == "pointpeft"
    told = run(*arguments, "/nowhere")
    assert told.code != 0
    assert "/nowhere" in told.text
    (port,) = said(steps, "EXPOSE")
    (health,) = said(steps, "HEALTHCHECK")
    assert f":{port}/healthz" in health
