"""Every snippet of the README and of docs/ runs as it stands, in the order of its page.

A page runs in a folder of its own. Bash splits each line of a ``sh`` block into words and expands
what it would expand; the command itself then runs in this process. The ``python`` blocks of a page
share their names, as the cells of a notebook do. A block of code that begins with a comment which
is a file name is that file.

To stay short, training is one epoch and the shapes that come with the package are a few of them.
A block that cannot run on any machine says so behind its language, with a word of ``NOT_RUN``; its
commands are still parsed, and their settings checked. ``text printed`` is what commands above it
print, with other numbers.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import pointpeft as pp
from tests import documented
from tests.cli.conftest import run
from tests.training.conftest import light_runs  # noqa: F401 - shared fixture

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONG = {
    "choosing", "comparing", "export", "own-method", "part-segmentation", "point-peft",
    "pretraining",
}  # fmt: skip
"""Pages whose snippets take more than seconds."""
LANGUAGES = {"sh", "python", "yaml", "text"}
NOT_RUN = {
    "installs": "it makes an environment, or takes minutes: its targets and paths must exist",
    "published": "it needs data or weights that only their owners distribute",
    "serves": "it answers until it is stopped",
    "processes": "it needs torchrun, SLURM or several machines",
}

PRINTED = "printed"


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the word behind it, and the line that it begins at."""

    language: str
    mark: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """Name of the file that the block is, if it is one."""
        first = re.match(r"# (\w+\.(?:py|yaml))$", self.text.partition("\n")[0])
        return first and first[1]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    fence = re.compile(r"^```(\w*) ?(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [
        Block(*found.groups(), line=text[: found.start()].count("\n") + 1)
        for found in fence.finditer(text)
    ]


def commands(text: str) -> Iterator[str]:
    """Lines of a shell block, continued ones joined, without comments that stand alone."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Folder of programs that print their name and arguments, each ended by a zero byte."""
    folder = tmp_path_factory.mktemp("shell")
    for name in ("pointpeft", "python", "pip", "make", "torchrun", "srun"):
        (folder / name).write_text('#!/bin/sh\nprintf "%s\\0" "${0##*/}" "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def words(command: str, shell: Path) -> list[str]:
    """A command as bash understands it in the current folder."""
    done = subprocess.run(
        ["bash", "-c", command], env={"PATH": f"{shell}:/usr/bin:/bin"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout.split("\0")[:-1]


def carry_out(argv: list[str]) -> str:
    """Run a command in this process; what it prints comes back."""
    match argv:
        case ["pointpeft", *arguments]:
            result = run(*arguments)
            assert result.code == 0, f"{' '.join(argv)}\n{result.out}\n{result.err}"
            return f"{result.out}\n{result.err}"
        case ["python", "-c", code]:
            exec(compile(code, "python -c", "exec"), {})
            return ""
        case _:
            raise AssertionError(f"{argv}: mark the block with one of {list(NOT_RUN)}")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder with what a reader of any page may have, all of it small."""
    documented.shorten(monkeypatch)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    (tmp_path / "cfgs").symlink_to(ROOT / "cfgs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for file in tmp_path.glob("*.py"):
        sys.modules.pop(file.stem, None)


def prepare(page: Path, folder: Path) -> None:
    """What a page takes for granted: data of one's own, published data, published weights."""
    text = page.read_text()
    if "my_shapes" in text and page.name != "README.md":
        documented.write_shapes(folder / "my_shapes")
    if "labelled.npz" in text:
        documented.write_archive(folder / "labelled.npz")
    if page.name == "data.md":
        documented.write_published_data(folder / "data")
    if page.name == "point-peft.md":
        documented.write_published_model(folder)


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if p.stem in LONG else ()) for p in PAGES],
    ids=lambda page: page.stem,
)
def test_snippets_run_as_they_stand(page, workplace, shell, caplog):
    prepare(page, workplace)
    names: dict = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page):
        where = f"{page.name}, line {block.line}"
        assert block.language in LANGUAGES, f"{where}: which language is {block.language!r}?"
        assert block.mark in {"", PRINTED, *NOT_RUN}, f"{where}: {block.mark!r} is no reason"
        if block.file:
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            assert not block.mark, f"{where}: prepare what it needs"
            source = "\n" * block.line + block.text
            exec(compile(source, str(page), "exec"), names)
        elif block.language == "sh":
            for command in commands(block.text):
                argv = words(command, shell)
                if argv and block.mark:
                    documented.check(argv, ROOT)
                elif argv:
                    printed += carry_out(argv)
        elif block.mark == PRINTED:
            said = without_numbers("\n".join([printed, *caplog.messages]))
            for line in without_numbers(block.text).splitlines():
                assert line in said, f"{where}: {line}"
    if page.stem in PROMISES:
        PROMISES[page.stem](page.read_text(), workplace)


def without_numbers(text: str) -> str:
    return re.sub(r"[\d.,]*\d", "#", text)


def labelled_parts(text: str, folder: Path) -> None:
    """Labels lie on the points of the file itself, and every metric that is named is measured."""
    metrics = (folder / "runs/parts/metrics.json").read_text()
    named = re.findall(r"^\| `(test_\w+)` \|", text, re.MULTILINE)
    assert len(named) == 5
    for key in named:
        assert f'"{key}"' in metrics, key
    files = sorted(folder.glob("labelled/seat/*.ply"))
    assert len(files) == 2
    for file in files:
        given = folder / f"my_parts/seat/{file.stem}.xyz"
        assert np.array_equal(documented.read_points(file), documented.read_points(given))


def run_folder(text: str, folder: Path) -> None:
    """A run has every file that the page lists, and no other."""
    table = text.partition("| file | content |")[2].partition("\n\n")[0]
    listed = re.findall(
        r"`([\w.]+)/?`", "".join(row.split("|")[1] for row in table.splitlines()[2:])
    )
    assert sorted(listed) == sorted(path.name for path in (folder / "runs/mine").iterdir())


def best_encoder(text: str, folder: Path) -> None:
    """A pre-training that is measured keeps two encoders."""
    names = re.findall(r"`(backbone\w*\.safetensors)`", text)
    assert len(set(names)) == 2
    for name in names:
        assert (folder / "runs/checked" / name).is_file()


def method_on_every_backbone(text: str, folder: Path) -> None:
    """The method begins at the pre-trained function and trains the head, whatever the backbone."""
    import my_methods

    points = torch.rand(2, 1024, 3)
    for name in pp.list_models():
        if not name.endswith("_small"):
            continue
        model = pp.create_model(name, num_classes=3).eval()
        expected = model(points)
        tuned = pp.get_peft_model(model, my_methods.BottleneckConfig())
        torch.testing.assert_close(tuned(points), expected)
        segmenter = pp.create_model(name, num_parts=3, num_categories=1)
        trained = pp.get_peft_model(segmenter, my_methods.BottleneckConfig()).train()
        trained(points, category=torch.zeros(2, dtype=torch.long)).sum().backward()
        for part, parameter in trained.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, (name, part)


PROMISES = {
    "own-method": method_on_every_backbone,
    "part-segmentation": labelled_parts,
    "your-shapes": run_folder,
    "pretraining": best_encoder,
}
"""What holds when the snippets of a page have run."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)]+)?\)", page.read_text()):
        if target.startswith("http"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor[1:] in map(as_anchor, headings), f"{page.name}: {target}{anchor}"


def as_anchor(heading: str) -> str:
    """The address of a heading on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_readme_leads_to_every_page():
    readme = PAGES[0].read_text()
    for page in PAGES[1:]:
        assert f"](docs/{page.name})" in readme, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_verbs_flags_and_settings_that_are_named_exist(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose):
        if verb := re.match(r"pointpeft\s+(\w+)", span):
            assert verb[1] in documented.verbs(), span
        for flag in re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", span):
            foreign = ("--threads", "--nproc_per_node", "--kill-on-bad-exit")
            assert flag in documented.flags() or flag in foreign, span
        key = re.match(r"(data|trainer|optimizer|svm|few_shot)\.\w+(?==|$)", span)
        assert not key or key[0] in documented.settings(), span


def test_only_blocks_that_are_checked_hold_commands():
    for page in PAGES:
        for block in blocks(page):
            if block.language not in ("sh", "python"):
                command = re.search(
                    r"^(\$ )?(pointpeft|python|make|pip) ", block.text, re.MULTILINE
                )
                assert not command, f"{page.name}, line {block.line}"


def test_no_paragraph_stands_in_a_table_cell():
    for page in PAGES:
        for row in re.findall(r"^\|.*\|$", page.read_text(), re.MULTILINE):
            for cell in row.strip("|").split("|"):
                shown = re.sub(r"\]\([^)]*\)", "]", cell).strip()
                assert len(shown) < 160, f"{page.name}: {shown}"


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("pointpeft finetune --data my_shapes --epoch 3", "--epoch"),
        ("pointpeft tune --data my_shapes", "tune"),
        ("pointpeft finetune --data my_shapes trainer.epoch=3", "trainer.epoch"),
        ("pointpeft finetune --data my_shapes peft.prompts=3", "prompts"),
        ("pointpeft pretrain --data my_shapes backbone.widht=3", "widht"),
        ("pointpeft convert x.pth x.safetensors backbone.num_haeds=3", "num_haeds"),
        ("pointpeft pretrain --config Mixup_models/Point-BRET", "Point-BRET"),
        ("python main.py --config cfgs/fine-tuning/scan_pb.yaml --finetune", "--finetune"),
        ("python main.py --config cfgs/fine-tuning/x.yaml --finetune_model", "x.yaml"),
        (
            "python main.py --config cfgs/fine-tuning/scan_pb.yaml --finetune_model max_epochs=1",
            "max_epochs",
        ),
        ("torchrun --nproc_per_node=2 -m pointpeft finetune --dat my_shapes", "--dat"),
        ("make dem", "dem"),
        ("pip install elsewhere", "elsewhere"),
    ],
)
def test_a_command_that_is_not_run_is_checked(workplace, shell, capsys, command, wrong):
    with pytest.raises((Exception, SystemExit)) as error:
        documented.check(words(command, shell), ROOT)
    assert wrong in f"{error.value!r} {capsys.readouterr().err}"
