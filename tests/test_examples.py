"""Every script in examples runs from top to bottom, on a few shapes."""

import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import pointpeft as pp

FOLDER = Path(__file__).parents[1] / "examples"
RUNTIME = os.environ.get("ONNXRUNTIME_WEB", "")
SHORT = ["trainer.epochs=1", "trainer.batch_size=6"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Clouds of three classes, and a new one."""
    folder, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    points = rng.normal(size=(18, 1024, 3)) * rng.uniform(0.3, 1, size=(18, 1, 3))
    label = np.arange(18) % 3
    np.savez(folder / "shapes.npz", points=points, label=label, names=["a", "b", "c"])
    np.savetxt(folder / "new.xyz", rng.normal(size=(300, 3)))
    return folder


def run(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


def test_shapes_to_prediction(shapes, tmp_path, monkeypatch, capsys):
    source, part = shapes / "shapes.npz", shapes / "new.xyz"
    run(monkeypatch, "shapes_to_prediction", source, tmp_path / "run", part, *SHORT)
    assert str(part) in capsys.readouterr().out


def test_own_loop_and_three_adapters(shapes, tmp_path, monkeypatch, capsys):
    source, part = shapes / "shapes.npz", shapes / "new.xyz"
    run(monkeypatch, "own_loop", source, tmp_path / "stag", 1)
    assert pp.Predictor(tmp_path / "stag").predict([part])[0].label in "abc"

    data = pp.load_shapes(source, pp.InputTransform(1024))
    for name, config in {"linear": pp.LinearConfig(), "idpt": pp.IDPTConfig()}.items():
        model = pp.create_model("point_mae_small", num_classes=3, pretrained=True)
        model = pp.get_peft_model(model, config)
        model.save_pretrained(tmp_path / name, data.class_names, data.transform)
    capsys.readouterr()
    folders = [tmp_path / name for name in ("linear", "idpt", "stag")]
    run(monkeypatch, "three_adapters", *folders, part)
    memory, *predictions = capsys.readouterr().out.splitlines()
    trunk, together = (float(text.split(" MB")[0].split()[-1]) for text in memory.split(";"))
    assert together < 2 * trunk
    assert len(predictions) == 3


def test_pretrain_your_own(shapes, tmp_path, monkeypatch, capsys):
    source = shapes / "shapes.npz"
    sizes = ["backbone.depth=1", "backbone.dim=24", "backbone.num_groups=8"]
    run(monkeypatch, "pretrain_your_own", source, source, tmp_path / "run", *SHORT, *sizes)
    assert "linear SVM" in capsys.readouterr().out


@pytest.mark.skipif(not RUNTIME, reason="ONNXRUNTIME_WEB does not name an unpacked npm package")
def test_browser_page(shapes, tmp_path, monkeypatch, capsys):
    site = tmp_path / "site"
    run(monkeypatch, "browser_page", shapes / "shapes.npz", tmp_path / "run", RUNTIME, site)
    assert (site / "index.html").is_file()
    assert str(site) in capsys.readouterr().out


def test_scripts_are_short():
    scripts = sorted(FOLDER.glob("*.py"))
    assert len(scripts) == 6
    assert all(script.read_text().count("\n") <= 60 for script in scripts)


def test_onnx_without_torch(shapes, tmp_path, monkeypatch, capsys):
    source, cloud, folder = shapes / "shapes.npz", shapes / "new.xyz", tmp_path / "adapter"
    data = pp.load_shapes(source, pp.InputTransform(1024, up_axis="z"))
    model = pp.create_model("point_mae_small", num_classes=3, pretrained=True)
    model = pp.get_peft_model(model, pp.LinearConfig())
    model.save_pretrained(folder, data.class_names, data.transform)
    pp.export(folder, tmp_path / "model.onnx")
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    run(monkeypatch, "onnx_without_torch", tmp_path / "model.onnx", cloud)
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    expected = dict(pp.Predictor(folder).predict_file(cloud).ranking)
    assert {k: float(v) for k, v in printed.items()} == pytest.approx(expected, abs=2e-3)
