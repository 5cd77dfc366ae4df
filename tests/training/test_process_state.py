"""A run computes with its own global settings and leaves those of the caller."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pointpeft.measure.evaluate import evaluate_adapter
from pointpeft.tasks.classification import ClassificationModule
from pointpeft.training import SvmConfig, evaluate_backbone, load_config
from tests.training.support import TINY

DENORMAL = 1e-40

# Two threads compute; how many of many denormals does a training step leave, and the process later?
COUNT = """
import sys, numpy, torch
import pointpeft as pp
from pointpeft.{module} import {task} as Task

torch.set_num_threads(2)
tiny = torch.from_numpy(numpy.full(1 << 20, 1e-40, numpy.float32))
step, left = Task.training_step, []

def counting(task, batch, index):
    left.append(int((tiny * 1).count_nonzero()))
    return step(task, batch, index)

Task.training_step = counting
assert (tiny * 1).count_nonzero() == 1 << 20  # the second thread is there now
pp.{verb}(pp.load_config(pp.{config}, [], sys.argv[2:]), sys.argv[1])
print(max(left), int((tiny * 1).count_nonzero()))
"""


@pytest.mark.skipif(
    not list(Path(torch.__file__).parent.glob("lib/libgomp*")), reason="needs GNU's OpenMP"
)
@pytest.mark.parametrize("verb", ["finetune", pytest.param("pretrain", marks=pytest.mark.slow)])
def test_no_thread_computes_with_denormals_in_a_run_and_all_do_afterwards(
    verb, weights, archive, tmp_path
):
    names = {
        "finetune": {"module": "tasks.classification", "task": "ClassificationModule"},
        "pretrain": {"module": "training.pretraining", "task": "PretrainingModule"},
    }
    given = {
        "finetune": [f"checkpoint={weights}", "method=full"],
        "pretrain": ["pretraining.decoder_depth=1"],
    }
    code = COUNT.format(verb=verb, config=f"{verb.capitalize()}Config", **names[verb])
    settings = [*TINY, f"data.source={archive}", "trainer.epochs=1", *given[verb]]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run"), *settings],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["0", str(1 << 20)]


def state():
    """What a run may not change."""
    return {
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fills memory": torch.utils.deterministic.fill_uninitialized_memory,
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn": torch.backends.cudnn.deterministic,
        "denormal": (torch.tensor(DENORMAL) * 1).item() != 0,
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
    }


@pytest.fixture(params=["as it begins", "as somebody wants it"])
def before(request, monkeypatch):
    """The state of the process before a run, of two kinds."""
    if request.param == "as somebody wants it":
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = True
        torch.set_flush_denormal(True)
        monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    yield state()
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("deterministic", ["true", "false"])
def test_finetuning_and_measuring_leave_the_process_as_it_was(
    before, run_finetune, archive, weights, tmp_path, deterministic
):
    run_finetune("trainer.epochs=1", f"trainer.deterministic={deterministic}")
    assert state() == before
    evaluate_adapter(tmp_path / "run", str(archive), tmp_path / "measured")
    assert state() == before
    settings = [o for o in TINY if not o.startswith("trainer")]
    given = [f"data.source={archive}", f"checkpoint={weights}", "C=1.0"]
    evaluate_backbone(load_config(SvmConfig, [], [*settings, *given]))
    assert state() == before


def test_pretraining_leaves_the_process_as_it_was(before, run_pretrain):
    run_pretrain("trainer.epochs=1")
    assert state() == before


def test_a_run_that_fails_does_too(before, run_finetune, monkeypatch):
    monkeypatch.setattr(ClassificationModule, "training_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_finetune()
    assert state() == before
