"""``pointpeft convert`` from the command line."""

import pointpeft as pp
from pointpeft.models.published import POINT_MAE_PRETRAINED
from tests.cli.conftest import run
from tests.models.test_published import publish
from tests.models.tiny import SIZES, tiny


def test_a_published_file_is_converted_and_used(tmp_path, monkeypatch):
    small = lambda name, task=None, preset=None, **settings: tiny(task, name, **settings)  # noqa: E731
    monkeypatch.setattr("pointpeft.peft.conversion.create_model", small)
    state = POINT_MAE_PRETRAINED.to_published(tiny("pretraining").state_dict())
    source = publish(tmp_path / "pretrain.pth", state)
    result = run("convert", source, tmp_path / "ours.safetensors")
    assert result.code == 0, result.text
    assert "Point-MAE, pre-trained" in result.text
    model = pp.create_model("point_mae", checkpoint=tmp_path / "ours.safetensors")
    assert model.config.dim == SIZES["dim"]


def test_other_files_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "notes.pth").write_text("hello")
    result = run("convert", tmp_path / "notes.pth", tmp_path / "ours.safetensors")
    assert result.code == 1
    assert "notes.pth" in result.text


def test_class_names_come_from_a_file_or_a_published_data_set(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr("pointpeft.peft.convert", lambda *arguments: given.append(arguments[-1]))
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
    assert "ours.safetensors is there already" in refused.err
    assert (tmp_path / "ours.safetensors").read_text() == "mine"
