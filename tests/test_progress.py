"""Long work shows how far it is: a bar on a terminal, elsewhere a line now and then."""

import io
import time

import pytest
from rich.console import Console

from pointpeft import progress
from pointpeft.progress import Meter


def shown(terminal: bool) -> str:
    """What a meter of three steps writes."""
    screen = io.StringIO()
    with Meter("voting", Console(file=screen, force_terminal=terminal, width=80)) as meter:
        for step in range(3):
            meter.update(step + 1, 3)
            time.sleep(0.15 * terminal)  # bars are drawn ten times a second
        meter.say("all votes are counted")
    return screen.getvalue()


def test_a_terminal_shows_a_bar_and_no_lines():
    text = shown(terminal=True)
    assert "2/3" in text
    assert "counted" not in text


def test_elsewhere_short_work_says_only_what_it_is_told_to():
    assert shown(terminal=False) == "voting: all votes are counted\n"


def test_elsewhere_long_work_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "_SILENCE", 0.0)
    first, second, last = shown(terminal=False).splitlines()
    assert first == "voting: 1/3, 33% done"  # one step tells no speed
    assert second.startswith("voting: 2/3, 67% done, about 0:00:0")
    assert last == "voting: all votes are counted"
