# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables that are redrawn on a real terminal (a pty), whatever is called how."""

from __future__ import annotations

import re

import pytest

from log.quote import name
from log.sinks.screen.redrawn import Redrawn
from log.sinks.screen.summary import Table
from tests.unit.log.sinks.screen.test_console import Terminal
from tests.unit.log_samples import HOSTILE

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")  # else rich asks standard input's terminal
    monkeypatch.setenv("LINES", "24")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal(80)


def test_screen_is_given_back_and_no_number_is_cut(terminal: Terminal) -> None:
    rows: list[tuple[str, ...]] = [
        ("x" * 300, "1234567.8", "9"),
        (name(HOSTILE), "1.0", "2"),
        ("[red]x", "3.0", "4"),
    ]
    with pytest.raises(ZeroDivisionError), Redrawn(terminal.file) as screen:
        screen.show([f"head {HOSTILE}"], [Table(("client", "calls/s", "errors"), rows)])
        drawn = terminal.read()
        raise ZeroDivisionError
    given_back = terminal.read()

    assert "\x1b[?1049h" in drawn and "\x1b[?1049l" in given_back and "\x1b[?25h" in given_back
    plain = CONTROL.sub("", drawn)
    assert plain.replace("\n", "").replace("\r", "").isprintable()
    assert "1234567.8" in plain and "[red]x" in plain and "xxx…" in plain
    assert max(map(len, plain.splitlines())) <= 80


def test_rows_fill_the_screen(terminal: Terminal) -> None:
    screen = Redrawn(terminal.file)
    assert screen.room(3, 1) == (24 - 1) // 3 - 3
    assert screen.room(3, 24) == 3
