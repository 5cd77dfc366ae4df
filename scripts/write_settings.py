"""Writes docs/settings.md: every setting with its default and its meaning.

python scripts/write_settings.py
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pointpeft.models import get_entry, list_models
from pointpeft.peft import HuggingFaceConfig, PeftConfig, config_class, list_methods
from pointpeft.training import FinetuneConfig, PretrainConfig, SvmConfig
from pointpeft.training.settings import Setting, list_settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
INTRODUCTION = """# Settings

Every setting has a key. Give it on the command line as `key=value`, in a YAML file that `--config`
names, or in Python as `pp.load_config(pp.FinetuneConfig, values={"trainer.epochs": 20})`. The
complete settings of a run are in its `config.yaml`. A default of `null` means that the setting is
not set.

In YAML and in `key=value`, `${trainer.epochs}` stands for the value of another setting. For these
letters themselves write `\\${`. Values of `--data` and from Python are taken as they are.

`scripts/write_settings.py` writes this page from the code. `pointpeft finetune --help` and its like
show the same tables.
"""


def table(**columns: list[Setting]) -> str:
    """One table in Markdown of configs that have the same keys, a column of defaults for each."""
    lines = [f"| key | {' | '.join(columns)} | meaning |", "|---" * (len(columns) + 2) + "|"]
    for row in zip(*columns.values(), strict=True):
        defaults = " | ".join(f"`{each.default}`" for each in row)
        meaning = row[0].meaning.replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| `{row[0].key}` | {defaults} | {meaning} |")
    return "\n".join(lines)


def by_class(configs: dict[str, Any], prefix: str, leave_out: Sequence[Setting] = ()) -> list[str]:
    """Tables of named configs, one of each class, with a column for each name."""
    classes: dict[type, dict[str, list[Setting]]] = {}
    for name, config in configs.items():
        kind = config if isinstance(config, type) else type(config)
        if settings := [one for one in list_settings(config, prefix) if one not in leave_out]:
            classes.setdefault(kind, {})[name] = settings
    return [table(**columns) for columns in classes.values()]


def page() -> str:
    """The text of the page."""
    entries = {name: get_entry(name) for name in list_models()}
    objectives = {n: e.pretraining_config for n, e in entries.items() if e.pretraining_config}
    methods = {name: config_class(name) for name in list_methods()}
    methods = {n: kind for n, kind in methods.items() if not issubclass(kind, HuggingFaceConfig)}
    parts = [
        INTRODUCTION.strip(),
        "## `pointpeft finetune`",
        table(default=list_settings(FinetuneConfig)),
        "## `pointpeft pretrain`",
        table(default=list_settings(PretrainConfig)),
        "## `pointpeft svm`",
        table(default=list_settings(SvmConfig)),
        "## Methods",
        "`peft.head=lda` gives a classifier, under any method that is trained, [a head that begins "
        "as `lda`](methods.md#a-head-that-begins-as-lda). `full`, `bitfit` and `norm` have no "
        "other settings. Those of `lora`, `dora`, `ia3`, `vera` and `hugging-face` are the ones of "
        "the library peft, as in `peft.r=8`.",
        *by_class(methods, "peft.", leave_out=list_settings(PeftConfig, "peft.")),
        "## Backbones",
        *by_class({name: entry.config for name, entry in entries.items()}, "backbone."),
        "## Pre-training",
        *by_class(objectives, "pretraining."),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
