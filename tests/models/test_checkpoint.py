"""Our own weights files, and the identity of weights."""

import errno
import json
import re
import resource

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import pointpeft as pp
from pointpeft.compat.checkpoints.checkpoint_reader import load_into, read_checkpoint
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models import save_model, state_hash
from pointpeft.models.safetensors_files import saved_sizes
from tests.models.tiny import settle, tiny


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_the_file_says_what_is_in_it(path, tmp_path):
    model = tiny("pretraining")
    save_model(model, path, epochs=12)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode, "others may read it as well"
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["pointpeft"])
    assert facts["name"] == "point_mae"
    assert facts["task"] == "pretraining"
    assert facts["epochs"] == 12
    assert facts["config"]["dim"] == 24
    assert read_checkpoint(path).title == "pointpeft point_mae, pretraining"


def test_a_disk_without_room_is_named_and_takes_no_weights(path):
    model = settle(tiny("pretraining"))
    save_model(model, path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=path.name):
            save_model(model, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_pretraining_brings_its_settings(path, caplog):
    model = settle(tiny("pretraining", decoder_depth=1, loss="l1"))
    save_model(model, path)
    loaded = pp.create_model("point_mae", task="pretraining", checkpoint=path)
    assert loaded.pretraining_config == model.pretraining_config
    state = loaded.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(record.levelname == "WARNING" for record in caplog.records)


def test_what_a_file_of_the_same_task_lacks_is_warned_of(path, caplog):
    save_model(tiny("pretraining", decoder_depth=1), path)
    tiny("pretraining", checkpoint=path, decoder_depth=3)
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "decoder.blocks.1" in warning.getMessage()
    caplog.clear()
    tiny("classification", checkpoint=path)
    assert not any(record.levelname == "WARNING" for record in caplog.records)


def test_files_that_settings_name_are_not_noted(tmp_path):
    save_model(tiny("pretraining", "point_bert_dvae"), tmp_path / "tokenizer.safetensors")
    tokenizer = str(tmp_path / "tokenizer.safetensors")
    save_model(tiny("pretraining", "point_bert", tokenizer=tokenizer), tmp_path / "a.safetensors")
    assert str(tmp_path).encode() not in (tmp_path / "a.safetensors").read_bytes()


@pytest.mark.parametrize("source", ["features", "classification", "pretraining"])
@pytest.mark.parametrize("task", ["features", "classification", "pretraining"])
def test_the_encoder_of_any_task_goes_into_any_other(source, task, points, path):
    model = settle(tiny(source)).eval()
    save_model(model, path)
    loaded = tiny(task, checkpoint=path).eval()
    old, new = (getattr(each, "backbone", each) for each in (model, loaded))
    assert torch.equal(new(points).tokens, old(points).tokens)


def test_halved_files_are_half_as_large_and_close(points, path):
    model = settle(tiny()).eval()
    save_model(model, path)
    whole = path.stat().st_size
    save_model(model, path, half=True)
    assert path.stat().st_size < 0.65 * whole
    tokens = tiny(checkpoint=path).eval()(points).tokens
    torch.testing.assert_close(tokens, model(points).tokens, rtol=0.01, atol=0.01)


def test_a_failure_while_writing_leaves_the_old_file(path, monkeypatch):
    model = tiny()
    save_model(model, path)
    before = path.read_bytes()

    def full_disk(tensors, filename, metadata=None):
        filename.write_bytes(b"part of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pointpeft.models.safetensors_files.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_model(settle(model), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_another_model_says_which_one(path):
    save_model(tiny(), path)
    with pytest.raises(CheckpointError, match=r"'point_mae'.*'i2p_mae'.*`model`=point_mae"):
        pp.create_model("i2p_mae", checkpoint=path)
    save_model(tiny("pretraining", "point_bert_dvae"), path)
    with pytest.raises(CheckpointError, match=r"point_bert.*`tokenizer`"):
        tiny("pretraining", "point_bert", checkpoint=path)
    with pytest.raises(CheckpointError, match="point_bert"):
        tiny("classification", "point_bert", checkpoint=path)


def test_truncated_and_empty_files_are_refused(path):
    save_model(tiny(), path)
    content = path.read_bytes()
    for keep in (0, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        with pytest.raises(CheckpointError, match="damaged"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "metadata", [None, {"pointpeft": "[]"}, {"pointpeft": '{"name": "point_mae"}'}], ids=str
)
def test_files_of_others_are_refused(metadata, path):
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="pointpeft"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "notes", [{"config": 5}, {"config": {}}, {"config": {}, "num_points": "many"}], ids=str
)
def test_notes_of_other_kinds_are_refused_by_their_file(notes, path):
    about = {"name": "point_mae", "task": "features", **notes}
    save_file({"weight": torch.zeros(2)}, path, metadata={"pointpeft": json.dumps(about)})
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        saved_sizes(path)


def test_a_file_that_names_no_model_is_refused(path):
    save_file({"weight": torch.zeros(2)}, path, metadata={"pointpeft": '{"task": "features"}'})
    with pytest.raises(CheckpointError, match="pointpeft"):
        read_checkpoint(path)


def test_the_identity_depends_on_every_value_and_name():
    model = settle(tiny())
    identity = state_hash(model)
    assert state_hash(model) == identity
    with torch.no_grad():
        model.norm.bias[3] += 1e-6
    assert state_hash(model) != identity
    assert state_hash(torch.nn.Linear(2, 2)) != state_hash(torch.nn.Conv1d(2, 2, 1))


def test_the_identity_survives_a_file(path):
    model = settle(tiny())
    save_model(model, path)
    assert state_hash(tiny(checkpoint=path)) == state_hash(model)


def test_halved_weights_have_one_identity_of_their_own(path):
    """In float16 and, read back, in float32; not that of the weights before rounding."""
    model = settle(tiny())
    save_model(model, path, half=True)
    loaded = tiny(checkpoint=path)
    assert state_hash(loaded) != state_hash(model)
    assert state_hash(loaded) == state_hash(model.half())
    save_model(loaded, path, half=True)
    again = tiny()
    load_into(again, path)
    assert state_hash(again) == state_hash(loaded)


def test_what_is_no_model_of_ours_is_not_saved(tmp_path):
    with pytest.raises(ConfigError, match="`model`"):
        save_model(torch.nn.Linear(2, 2), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
