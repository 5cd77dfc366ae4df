"""A trained run, meshes, and a way to type commands without a new process."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from pointpeft.cli import console, main
from tests.training.conftest import archive, light_runs, weights  # noqa: F401 - shared fixtures
from tests.training.support import CLASSES, TINY, write_meshes


@dataclass(frozen=True)
class Result:
    """What a command left behind: exit code and both outputs."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both outputs with white space evened out, since tables and lines are wrapped."""
        return " ".join((self.out + self.err).split())


def run(*arguments: object) -> Result:
    """Run a command in this process; an exception that escapes it fails the test."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return Result(int(code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def wide_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide enough for temporary paths; how long lines are folded is tested on its own."""
    monkeypatch.setenv("COLUMNS", "300")
    for screen in (console.out, console.err):
        monkeypatch.setattr(screen, "width", 300)


@pytest.fixture(scope="session")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four classes with eight meshes each."""
    return write_meshes(tmp_path_factory.mktemp("meshes"), dict.fromkeys(CLASSES, 8))


@pytest.fixture(scope="session")
def settings(weights: Path) -> list[str]:  # noqa: F811
    """Options and overrides of a very short run."""
    return ["--checkpoint", str(weights), "--method", "linear", "--epochs", "1", *TINY]


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    meshes: Path,
    weights: Path,  # noqa: F811
) -> Path:
    """The folder of a run on the meshes that has learnt something."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = run(
        "finetune", "--data", meshes, "--checkpoint", weights, "--output", folder,
        "--epochs", 25, *TINY, "trainer.batch_size=8", "optimizer.lr=3e-3",
    )  # fmt: skip
    assert result.code == 0, result.err
    return folder
