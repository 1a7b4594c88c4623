# SPDX-License-Identifier: LGPL-2.1-or-later
"""The screen: colour and a status line on a real terminal (a pty), and under them the
characters of the text line.
"""

import contextlib
import fcntl
import os
import re
import select
import struct
import termios
import threading

import pytest
from rich.text import Text

from log.events import Event
from log.render import text
from log.sinks.files.output import Output
from log.sinks.screen.console import Screen, open_screen
from log.sinks.screen.summary import Summary
from log.sinks.screen.terminal import make_console
from tests.unit.log_samples import ATTACHED, DESTROY, END, HOSTILE, LOST, call_on

EVENTS: list[Event] = [
    ATTACHED,
    DESTROY,
    call_on(HOSTILE),
    call_on("[bold]x[/bold]"),
    LOST,
    DESTROY._replace(depth=1),
    END,
]
LINES = "".join(text.line(event) for event in EVENTS if event is not END)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    def __init__(self, columns):
        self._screen, self._program = os.openpty()
        fcntl.ioctl(self._program, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        attributes = termios.tcgetattr(self._program)
        attributes[1] &= ~termios.OPOST  # else every \n arrives as \r\n
        termios.tcsetattr(self._program, termios.TCSANOW, attributes)
        self.file = os.fdopen(self._program, "w")

    def read(self, screen=None):
        """What is to be read once the screen has written all."""
        if screen:
            assert screen._writer.wait(20)
        got = b""
        poll = select.poll()  # other tests may have left high numbers
        poll.register(self._screen, select.POLLIN)
        while poll.poll(0):
            got += os.read(self._screen, 65536)
        return got.decode()

    def read_all(self):
        """In `got` is what comes until the last one that writes has closed it."""
        self.got = ""
        with contextlib.suppress(OSError):
            while got := os.read(self._screen, 1 << 20):
                self.got += got.decode(errors="replace")

    def hang_up(self):
        os.close(self._screen)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal(80)


def test_colour_changes_no_character(terminal):
    screen = open_screen(terminal.file, "text", print, status=False)
    assert isinstance(screen, Screen)
    screen.write(EVENTS)
    shown = terminal.read(screen)
    assert COLOUR.search(shown) and COLOUR.sub("", shown) == LINES
    # some releases of rich drop the last newline
    assert Text.from_ansi(shown).plain.rstrip("\n") + "\n" == LINES


def test_roles_have_their_colours(terminal):
    screen = open_screen(terminal.file, "text", print, status=False)
    screen.write([DESTROY])
    shown = terminal.read(screen)
    assert "\x1b[1mvirDomainDestroyFlags\x1b[0m(" in shown
    assert "=\x1b[36mweb1\x1b[0m, " in shown


def test_status_line_stays_below_the_log(terminal):
    screen = Screen(terminal.file, print)
    status = "0 calls/s, 0 open, 0 denied, 12 lost"
    screen.write(EVENTS)
    assert COLOUR.sub("", terminal.read(screen)) == LINES + status
    screen.message("libvirt-trace: careful")
    assert COLOUR.sub("", terminal.read(screen)) == f"\r\x1b[2Klibvirt-trace: careful\n{status}"
    screen.close()
    assert terminal.read(screen) == "\r\x1b[2K"


def test_status_line_follows_the_open_calls(terminal, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    screen = Screen(terminal.file, print)
    screen.write([DESTROY] * 30)
    terminal.read(screen)
    screen.tick(3)
    assert terminal.read(screen) == ""
    now[0] += 2
    screen.tick(3)
    assert COLOUR.sub("", terminal.read(screen)) == "\r\x1b[2K15 calls/s, 3 open, 0 denied, 0 lost"
    now[0] += 2
    screen.behind = (1200 << 20) + 4711
    screen.tick(3)
    shown = COLOUR.sub("", terminal.read(screen))
    assert shown == "\r\x1b[2K0 calls/s, 3 open, 1,200 MiB wait, 0 denied, 0 lost"
    screen.behind = 0
    now[0] += 2
    screen.tick(3)
    terminal.read(screen)
    now[0] += 2
    screen.tick(3)
    assert terminal.read(screen) == ""


def test_status_line_says_what_is_waited_for(terminal):
    screen = Screen(terminal.file, print)
    with screen.note("starting ..."):
        assert COLOUR.sub("", terminal.read(screen)) == "starting ..."
    screen.write([DESTROY])
    assert COLOUR.sub("", terminal.read(screen)) == (
        f"\r\x1b[2K{text.line(DESTROY)}0 calls/s, 0 open, 0 denied, 0 lost"
    )


@pytest.mark.parametrize("columns, shown", [(20, "0 calls/s, 0 open, "), (1, "")])
def test_status_line_never_wraps(monkeypatch, columns, shown):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(columns)
    screen = Screen(terminal.file, print)
    screen.message("")
    assert COLOUR.sub("", terminal.read(screen)) == "\n" + shown


def test_no_color_leaves_the_status_line(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    screen = open_screen(terminal.file, "text", print)
    screen.write(EVENTS)
    assert terminal.read(screen) == LINES + "0 calls/s, 0 open, 0 denied, 12 lost"


@pytest.mark.parametrize("term", ["dumb", ""])
def test_dumb_terminal_gets_plain_lines(terminal, monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    screen = open_screen(terminal.file, "text", print)
    assert isinstance(screen, Output)
    screen.write(EVENTS)
    assert terminal.read(screen) == LINES


def test_json_on_a_terminal_is_plain(terminal):
    assert isinstance(open_screen(terminal.file, "json", print), Output)


def test_piped_text_has_neither_colour_nor_status(tmp_path):
    with open(tmp_path / "log", "w") as file:
        open_screen(file, "text", print).write(EVENTS)
        assert (tmp_path / "log").read_text() == LINES


def test_terminal_that_was_closed_ends_the_tracer(terminal):
    screen = open_screen(terminal.file, "text", print)
    terminal.hang_up()
    with pytest.raises(BrokenPipeError):
        while True:
            screen.write(EVENTS)
    screen.close()


def test_terminal_that_was_stopped_stops_nobody(terminal, monkeypatch):
    """As with Ctrl-S. Lines that find no room are counted, and told of when it goes on."""
    monkeypatch.setattr("log.sinks.files.channel.ROOM", 1 << 19)
    said: list[str] = []
    screen = open_screen(terminal.file, "text", said.append, status=False)
    made = 1
    while not said:  # until there is no more room
        screen.write([DESTROY] * 100)
        made += 100
    assert said == [
        (
            "standard output: its reader does not keep up; tracing goes on, and calls "
            "that can't be written there are counted"
        )
    ]
    reading = threading.Thread(target=terminal.read_all)
    reading.start()
    assert screen._writer and screen._writer.wait(60)
    screen.write([DESTROY])
    screen.close()
    terminal.file.close()
    reading.join()
    shown = COLOUR.sub("", terminal.got)
    (lost,) = re.findall(
        "lost ([0-9]+) write calls: not written: its reader does not keep up", shown
    )
    assert shown.count(text.line(DESTROY)) + int(lost) == made
    assert said[1:] == [
        f"standard output: {lost} calls were not written (its reader does not keep up)"
    ]


def test_summary_keeps_its_numbers_in_a_narrow_window(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(30)
    summary = Summary()
    summary.write([DESTROY, call_on("x")._replace(function="[red]\x1b")])
    shown = summary.shown_on(make_console(terminal.file))
    rows = [line.split() for line in COLOUR.sub("", shown).splitlines()]
    assert [
        "virDomainDestroyFlags",
        "1",
        "0",
        "0",
        "4.1ms",
        "4.1ms",
        "4.1ms",
        "4.1ms",
        "4.1ms",
        "4.1ms",
    ] in rows
    assert any(row[:2] == ['"[red]\\x1b"', "1"] for row in rows)
