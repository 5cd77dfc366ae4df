"""What needs neither torch nor Lightning does not wait for them."""

import subprocess
import sys

import pytest
import torch

import pointpeft
from tests.cli.conftest import run

HEAVY = ("torch", "lightning", "sklearn", "scipy", "trimesh")
PROGRAM = """
import sys
from pointpeft.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    print("code", stop.code, "loaded", [name for name in {heavy} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--version"], 0, "pointpeft"),
        (["finetune", "--help"], 0, "--method"),
        (["finetun"], 2, "finetune"),
        (["svm", "--bogus"], 2, "--bogus"),
        (["evaluate"], 2, "--adapter"),
        (["finetune", "sede=1"], 1, "did you mean 'seed'"),
        (["pretrain", "trainer.epoch=1"], 1, "did you mean 'trainer.epochs'"),
        (["svm", "data.surce=x"], 1, "did you mean 'data.source'"),
        (["pretrain", "trainer.batch_size=0"], 1, "trainer.batch_size"),
        (["svm", "--config", "none.yaml"], 1, "none.yaml does not exist"),
    ],
)
def test_answers_at_once(arguments, code, words):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == f"code {code} loaded []"
    assert words in done.stdout + done.stderr


def test_version_names_torch_too():
    result = run("--version")
    assert result.code == 0
    assert result.out == f"pointpeft {pointpeft.__version__}, torch {torch.__version__}\n"


def test_help_offers_the_version():
    assert "--version" in run("--help").out
