"""The page about a shape, and the page about a run."""

import re
import shutil

import numpy as np
import pytest

from tests.cli.conftest import run
from tests.measure.test_report import WEBGL, Page, browse, needs_browser
from tests.training.support import TINY, mesh

SIZES = [each for each in TINY if each.startswith(("backbone.", "data.num_points"))]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, meshes):
    """The folder of a pre-training run of two epochs."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    result = run(
        "pretrain", "--data", meshes, "--output", folder, "--epochs", 2, *TINY,
        "pretraining.decoder_depth=1", "pretraining.contrast=0.1", "--save-published-format",
    )  # fmt: skip
    assert result.code == 0, result.err
    return folder


@pytest.fixture(scope="module")
def shape(tmp_path_factory):
    """One file."""
    path = tmp_path_factory.mktemp("shape") / "torus.off"
    mesh("torus", 3).export(path)
    return path


@pytest.fixture
def visualize(tmp_path):
    """Runs the verb and reads its page, or gives back why there is none."""

    def show(*arguments):
        page = tmp_path / "page.html"
        page.unlink(missing_ok=True)
        result = run("visualize", *arguments, "--output", page)
        if result.code:
            assert not page.exists()
            return result.text
        return Page(page)

    return show


def error_of_rebuilding(page):
    return re.search(r"Chamfer distance \(l2\) \S+", page.text)[0]


def test_a_run_shows_what_it_rebuilds(pretrained, shape, visualize):
    page = visualize(shape, "--checkpoint", pretrained)
    assert error_of_rebuilding(page)
    assert "4 of 8 are hidden" in page.text
    assert "last.ckpt" in page.text
    assert page.addresses == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"epoch,train_loss\n1",
        b"epoch\na\n",
        b"\xff",
        b"epoch,lr\n1,0.1\n",
        b"epoch,train_loss\n1,\n",
    ],
)
def test_damaged_curves_are_named(pretrained, content, tmp_path):
    run_folder = tmp_path / "damaged"
    shutil.copytree(pretrained, run_folder)
    (run_folder / "metrics.csv").write_bytes(content)
    result = run("visualize", run_folder)
    assert result.code == 1
    assert "metrics.csv" in result.text


def test_an_empty_line_behind_the_curves_is_none_of_them(pretrained, tmp_path):
    run_folder = tmp_path / "edited"
    shutil.copytree(pretrained, run_folder)
    with (run_folder / "metrics.csv").open("a") as file:
        file.write("\n")
    assert run("visualize", run_folder).code == 0


def test_the_mask_hangs_on_the_seed(pretrained, shape, visualize):
    first, same, other = (
        error_of_rebuilding(visualize(shape, "--checkpoint", pretrained, "--seed", seed))
        for seed in (1, 1, 2)
    )
    assert first == same != other


def test_a_file_of_the_whole_network_shows_the_same(pretrained, shape, visualize):
    of_run = visualize(shape, "--checkpoint", pretrained)
    of_file = visualize(shape, "--checkpoint", pretrained / "ckpt-last.pth", *SIZES)
    assert error_of_rebuilding(of_file) == error_of_rebuilding(of_run)


@pytest.mark.parametrize("whole", [True, False])
def test_an_encoder_alone_rebuilds_nothing(pretrained, shape, visualize, tmp_path, whole):
    """Given as a file, or as a run without its checkpoint."""
    checkpoint = pretrained / "backbone.safetensors"
    if whole:
        checkpoint = shutil.copytree(pretrained, tmp_path / "run")
        (checkpoint / "checkpoints/last.ckpt").unlink()
    page = visualize(shape, "--checkpoint", checkpoint, *SIZES)
    assert "4 of 8 are hidden" in page.text
    assert "Chamfer" not in page.text
    assert "Nothing is rebuilt" in page.text


def test_a_teacher_can_be_added(pretrained, shape, visualize, tmp_path):
    teacher = ["pretraining.distillation=1", "pretraining.teacher=random"]
    page = visualize(shape, "--checkpoint", pretrained, *teacher)
    assert "View 4" in page.text
    assert "shown the faces" in page.text
    scan = tmp_path / "scan.xyz"
    np.savetxt(scan, np.random.default_rng(0).normal(size=(100, 3)))
    for shown, more, count in ((scan, (), 128), (shape, ("procedural=8",), 64)):
        others = visualize(shown, "--checkpoint", pretrained, *teacher, *more)
        assert f"shown {count} points" in others.text
    assert "View 4" not in visualize(shape, "--checkpoint", pretrained).text
    assert error_of_rebuilding(page)


def test_a_run_shows_its_epochs_even_before_its_end(pretrained, visualize, tmp_path):
    page = visualize(pretrained)
    for title in ("Loss", "Term: reconstruction", "Term: contrast", "Clouds per second",
                  "Peak memory so far, bytes", "Learning rate"):  # fmt: skip
        assert title in page.text
    assert "The run has ended; 2 epochs" in page.text
    begun = shutil.copytree(pretrained, tmp_path / "begun")
    for content in ("{}", "[1]", '{"model": '):  # damaged
        (begun / "metrics.json").write_text(content)
        assert "has not ended" in visualize(begun).text
    (begun / "metrics.json").unlink()
    assert "has not ended" in visualize(begun).text
    (begun / "metrics.csv").unlink()
    assert "metrics.csv" in visualize(begun)


def test_without_output_the_page_is_in_the_run(pretrained):
    result = run("visualize", pretrained)
    assert result.code == 0, result.err
    assert (pretrained / "report.html").is_file()


def test_what_cannot_be_shown_is_refused(pretrained, shape, trained, visualize, tmp_path):
    assert "pre-training run" in visualize(trained)
    assert "pre-training run" in visualize(tmp_path)
    assert "pre-training run" in visualize(shape, "--checkpoint", trained)
    assert "--checkpoint" in visualize(pretrained, "seed=1")
    assert "none.off" in visualize(tmp_path / "none.off")
    assert "'mask_ratio'" in visualize(shape, "pretraining.mask_ratoi=1")
    assert "none.pth" in visualize(shape, "--checkpoint", "none.pth")
    refused = run("visualize", shape, "--output", tmp_path / "picture.png")
    assert refused.code == 1
    assert "--output" in refused.text


def test_a_shape_of_few_points_says_so_and_one_without_is_refused(visualize, tmp_path):
    few, none = tmp_path / "few.xyz", tmp_path / "none.xyz"
    points = np.random.default_rng(0).normal(size=(40, 3))
    np.savetxt(few, points)
    np.savetxt(none, np.zeros((40, 3)))
    assert "40 distinct points" in visualize(few, *SIZES).text
    assert "none.xyz" in visualize(none, *SIZES)


@needs_browser
def test_browser_draws_what_is_seen(pretrained, shape, tmp_path):
    teacher = ["pretraining.distillation=1", "pretraining.teacher=random"]
    page = tmp_path / "page.html"
    run("visualize", shape, "--checkpoint", pretrained, *teacher, "--output", page)
    dom = browse(page, tmp_path, *WEBGL)
    opening = dom[: dom.index("<head>")]
    assert 'data-state="drawn"' in opening
    assert "data-error" not in opening
    shown = dom[dom.index("<body") : dom.index('id="notes"')]
    assert shown.count("<canvas") >= 4  # cloud, patches, truth, rebuilt
    assert shown.count('class="heatmaplayer') == 2 * 4
