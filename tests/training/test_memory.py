"""Memory that runs out is called so, whatever was being done."""

import lightning as L
import pytest
import torch

from pointpeft.compat.checkpoints.bank_files import read_bank
from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from pointpeft.errors import PointPeftError
from pointpeft.training.config import TrainerConfig
from pointpeft.training.engine import make_trainer
from pointpeft.training.run_folder import AtomicCheckpointIO, RunFolder

ERRORS = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")]


@pytest.fixture(params=ERRORS, ids=repr)
def error(request):
    return request.param


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_while_a_trainer_is_made(error, tmp_path, monkeypatch):
    """The settings can be met: with less beside them in memory."""
    monkeypatch.setattr(L, "Trainer", raising(error))
    with pytest.raises(type(error)) as caught:
        make_trainer(TrainerConfig(accelerator="cpu"), RunFolder(tmp_path), 0, [], None, None)
    assert caught.value is error


@pytest.mark.parametrize("read", [
    lambda path: AtomicCheckpointIO().load_checkpoint(path),
    read_checkpoint,
    read_bank,
])  # fmt: skip
def test_while_a_file_is_read(error, read, tmp_path, monkeypatch):
    """The file is not damaged."""
    path = tmp_path / "weights.pth"
    torch.save({"base_model": {"a": torch.zeros(1)}}, path)
    monkeypatch.setattr(torch, "load", raising(error))
    with pytest.raises(type(error)) as caught:
        read(path)
    assert caught.value is error
    assert not isinstance(caught.value, PointPeftError)
