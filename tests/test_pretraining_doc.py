"""What docs/pretraining.md shows runs as shown, with tiny networks and data."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import run
from tests.data.published import layouts
from tests.tasks.conftest import own_cache  # noqa: F401 - shared fixture
from tests.tasks.support import write_archive, write_meshes

ROOT = Path(__file__).resolve().parents[1]
DOC = ROOT / "docs" / "pretraining.md"
SHORT = ["trainer.epochs=1", "data.num_points=32", "backbone.num_groups=8", "backbone.group_size=8",
         "backbone.patch_widths=[8,12,16]", "trainer.accelerator=cpu"]  # fmt: skip
ENCODER = ["backbone.dim=24", "backbone.depth=1", "svm.every=1", "svm.num_points=32"]
BERT = ["backbone.embed_dim=16", "pretraining.num_tokens=12", "pretraining.feature_dim=10",
        "pretraining.queue_size=64"]  # fmt: skip
TOKENIZER = ["backbone.embed_dim=16", "backbone.num_tokens=12", "backbone.token_dim=10",
             "backbone.decoder_dim=16"]  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOC.read_text(), re.DOTALL)


def sizes(command: str) -> list[str]:
    """Overrides that make a command short."""
    if "dvae.yaml" in command:
        return [*SHORT, *TOKENIZER]
    few = [re.sub(r"=\d+$", "=4", word) for word in command.split() if "procedural=" in word]
    return [*SHORT, *ENCODER, *(BERT if "point-bert.yaml" in command else []), *few]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Shapes of one's own, and published data sets with clouds that are large enough."""
    made = layouts.clouds

    def larger(count, num_points, columns=6, seed=0):
        return made(count, 64, columns, seed)

    monkeypatch.setattr(layouts, "clouds", larger)
    layouts.write_shapenet(tmp_path / "data")
    layouts.write_modelnet(tmp_path / "data", train=6)
    write_meshes(tmp_path / "my_shapes", {"box": 4})
    write_archive(tmp_path / "labelled.npz")
    (tmp_path / "cfgs").symlink_to(ROOT / "cfgs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_run_as_shown(workplace):
    commands = [line for block in blocks("sh") for line in block.strip().splitlines()]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        result = run(*words, *sizes(" ".join(words)))
        assert result.code == 0, f"{command}\n{result.err}"
    for name in ("checked", "tokenizer", "point-bert"):
        assert (workplace / "runs" / name / "backbone_best.safetensors").is_file(), name


def test_python_example_runs():
    for example in blocks("python"):
        exec(compile(example, DOC.name, "exec"), {})


def test_files_that_it_links_to_exist():
    for target in re.findall(r"\]\(([^)#]+)", DOC.read_text()):
        assert target.startswith("http") or (DOC.parent / target).exists(), target
