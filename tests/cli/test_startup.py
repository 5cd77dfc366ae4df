"""What needs neither torch nor Lightning does not wait for them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pointpeft
from tests.cli.conftest import run

CONFIG = str(Path(__file__).parents[2] / "cfgs/fine-tuning/scan_pb.yaml")
HEAVY = ("torch", "lightning", "sklearn", "scipy", "trimesh")
PROGRAM = """
import contextlib, io, json, sys
from pointpeft.cli import main
from pointpeft.compat.command.program import main as published
answers = []
for arguments in json.loads(sys.argv[1]):
    said, code = io.StringIO(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            published(arguments[1:]) if arguments[0] == "main.py" else main(arguments)
        except SystemExit as stop:
            code = stop.code
    loaded = [name for name in {heavy} if name in sys.modules]
    answers.append([code, said.getvalue(), loaded])
print(json.dumps(answers))
"""
TUNE = ("main.py", "--config", CONFIG, "--finetune_model")
COMMANDS = (
    (("--version",), 0, "pointpeft"),
    (("finetune", "--help"), 0, "--method"),
    (("finetun",), 2, "finetune"),
    (("svm", "--bogus"), 2, "--bogus"),
    (("evaluate",), 2, "--adapter"),
    (("finetune", "sede=1"), 1, "'seed'"),
    (("pretrain", "trainer.epoch=1"), 1, "'trainer.epochs'"),
    (("svm", "data.surce=x"), 1, "'data.source'"),
    (("pretrain", "trainer.batch_size=0"), 1, "trainer.batch_size"),
    (("svm", "--config", "none.yaml"), 1, "none.yaml"),
    (("finetune", "--data", "none"), 1, "folder"),
    (("pretrain", "--checkpoint", "none.pth"), 1, "none.pth"),
    (("evaluate", "--adapter", "none", "--data", "x"), 1, "adapter"),
    (("embed", "x.obj", "--output", "f.csv"), 1, "--output"),
    (("search", "--index", "none.npz", "--duplicates"), 1, "none.npz"),
    (("search", "--index", "none.npz"), 1, "--duplicates"),
    (("convert", "none.pth", "x.safetensors"), 1, "none.pth"),
    (("reproduce", "--data", "none"), 1, "--data none"),
    (("main.py", "--help"), 0, "max_epoch"),
    ((*TUNE, "--bogus"), 2, "--bogus"),
    ((*TUNE, "max_epok=1"), 1, "'max_epoch'"),
    ((*TUNE, "max_epoch=0"), 1, "max_epoch=0"),
    ((*TUNE, "data.source=none"), 1, "ScanObjectNN PB-T50-RS"),
    ((*TUNE, "data.source=homeobjects", "--ckpts", "none.pth"), 1, "none.pth"),
)


@pytest.fixture(scope="module")
def answers():
    """Code, text and slow modules of each of the commands, run in turn by one process."""
    given = json.dumps([arguments for arguments, *_ in COMMANDS])
    program = [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), given]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("place", range(len(COMMANDS)), ids=lambda n: " ".join(COMMANDS[n][0]))
def test_answers_at_once(answers, place):
    _, code, words = COMMANDS[place]
    answered, text, loaded = answers[place]
    assert (answered, loaded) == (code, [])
    assert words in text


def test_version_names_torch_too():
    result = run("--version")
    assert result.code == 0
    assert result.out == f"pointpeft {pointpeft.__version__}, torch {torch.__version__}\n"


def test_help_offers_the_version():
    assert "--version" in run("--help").out
