"""Settings have one text each, which the help and docs/settings.md show."""

import runpy
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pointpeft.models import get_entry, list_models
from pointpeft.peft import config_class, list_methods
from pointpeft.training import FinetuneConfig, PretrainConfig, SvmConfig
from pointpeft.training.config_files import setting_names
from pointpeft.training.settings import Setting, list_settings

ROOT = Path(__file__).parents[1]
RUNS = (FinetuneConfig, PretrainConfig, SvmConfig)
MODELS = [get_entry(name) for name in list_models()]
CONFIGS = (
    *RUNS,
    *map(config_class, list_methods()),
    *(entry.config for entry in MODELS),
    *(entry.pretraining_config for entry in MODELS if entry.pretraining_config),
)


@dataclass
class Inner:
    """A part of a config."""

    ratio: float = 1 / 3


@dataclass
class Base:
    """What another config builds on."""

    name: str | None = None  # None: any


@dataclass
class Outer(Base):
    """A config with comments in all places."""

    # told above,
    # in two lines
    sizes: tuple[int, ...] = (1, 2)
    silent: bool = False
    inner: Inner = field(default_factory=lambda: Inner(ratio=0.5))  # of no interest


def test_settings_are_listed_with_their_comments():
    assert list_settings(Outer, "x.") == [
        Setting("x.name", "null", "null: any"),
        Setting("x.sizes", "[1,2]", "told above, in two lines"),
        Setting("x.silent", "false", ""),
        Setting("x.inner.ratio", "0.5", ""),
    ]


@pytest.mark.parametrize("kind", RUNS)
def test_every_key_that_can_be_given_is_listed(kind):
    assert [setting.key for setting in list_settings(kind)] == setting_names(kind)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: getattr(config, "__name__", None))
def test_every_setting_has_a_meaning(config):
    assert [setting.key for setting in list_settings(config) if not setting.meaning] == []


def test_the_page_of_settings_is_up_to_date():
    """If not: python scripts/write_settings.py."""
    page = runpy.run_path(str(ROOT / "scripts/write_settings.py"))["page"]()
    assert page == (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    for setting in list_settings(FinetuneConfig):
        assert f"| `{setting.key}` | `{setting.default}` |" in page
