"""Adapter folders: what is in them, the way back, and what is refused."""

import errno
import json
import shutil
from hashlib import sha256
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.locations import anonymous
from pointpeft.measure.loaded_adapter import load_adapted
from pointpeft.models import save_model, state_hash
from pointpeft.peft import read_adapter_config, resolve_adapter
from pointpeft.peft.hugging_face import LoRAConfig
from pointpeft.peft.saving import copy_adapter
from pointpeft.peft.training_features import training_features, write_training_features
from tests.models.tiny import clouds, settle, tiny
from tests.peft.support import CONFIGS, SMALL, adapted, classifier, encoder, point_peft

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
every_method = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def change_config(folder: Path, **changes) -> None:
    content = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps(content))


def change_weights(folder: Path, change) -> None:
    """Apply ``change`` to the stored entries; metadata is not needed to read them."""
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS, metadata={"pointpeft": "{}"})
    change_config(folder, weights_sha256=sha256((folder / WEIGHTS).read_bytes()).hexdigest())


def train_a_little(model, points):
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    F.cross_entropy(model(points), torch.tensor([0, 1, 2])).backward()
    optimizer.step()


@pytest.fixture
def folder(tmp_path):
    point_peft().save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@every_method
@pytest.mark.parametrize("with_bank", [False, True])
def test_a_loaded_adapter_gives_the_same_logits_to_the_bit(config, with_bank, points, tmp_path):
    model = adapted(config(), with_bank)
    train_a_little(model, points)
    expected = model.eval()(points)
    model.save_pretrained(tmp_path)
    backbone = encoder()
    before = state_hash(backbone)
    loaded = pp.load_adapter(backbone, tmp_path)
    assert not loaded.training
    assert torch.equal(loaded(points), expected)
    assert loaded.config == model.config
    assert state_hash(backbone) == before
    assert type(backbone.blocks[0]).__name__ == "Block"


@every_method
def test_a_loaded_adapter_is_trained_and_saved_like_the_first(config, points, tmp_path):
    model = adapted(config(), with_bank=True)
    model.save_pretrained(tmp_path / "first")
    loaded = pp.load_adapter(encoder(), tmp_path / "first")
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in loaded.named_parameters() if p.requires_grad} == trained
    loaded.save_pretrained(tmp_path / "second")
    first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    train_a_little(loaded, points)


def test_the_folder_holds_config_weights_and_card(folder):
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", CONFIG, WEIGHTS]
    config = read_adapter_config(folder)
    assert config["method"]["method"] == "point-peft"
    assert config["method"]["num_prompts"] == 5
    assert config["base_model"]["name"] == "point_mae"
    assert config["base_model"]["config"]["patch_widths"] == [8, 12, 16]
    assert config["base_model"]["hash"] == state_hash(encoder())
    assert config["num_classes"] == 4
    assert config["pointpeft_version"] == pp.__version__
    assert "point-peft adapter for point_mae" in (folder / "README.md").read_text()


def test_a_readme_of_the_user_stays(folder):
    card = folder / "README.md"
    point_peft().save_pretrained(folder)
    assert "point-peft adapter" in card.read_text()  # one of ours is replaced
    card.write_text("# My shapes")
    point_peft().save_pretrained(folder)
    assert card.read_text() == "# My shapes"


def test_an_encoder_does_not_go_where_an_adapter_is(folder):
    with pytest.raises(ConfigError, match="holds an adapter"):
        encoder().save_pretrained(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", CONFIG, WEIGHTS]


def test_a_path_that_cannot_be_read_again_is_not_written(tmp_path):
    with pytest.raises(ConfigError, match="UTF-8"):
        point_peft().save_pretrained(tmp_path / "\udcff")


def test_nothing_of_the_frozen_encoder_is_stored(folder):
    stored = load_file(folder / WEIGHTS)
    model = point_peft()
    matrices = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert not matrices & stored.keys()
    assert not any("retriever" in name or "tokenizer" in name for name in stored)
    assert stored["tuner.bank.features"].dtype == torch.float16


def test_statistics_that_moved_are_stored(points, tmp_path):
    model = point_peft(reference_compat=True)
    train_a_little(model, points)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    assert "model.backbone.tokenizer.embed.first_conv.1.running_mean" in stored


def test_what_the_user_recorded_comes_back(tmp_path):
    model = adapted(pp.LinearConfig())
    model.class_names = ("chair", "Stuhl ä", "椅子", "table | desk")
    model.input = {"num_points": 64, "up_axis": "y"}
    model.base_checkpoint = "pretrain.pth"
    model.save_pretrained(tmp_path)
    loaded = pp.load_adapter(encoder(), tmp_path)
    assert loaded.class_names == model.class_names
    assert loaded.input == model.input
    assert loaded.base_checkpoint == "pretrain.pth"
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "椅子" in card
    assert "pretrain.pth" in card


def test_the_weights_of_the_encoder_are_found_again_where_all_was_moved(tmp_path):
    model = adapted(pp.LinearConfig())
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    save_model(encoder(), project / "ckpts/pretrain.safetensors")
    model.base_checkpoint = str(project / "ckpts/pretrain.safetensors")
    model.save_pretrained(project / "runs/first/adapter")
    for file in (project / "runs/first/adapter").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
    project.rename(elsewhere)
    found = str(elsewhere / "ckpts/pretrain.safetensors")
    assert load_adapted(elsewhere / "runs/first").base_checkpoint == found
    (elsewhere / "runs/first").rename(tmp_path / "alone")
    identity = state_hash(encoder())[:16]
    with pytest.raises(CheckpointError) as refused:
        load_adapted(tmp_path / "alone")
    assert identity in str(refused.value)
    assert "`checkpoint`" in str(refused.value)
    assert load_adapted(tmp_path / "alone", found).base_checkpoint == found


def test_a_copied_adapter_finds_the_weights_of_the_encoder(tmp_path):
    """Those elsewhere where they are, and those beside it beside the copy."""
    model, first, copied = adapted(pp.LinearConfig()), tmp_path / "run/seed1", tmp_path / "run"
    save_model(encoder(), tmp_path / "ckpts/pretrain.safetensors")
    model.base_checkpoint = str(tmp_path / "ckpts/pretrain.safetensors")
    model.save_pretrained(first / "adapter")
    copy_adapter(first / "adapter", copied / "adapter")
    assert load_adapted(copied).base_checkpoint == model.base_checkpoint
    assert "`point_mae`, weights" in (copied / "adapter/README.md").read_text()
    save_model(encoder(), first / "backbone.safetensors")
    model.base_checkpoint = "../backbone.safetensors"
    model.save_pretrained(first / "adapter")
    copy_adapter(first / "adapter", copied / "adapter")
    shutil.move(first / "backbone.safetensors", copied)
    assert load_adapted(copied).base_checkpoint == str(copied / "backbone.safetensors")
    assert sorted(path.name for path in copied.iterdir()) == [
        "adapter", "backbone.safetensors", "seed1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "recorded"),
    [
        ("embedded", "embedded"),
        ("pretrain.pth", "pretrain.pth"),
        ("/elsewhere/secret/pretrain.pth", "pretrain.pth"),
    ],
)
def test_of_what_shares_no_folder_the_name_alone_is_recorded(path, recorded, tmp_path):
    model = adapted(pp.LinearConfig())
    model.base_checkpoint = path
    model.save_pretrained(tmp_path)
    assert read_adapter_config(tmp_path)["base_model"]["checkpoint"] == recorded
    assert not any(b"secret" in file.read_bytes() for file in tmp_path.iterdir())


def test_weights_elsewhere_on_the_machine_are_found_through_the_run(tmp_path):
    """The adapter does not name their place, for it may be given away; its run does."""
    model, run = adapted(pp.LinearConfig()), tmp_path / "run"
    weights = tmp_path / "secret/pretrain.safetensors"
    save_model(encoder(), weights)
    model.base_checkpoint = "pretrain.safetensors"  # as it is recorded of another disk
    model.save_pretrained(run / "adapter")
    with pytest.raises(CheckpointError):
        load_adapted(run)
    (run / "config.yaml").write_text(f"checkpoint: {weights}")
    assert load_adapted(run).base_checkpoint == str(weights)
    (run / "config.yaml").write_text("checkpoint: null")
    with pytest.raises(CheckpointError):
        load_adapted(run)


def test_the_encoder_knows_where_its_weights_came_from(tmp_path):
    """So an adapter that is saved by hand finds them too."""
    save_model(encoder(), tmp_path / "ckpts/pretrain.safetensors")
    backbone = tiny(checkpoint=tmp_path / "ckpts/pretrain.safetensors")
    model = pp.get_peft_model(pp.build_classifier(backbone, 4), pp.LinearConfig())
    model.save_pretrained(tmp_path / "mine")
    assert load_adapted(tmp_path / "mine").base_checkpoint == backbone.loaded_from
    assert tiny().loaded_from is None


def test_the_bank_comes_back_with_labels_and_ids(tmp_path):
    model = point_peft()
    model.tuner.bank = pp.MemoryBank(
        model.bank.features, torch.arange(12), [f"item {i}" for i in range(12)]
    )
    model.save_pretrained(tmp_path)
    bank = pp.load_adapter(encoder(), tmp_path).bank
    assert torch.equal(bank.features, model.bank.features)
    assert bank.labels.tolist() == list(range(12))
    assert bank.ids == tuple(anonymous(f"item {i}") for i in range(12))


def test_a_bank_with_numbers_as_ids_is_saved(tmp_path):
    items = [{"points": cloud, "id": i} for i, cloud in enumerate(clouds(12))]
    bank = pp.MemoryBank.build(encoder(), torch.utils.data.DataLoader(items, batch_size=4))
    model = pp.get_peft_model(classifier(), pp.PointPeftConfig(**SMALL), bank)
    model.save_pretrained(tmp_path)
    loaded = pp.load_adapter(encoder(), tmp_path)
    assert loaded.bank.ids == tuple(anonymous(str(i)) for i in range(12))
    loaded.save_pretrained(tmp_path)
    assert pp.load_adapter(encoder(), tmp_path).bank.ids == loaded.bank.ids


def test_nothing_private_travels_with_an_adapter(tmp_path):
    """Neither places on this machine nor names of items, in none of its files."""
    model = point_peft()
    ids = [f"secret/part {i}.stl" for i in range(12)]
    model.tuner.bank = pp.MemoryBank(model.bank.features, torch.arange(12), ids)
    model.base_checkpoint = "/disk/secret/pretrain.pth"
    model.input = {"transform": pp.InputTransform(64).to_dict(), "source": "/home/secret/parts"}
    model.save_pretrained(tmp_path / "adapter")
    copy_adapter(tmp_path / "adapter", tmp_path / "copy")
    for file in [*(tmp_path / "adapter").iterdir(), *(tmp_path / "copy").iterdir()]:
        assert b"secret" not in file.read_bytes()
    loaded = pp.load_adapter(encoder(), tmp_path / "copy")
    assert loaded.input["source"] == anonymous("/home/secret/parts")  # known again
    assert model.input["source"] == "/home/secret/parts"  # in memory it is as it was


def test_a_run_folder_serves_for_the_adapter_in_it(folder, points):
    assert resolve_adapter(folder) == folder
    assert resolve_adapter(folder.parent) == folder
    loaded = pp.load_adapter(encoder(), folder.parent)
    assert torch.equal(loaded(points), pp.load_adapter(encoder(), folder)(points))


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_an_adapter_is_refused(make, tmp_path):
    if make:
        (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty"):
        pp.load_adapter(encoder(), tmp_path / "empty")


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (lambda: tiny(dim=48), ["dim is 48, the adapter needs 24"]),
        (lambda: tiny(depth=2, num_groups=6), ["depth is 2", "num_groups is 6"]),
        (lambda: tiny(name="point_mae_small"), ["trained on point_mae", "is point_mae_small"]),
        (lambda: tiny(), ["weights are others", "not recorded", "hash", "pretrained=True"]),
        (lambda: torch.nn.Linear(2, 2), ["create_model"]),
    ],
    ids=["dim", "two sizes", "name", "weights", "no encoder"],
)
def test_another_base_model_is_refused_with_the_differences(backbone, words, folder):
    with pytest.raises(CheckpointError) as caught:
        pp.load_adapter(backbone(), folder)
    for word in words:
        assert word in str(caught.value)


def hash_needed(folder):
    """The beginning of what an adapter knows its encoder by."""
    return json.loads((folder / CONFIG).read_text())["base_model"]["hash"][:16]


def test_an_encoder_that_is_already_adapted_is_refused(folder):
    with pytest.raises(CheckpointError, match=hash_needed(folder)):
        pp.load_adapter(pp.load_adapter(encoder(), folder).model.backbone, folder)


def test_an_adapter_stays_with_weights_as_they_were_rounded(points, tmp_path):
    """Trained on float16 weights it fits those, and not the float32 weights before rounding."""
    save_model(encoder(), tmp_path / "half.safetensors", half=True)
    model = tiny("classification", checkpoint=tmp_path / "half.safetensors")
    model = pp.get_peft_model(settle(model.head) and model, pp.LinearConfig()).eval()
    model.save_pretrained(tmp_path)
    loaded = pp.load_adapter(tiny(checkpoint=tmp_path / "half.safetensors"), tmp_path)
    assert torch.equal(loaded(points), model(points))
    with pytest.raises(CheckpointError, match=hash_needed(tmp_path)):
        pp.load_adapter(encoder(), tmp_path)


def test_entries_that_do_not_fit_are_listed(folder):
    def change(state):
        del state["tuner.prompt_centers"]
        state["tuner.extra"] = torch.zeros(1)
        state["model.head.8.bias"] = torch.zeros(7)

    change_weights(folder, change)
    with pytest.raises(CheckpointError) as caught:
        pp.load_adapter(encoder(), folder)
    message = str(caught.value)
    assert "1 missing: tuner.prompt_centers" in message
    assert "1 surplus: tuner.extra" in message
    assert "1 of wrong shape: model.head.8.bias (7,) instead of (4,)" in message


def test_entries_of_the_frozen_encoder_are_surplus(folder):
    name = "model.backbone.blocks.0.attn.qkv.weight"
    change_weights(folder, lambda state: state.update({name: torch.zeros(72, 24)}))
    with pytest.raises(CheckpointError, match=f"surplus.*{name}"):
        pp.load_adapter(encoder(), folder)


def test_an_adapter_of_format_1_is_the_same_function(points):
    """Written by version 0.1, in which Point-PEFT's layers were part of the encoder's blocks."""
    old = Path(__file__).parent / "format1"
    assert read_adapter_config(old)["format_version"] == 1
    model = pp.load_adapter(encoder(), old)
    with torch.no_grad():
        torch.testing.assert_close(model(points), load_file(old / "logits.safetensors")["logits"])


def test_a_bank_that_is_missing_is_noticed(folder):
    change_weights(folder, lambda state: state.pop("tuner.bank.features"))
    with pytest.raises(CheckpointError, match="surplus"):
        pp.load_adapter(encoder(), folder)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_damaged_weights_are_refused(keep, folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CheckpointError, match=WEIGHTS):
        pp.load_adapter(encoder(), folder)


def test_weights_of_another_adapter_are_refused(folder, tmp_path):
    """As after half a copy: they have the same shapes, and would compute something else."""
    model = point_peft()
    train_a_little(model, clouds(3))
    model.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS, folder)
    with pytest.raises(CheckpointError, match=WEIGHTS):
        pp.load_adapter(encoder(), folder)


def test_missing_weights_are_named(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=WEIGHTS):
        pp.load_adapter(encoder(), folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        pytest.param(b"\xff\xfe"),
        pytest.param(b'{"format_version": "1"}'),
        pytest.param(b'{"format_version": 1}'),
    ],
    ids=str,
)
def test_a_damaged_config_is_refused(content, folder):
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(CheckpointError, match=CONFIG):
        pp.load_adapter(encoder(), folder)


@pytest.mark.parametrize(
    "base",
    [
        {},
        "x",
        None,
        {"name": {}, "config": {}, "num_points": 64, "hash": "0", "checkpoint": None},
        {"name": "point_mae", "config": 3, "num_points": 64, "hash": "0", "checkpoint": None},
        {"name": "point_mae", "config": {}, "num_points": 64, "hash": "0", "checkpoint": 1},
    ],
    ids=str,
)
def test_a_damaged_base_model_is_refused(base, folder):
    change_config(folder, base_model=base)
    with pytest.raises(CheckpointError, match=rf"{CONFIG}.*base_model\."):
        load_adapted(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 0), ("temperature", -1), ("temperature", "x"), ("temperature", None),
        ("class_names", "abcd"), ("class_names", ["a", "a", "b", "c"]), ("class_names", [1, 2]),
        ("class_names", ["a"]), ("num_classes", 0), ("num_classes", "4"), ("input", []),
        ("method", {"method": 3}), ("task", 1), ("parts", "x"),
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_value_is_refused_by_its_key(key, value, folder):
    change_config(folder, **{key: value})
    with pytest.raises(CheckpointError, match=rf"{CONFIG}.*{key}"):
        pp.load_adapter(encoder(), folder)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "[" * 100_000])
def test_what_is_no_json_is_refused(text, folder):
    content = (folder / CONFIG).read_text().rstrip().removesuffix("}")
    (folder / CONFIG).write_text(f'{content}, "more": {text}}}')
    with pytest.raises(CheckpointError, match=CONFIG):
        pp.load_adapter(encoder(), folder)


@pytest.mark.parametrize("names", [("a", "a", "b", "c"), ("a",)])
def test_what_could_not_be_read_is_not_saved(names, tmp_path):
    model = pp.get_peft_model(classifier(), pp.LinearConfig())
    model.class_names = names
    with pytest.raises(ConfigError, match="class_names"):
        model.save_pretrained(tmp_path / "names")
    model = pp.get_peft_model(classifier(), pp.LinearConfig())
    model.adapter.temperature = 0.0
    with pytest.raises(ConfigError, match="temperature"):
        model.save_pretrained(tmp_path / "temperature")
    assert not any(tmp_path.iterdir())


def test_a_file_is_no_folder_to_save_into(tmp_path):
    (tmp_path / "file").write_text("kept")
    model = pp.get_peft_model(classifier(), pp.LinearConfig())
    for place in (tmp_path / "file", tmp_path / "file/adapter"):
        with pytest.raises(ConfigError, match="file"):
            model.save_pretrained(place)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_newer_format_is_refused(folder):
    change_config(folder, format_version=99)
    with pytest.raises(CheckpointError, match=r"\b99\b"):
        pp.load_adapter(encoder(), folder)


def test_an_unknown_method_and_an_unknown_setting_are_refused(folder):
    method = read_adapter_config(folder)["method"]
    change_config(folder, method=method | {"num_prompt": 5})
    with pytest.raises(ValueError, match="num_prompts"):
        pp.load_adapter(encoder(), folder)
    change_config(folder, method=method | {"method": "point-peff"})
    with pytest.raises(ValueError, match="'point-peft'"):
        pp.load_adapter(encoder(), folder)


def test_a_full_disk_leaves_the_older_adapter(folder, points, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(tensors, filename, metadata=None):
        filename.write_bytes(b"part of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pointpeft.models.safetensors_files.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        point_peft(adapter_dim=6).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert pp.load_adapter(encoder(), folder)(points).shape == (3, 4)


class Killed(BaseException):
    """The end of the process at some step."""


def save_until(model, folder: Path, step: int, monkeypatch) -> bool:
    """Save, and end before the file system puts the ``step``-th file in its place."""
    steps = count()
    replace = Path.replace

    def killed(self, target):
        if next(steps) == step:
            raise Killed
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        try:
            model.save_pretrained(folder)
        except Killed:
            return False
    return True


def remembering(model, seed: int):
    """The model, whose adapter remembers a few shapes."""
    features = np.random.default_rng(seed).normal(size=(5, model.trunk.num_features))
    ids = [f"shape {place}" for place in range(5)]
    known = training_features(features.astype(np.float32), np.arange(5) % 4, ids, model.base_hash)
    model.adapter.remember(known)
    return model


@pytest.mark.parametrize("which", ["neither", "old", "new", "both"])
def test_whatever_ends_saving_leaves_the_old_adapter_or_the_new_one(
    which, folder, points, monkeypatch
):
    old, new = pp.load_adapter(encoder(), folder), point_peft()
    train_a_little(new, points)
    if which in ("old", "both"):
        remembering(old, 0)
    if which in ("new", "both"):
        remembering(new, 1)
    memories = [model.adapter.training_features for model in (old, new)]
    expected = [model.eval()(points) for model in (old, new)]
    found = []
    for step in count():
        old.save_pretrained(folder)
        finished = save_until(new, folder, step, monkeypatch)
        loaded = pp.load_adapter(encoder(), folder)
        found.append([torch.equal(loaded(points), each) for each in expected])
        assert same_memory(loaded.adapter.training_features, memories[found[-1].index(True)])
        if finished:
            break
    assert all(sum(each) == 1 for each in found)
    assert found == sorted(found, reverse=True)  # there is one step at which the new one is it
    assert found[0] == [True, False]
    assert found[-1] == [False, True]


def test_what_an_interrupted_save_of_more_classes_left_disturbs_nothing(folder):
    old = remembering(pp.load_adapter(encoder(), folder), 0)
    old.save_pretrained(folder)
    features = np.random.default_rng(1).normal(size=(9, old.trunk.num_features))
    more = training_features(
        features.astype(np.float32), np.arange(9), ["s"] * 9, old.adapter.base_hash
    )
    write_training_features(folder / "training_features.safetensors.next", more, "of another one")
    loaded = pp.load_adapter(encoder(), folder)
    assert same_memory(loaded.adapter.training_features, old.adapter.training_features)


def same_memory(one, other) -> bool:
    """Whether the same shapes are remembered, to the bit."""
    if one is None or other is None:
        return one is other
    same = torch.equal(one.features, other.features) and torch.equal(one.labels, other.labels)
    return same and (one.ids, one.encoder_hash) == (other.ids, other.encoder_hash)


def test_no_adapter_is_seen_before_it_is_whole(tmp_path, monkeypatch):
    for step in count():
        folder = tmp_path / str(step)
        if save_until(point_peft(), folder, step, monkeypatch):
            break
        if (folder / CONFIG).is_file():  # by which an adapter is known
            pp.load_adapter(encoder(), folder)


def test_files_of_others_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    point_peft().save_pretrained(tmp_path)
    point_peft().save_pretrained(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md", CONFIG, WEIGHTS, "notes.txt",
    ]  # fmt: skip


def test_a_folder_holds_the_files_of_its_adapter_alone(tmp_path):
    def names():
        return {path.name for path in tmp_path.iterdir()}

    remembering(adapted(LoRAConfig({"r": 2})), 0).save_pretrained(tmp_path)
    own = {"README.md", CONFIG, WEIGHTS}
    assert names() == own | {"hugging_face", "training_features.safetensors"}
    copy_adapter(tmp_path, tmp_path / "copy")
    assert names() == {path.name for path in (tmp_path / "copy").iterdir()} | {"copy"}
    shutil.rmtree(tmp_path / "copy")
    adapted(pp.BitFitConfig()).save_pretrained(tmp_path)
    assert names() == own
