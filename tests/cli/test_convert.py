"""``pointpeft convert`` from the command line."""

import torch

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_PRETRAINED
from pointpeft.compat.checkpoints.bank_files import read_bank
from tests.cli.conftest import run
from tests.models.test_published import publish
from tests.models.tiny import SIZES, clouds, tiny
from tests.peft.test_published import columns, converted, published_file, tuned

GROUPS = ("backbone.num_groups=8", "backbone.group_size=8")


def test_a_published_file_is_converted_and_used(tmp_path, caplog):
    state = POINT_MAE_PRETRAINED.theirs(tiny("pretraining").state_dict())
    source = publish(tmp_path / "pretrain.pth", state)
    result = run("convert", source, tmp_path / "ours.safetensors", "backbone.num_groups=8")
    assert result.code == 0, result.text
    assert "Point-MAE, pre-trained" in result.text
    assert "num_heads=6" in caplog.text, "what was assumed"
    model = pp.create_model("point_mae", checkpoint=tmp_path / "ours.safetensors")
    assert (model.config.dim, model.config.num_groups) == (SIZES["dim"], 8)


def test_a_tuned_file_becomes_a_folder_with_what_lies_beside_it(tmp_path, caplog):
    model, encoder = tuned("point_mae")
    source = published_file("point_mae", model, tmp_path)
    pp.save_model(encoder, tmp_path / "pretrain.safetensors")
    torch.save(columns(encoder).features.float(), tmp_path / "cache_shape.pt")
    model.set_bank(read_bank(tmp_path / "cache_shape.pt"), encoder)
    for name, bank in (("ours", ()), ("given", ("--bank", tmp_path / "cache_shape.pt"))):
        result = run("convert", source, tmp_path / f"{name}.safetensors", *GROUPS, *bank)
        assert result.code == 0, result.text
        assert "set_bank" not in caplog.text
        assert result.out.splitlines()[-1] == f"wrote {tmp_path / name}"
        assert torch.equal(converted(tmp_path / name, "point_mae")(clouds()), model(clouds()))


def test_other_files_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "notes.pth").write_text("hello")
    result = run("convert", tmp_path / "notes.pth", tmp_path / "ours.safetensors")
    assert result.code == 1
    assert "notes.pth" in result.text


def test_a_folder_is_no_file_of_weights(tmp_path):
    result = run("convert", tmp_path, tmp_path / "ours.safetensors")
    assert result.code == 1
    assert "folder" in result.text


def test_class_names_come_from_a_file_or_a_published_data_set(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        "pointpeft.compat.checkpoints.checkpoint_converter.convert",
        lambda *arguments: given.append(arguments[-1]),
    )
    (tmp_path / "tuned.pth").write_bytes(b"")
    (tmp_path / "names.txt").write_text("\ufeffchair\nStuhl ä\n\n", encoding="utf-8")
    command = ["convert", tmp_path / "tuned.pth", tmp_path / "ours", "--classes"]
    assert run(*command, tmp_path / "names.txt").code == 0
    assert run(*command, "obj_bg").code == 0
    assert given[0] == ["chair", "Stuhl ä"]
    assert len(given[1]) == 15
    refused = run(*command, "nothing.txt")
    assert refused.code == 1
    assert "nothing.txt" in refused.err


def test_what_is_there_is_not_written_over(tmp_path):
    (tmp_path / "tuned.pth").write_bytes(b"")
    (tmp_path / "ours.safetensors").write_text("mine")
    refused = run("convert", tmp_path / "tuned.pth", tmp_path / "ours.safetensors")
    assert refused.code == 1
    assert "ours.safetensors" in refused.err
    assert (tmp_path / "ours.safetensors").read_text() == "mine"
