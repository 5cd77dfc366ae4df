"""Published checkpoints: both layouts, what is reported, and what is refused."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import (
    POINT_BERT_TOKENIZER,
    POINT_MAE_CLASSIFICATION,
    POINT_MAE_PRETRAINED,
)
from pointpeft.compat.checkpoints.checkpoint_reader import load_into, read_checkpoint
from pointpeft.compat.checkpoints.layouts import LAYOUTS
from pointpeft.errors import CheckpointError
from pointpeft.models.checkpoint import fill, recognise
from tests.models.tiny import settle, tiny

BY_TASK = {"pretraining": POINT_MAE_PRETRAINED, "classification": POINT_MAE_CLASSIFICATION}


def publish(path: Path, state: dict, parallel: bool = True, **other) -> Path:
    """Write a state dict under published names, with what stands beside it in published files."""
    prefix = "module." if parallel else ""
    torch.save(
        {
            "base_model": {prefix + name: tensor for name, tensor in state.items()},
            "epoch": 300,
            "metrics": {"acc": np.float64(93.0)},
            "best_metrics": {"acc": np.float32(93.5)},
            "optimizer": {},
            **other,
        },
        path,
    )
    return path


def published(path: Path, task: str, **options) -> tuple[torch.nn.Module, Path]:
    model = settle(tiny(task))
    return model, publish(path, BY_TASK[task].theirs(model.state_dict()), **options)


@pytest.fixture
def pretrained(tmp_path):
    return published(tmp_path / "pretrain.pth", "pretraining")


@pytest.fixture
def finetuned(tmp_path):
    return published(tmp_path / "ckpt-best.pth", "classification")


@pytest.mark.parametrize("task", BY_TASK)
def test_names_are_translated_both_ways(task):
    state, layout = tiny(task).state_dict(), BY_TASK[task]
    there = layout.theirs(state)
    assert recognise(list(there), LAYOUTS) is layout
    assert not any(name.startswith("backbone.") for name in there)
    back = layout.ours(there)
    assert list(back) == list(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_pointwise_layers_are_published_as_convolutions():
    there = POINT_MAE_PRETRAINED.theirs(tiny("pretraining").state_dict())
    assert there["MAE_encoder.encoder.first_conv.0.weight"].shape == (8, 3, 1)
    assert there["increase_dim.0.weight"].shape == (24, 24, 1)
    assert there["MAE_encoder.blocks.blocks.0.attn.qkv.weight"].ndim == 2


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("task", BY_TASK)
def test_a_published_file_gives_the_same_model(task, parallel, tmp_path):
    model, path = published(tmp_path / "model.pth", task, parallel=parallel)
    loaded = tiny(task, checkpoint=path)
    expected = model.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in loaded.state_dict().items())


@pytest.mark.parametrize("source", BY_TASK)
@pytest.mark.parametrize("task", ["features", "classification", "pretraining"])
def test_the_encoder_of_every_layout_goes_into_every_task(source, task, points, tmp_path):
    model, path = published(tmp_path / "model.pth", source)
    loaded = tiny(task, checkpoint=path)
    encoder = getattr(loaded, "backbone", loaded).eval()
    assert torch.equal(encoder(points).tokens, model.backbone.eval()(points).tokens)


def test_the_report_says_what_was_used_left_and_not_found(pretrained):
    model, path = pretrained
    backbone = {name for name in model.state_dict() if name.startswith("backbone.")}

    report = load_into(tiny(), path)
    assert report.layout == "Point-MAE, pre-trained"
    assert set(report.used) == backbone
    assert set(report.left) == model.state_dict().keys() - backbone
    assert report.fresh == ()

    classifier = tiny("classification")
    report = load_into(classifier, path)
    assert set(report.used) == backbone
    assert set(report.fresh) == classifier.state_dict().keys() - backbone
    text = str(report)
    assert f"{len(backbone)} entries used" in text
    assert "decoder" in text
    assert "keep their initial values (cls_pos, cls_token, head)" in text


@pytest.mark.parametrize(
    ("task", "level"),
    [("classification", "WARNING"), ("features", "INFO"), ("pretraining", "INFO")],
)
def test_what_the_task_needs_and_a_published_file_lacks_is_a_warning(
    task, level, pretrained, caplog
):
    caplog.set_level("INFO", "pointpeft")
    tiny(task, checkpoint=pretrained[1])
    (said,) = [record for record in caplog.records if "entries used" in record.getMessage()]
    assert said.levelname == level
    assert "pretrain.pth: Point-MAE, pre-trained: " in said.getMessage()


def test_what_a_fresh_head_was_asked_for_is_no_warning(finetuned, caplog):
    tiny("classification", num_classes=5, reset_head=True, checkpoint=finetuned[1])
    assert not caplog.records


def test_files_of_older_numpy_releases_are_read(pretrained):
    """Accuracies in files from before NumPy 2 name a module that has moved since."""
    model, path = pretrained
    old = path.with_name("old.pth")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(entry.filename, content)
    loaded = tiny("pretraining", checkpoint=old)
    assert torch.equal(loaded.mask_token, model.mask_token)


def test_the_older_file_format_of_torch_is_read(pretrained):
    model, path = pretrained
    content = {"base_model": POINT_MAE_PRETRAINED.theirs(model.state_dict())}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert torch.equal(tiny("pretraining", checkpoint=path).mask_token, model.mask_token)


def test_missing_encoder_entries_are_refused_and_listed(tmp_path):
    state = POINT_MAE_PRETRAINED.theirs(tiny("pretraining").state_dict())
    del state["MAE_encoder.norm.bias"], state["MAE_encoder.blocks.blocks.2.mlp.fc1.weight"]
    path = publish(tmp_path / "part.pth", state)
    with pytest.raises(CheckpointError, match="lacks 2") as caught:
        tiny(checkpoint=path)
    assert "backbone.norm.bias" in str(caught.value)
    assert "backbone.blocks.2.mlp.fc1.weight" in str(caught.value)


def test_a_deeper_model_is_refused(pretrained):
    with pytest.raises(CheckpointError, match=r"backbone\.blocks\.3"):
        tiny(depth=4, checkpoint=pretrained[1])


@pytest.mark.parametrize("name", ["i2p_mae", "point_mae_small"])
def test_a_file_of_another_model_says_which_one(name, pretrained):
    with pytest.raises(CheckpointError) as caught:
        pp.create_model(name, checkpoint=pretrained[1])
    message = str(caught.value)
    assert f"pretrain.pth is Point-MAE, pre-trained, but the model is {name}" in message
    assert "`model`=point_mae takes the file" in message
    assert "backbone." in message  # what does not fit


def test_a_file_of_a_tokenizer_is_proposed_for_no_other_task(tmp_path):
    state = POINT_BERT_TOKENIZER.theirs(tiny("pretraining", "point_bert_dvae").state_dict())
    path = publish(tmp_path / "dvae.pth", state)
    with pytest.raises(CheckpointError, match=r"Point-BERT, tokenizer.*point_bert"):
        tiny("classification", "point_bert", checkpoint=path)
    with pytest.raises(CheckpointError, match="`tokenizer`"):
        tiny("pretraining", "point_bert", checkpoint=path)


def test_wrong_shapes_are_refused_and_leave_the_model_alone(pretrained):
    model = tiny(dim=48)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"\(24,\).*\(48,\)"):
        load_into(model, pretrained[1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("values", [torch.tensor(torch.nan), torch.tensor(1)], ids=str)
def test_values_that_are_no_finite_numbers_are_refused_by_their_entry(values, tmp_path):
    state = settle(tiny("pretraining")).state_dict()
    state["backbone.norm.weight"] = values.repeat(len(state["backbone.norm.weight"]))
    file = publish(tmp_path / "pretrain.pth", POINT_MAE_PRETRAINED.theirs(state))
    with pytest.raises(CheckpointError, match=r"pretrain\.pth.*backbone\.norm\.weight"):
        tiny("features", checkpoint=file)


def test_a_head_for_other_classes_is_refused(finetuned):
    for name in ("point_mae", "point_mae_small"):  # which the encoder fits
        with pytest.raises(CheckpointError) as caught:
            tiny("classification", name, num_classes=5, checkpoint=finetuned[1])
        message = str(caught.value)
        assert "head.8.weight is (4, 256)" in message
        assert "reset_head=True" in message
        assert "takes the file" not in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"base_model": {"conv1.weight": torch.zeros(2)}}, ["no known layout", "conv1.weight"]),
        ({"base_model": {}}, ["state dict"]),
        ([torch.zeros(2)], ["state dict"]),
        (torch.zeros(2), ["state dict"]),
        ({"epoch": 3}, ["state dict"]),
    ],
    ids=["unknown", "empty", "list", "tensor", "without tensors"],
)
def test_files_without_a_known_model_are_refused(content, words, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as caught:
        tiny(checkpoint=tmp_path / "other.pth")
    for word in [*words, "other.pth"]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.model.", "net.", "ema.module."]
)
@pytest.mark.parametrize("wrapper", ["base_model", "net", "ema", None])
def test_what_wrappers_put_around_a_network_is_taken_off(prefix, wrapper, finetuned):
    model, path = finetuned
    names = POINT_MAE_CLASSIFICATION.theirs(model.state_dict())
    state = {prefix + name: tensor for name, tensor in names.items()}
    beside = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    torch.save({wrapper: state, **beside} if wrapper else state, path)
    loaded = tiny("classification", checkpoint=path)
    assert all(torch.equal(t, loaded.state_dict()[n]) for n, t in model.state_dict().items())


def test_a_prefix_is_taken_off_at_the_beginning_alone(finetuned):
    state = POINT_MAE_CLASSIFICATION.theirs(finetuned[0].state_dict())
    state["encoder.module.extra"] = torch.zeros(2)
    publish(finetuned[1], state)
    with pytest.raises(CheckpointError, match=r"backbone\.tokenizer\.embed\.module\.extra"):
        tiny("classification", checkpoint=finetuned[1])


def test_of_several_unknown_wrappers_none_is_guessed(finetuned):
    state = POINT_MAE_CLASSIFICATION.theirs(finetuned[0].state_dict())
    torch.save({"net": state, "ema": state}, finetuned[1])
    with pytest.raises(CheckpointError, match=r"ckpt-best\.pth.*net, ema"):
        read_checkpoint(finetuned[1])


def test_a_file_without_a_state_dict_names_what_it_has(tmp_path):
    torch.save({"epoch": 3, "args": {"lr": 0.1}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth.*epoch, args"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("inside", ["model.", ""], ids=["tuned", "pre-trained"])
def test_the_checkpoint_of_a_run_of_ours_is_known_and_the_run_named(inside, tmp_path):
    state = {f"model.{inside}{n}": t for n, t in tiny("pretraining").state_dict().items()}
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"pytorch-lightning_version": "2.6", "epoch": 1, "state_dict": state}, path)
    with pytest.raises(CheckpointError, match=rf"last\.ckpt.*{tmp_path / 'run'}\b.*resume"):
        read_checkpoint(path)


def test_a_mapping_without_names_is_refused(tmp_path):
    torch.save({0: torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError):
        tiny(checkpoint=tmp_path / "other.pth")


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_truncated_and_empty_files_are_refused(keep, pretrained):
    path = pretrained[1]
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CheckpointError, match="damaged"):
        tiny(checkpoint=path)


# The unpickler of torch raises whatever it stumbles over, not UnpicklingError alone.


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html>",
        b'{"base_model": {}}',
        pytest.param(b"hello world\n"),
        pytest.param(b"\x80"),
    ],
    ids=str,
)
def test_files_of_another_kind_are_refused(content, tmp_path):
    (tmp_path / "page.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        tiny(checkpoint=tmp_path / "page.pth")


class Payload:
    """Unpickling an instance creates the file ``target``."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("modern", [True, False])
def test_code_in_a_pickle_is_refused_and_does_not_run(modern, tmp_path):
    target, path = tmp_path / "ran", tmp_path / "model.pth"
    state = POINT_MAE_PRETRAINED.theirs(tiny("pretraining").state_dict())
    content = {"base_model": state, "metrics": Payload(target)}
    torch.save(content, path, _use_new_zipfile_serialization=modern)
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        tiny(checkpoint=path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists(), "the payload is harmless, so the test proves nothing"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\.pth"):
        read_checkpoint(tmp_path / "nothing.pth")


@pytest.mark.parametrize("count", [4, 5])
def test_a_fresh_head_is_begun_on_request(count, finetuned):
    model, path = finetuned
    loaded = tiny("classification", num_classes=count, checkpoint=path, reset_head=True)
    state, expected = loaded.state_dict(), model.state_dict()
    assert len(state["head.8.weight"]) == count
    assert not torch.equal(state["head.0.weight"], expected["head.0.weight"])
    rest = [name for name in state if not name.startswith("head.")]
    assert all(torch.equal(state[name], expected[name]) for name in rest)


def test_the_report_says_why_a_head_was_left(finetuned):
    report = fill(tiny("classification"), read_checkpoint(finetuned[1]), reset_head=True)
    assert all(name.startswith("head.") for name in report.left)
    assert "fresh head" in str(report)
