# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace log as it prints, without a tracer: events of samples on standard output."""

from __future__ import annotations

import io
import signal
import subprocess
import time

import pytest

from log.events import Event
from log.render import jsonl
from log.render.forms import ON_A_HOST, render_on_host
from log.sinks.screen.progress import Bar, open_bar
from log.sinks.screen.terminal import ERASE
from log.verbs import commands
from log.verbs.commands import show_log, show_report
from tests.needs import PATIENCE
from tests.recorded import TRACER
from tests.unit.log_samples import DESTROY, END, NS, START, call_on
from tests.unit.recording_samples import ABOUT, destroy, record

DAY = 24 * 3600 * NS


@pytest.fixture
def in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def lines_file(folder, *events: Event) -> str:
    """A file of JSON lines."""
    file = folder / "lines.json"
    file.write_text("".join(map(jsonl.line, events)))
    return str(file)


def test_first_line_and_each_change_of_the_day_is_told(tmp_path, capsys, in_utc):
    at = [START, START + NS, START + DAY, START + DAY + NS, time.time_ns()]
    file = lines_file(
        tmp_path, *(DESTROY._replace(time=ns) for ns in at), END._replace(time=at[-1])
    )

    assert show_log([file]) == 0
    assert [line[:20] for line in capsys.readouterr().out.splitlines()] == [
        "-- Wed 2023-11-15 --",
        "09:24:11.403660 4120",
        "09:24:12.403660 4120",
        "-- Thu 2023-11-16 --",
        "09:24:11.403660 4120",
        "09:24:12.403660 4120",
        time.strftime("-- %a %Y-%m-%d --", time.gmtime(at[-1] // NS)),
        time.strftime("%H:%M:%S", time.gmtime(at[-1] // NS))
        + (f".{at[-1] // 1000 % 10**6:06d} 4120"),
    ]


def test_a_time_ago_may_follow_its_option(tmp_path, capsys):
    long_ago, now = START, time.time_ns() - NS
    file = lines_file(tmp_path, *(DESTROY._replace(time=ns) for ns in (long_ago, now)))
    for words in (["--since", "-2h"], ["--since=-2h"]):
        assert show_log([*words, "--json", file]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("form", ["json", "xml"])
def test_forms_for_programs_have_no_lines_of_days(tmp_path, capsys, form):
    assert (
        show_log(
            [lines_file(tmp_path, DESTROY, DESTROY._replace(time=START + DAY)), "--format", form]
        )
        == 0
    )
    assert "--" not in capsys.readouterr().out


def test_lines_of_today_are_those_of_the_live_view(tmp_path, capsys):
    assert show_log([lines_file(tmp_path, DESTROY._replace(time=time.time_ns()))]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_what_is_not_shown_tells_no_day(tmp_path, capsys):
    assert show_log([lines_file(tmp_path, DESTROY._replace(parent="1-2"), END), "-p", "1"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [[], ["-s", "5"], ["--json"], ["--format", "xml"], ["--both"]])
def test_half_a_character_in_a_line_is_shown_as_bytes(tmp_path, capsys, words):
    half = "web\\ud800x\\udfffy\\udc80" + "z" * 300
    line = jsonl.line(call_on("NAME")).replace("NAME", half)
    (tmp_path / "lines.json").write_text(line)
    assert show_log([str(tmp_path / "lines.json"), *words]) == 0
    shown = capsys.readouterr().out.replace("\n", "")
    assert shown.isprintable() and "web" in shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("show", [show_log, show_report])
def test_bar_grows_to_the_end_and_is_gone_before_anything_else_is_said(
    tmp_path, capsys, monkeypatch, show
):
    """Three files, the last with a line of another program; what is said goes to the same
    terminal.
    """
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(commands, "open_bar", lambda: Bar(terminal, patience=0))
    monkeypatch.setattr("log.sinks.screen.progress._REDRAW", 0)
    monkeypatch.setattr(commands, "say", lambda line: terminal.write(f"{line}\n"))
    files = [
        lines_file(tmp_path / str(number), DESTROY)
        for number in range(3)
        if not (tmp_path / str(number)).mkdir()
    ]
    with open(files[-1], "a") as file:
        file.write("no event\n" * 1000)

    assert show(files) == 0
    drawn = terminal.getvalue()
    assert " 100 %" in drawn and drawn.index("%") < drawn.index(" 100 %")
    assert drawn.endswith(f"{ERASE}1000 lines are no event; left out\n"), "it is taken away before"
    assert "%" not in capsys.readouterr().out


def test_no_bar_where_there_is_no_terminal_or_no_total(monkeypatch):
    Bar(None, patience=0).seen(5)
    terminal = Terminal()
    bar = Bar(terminal, patience=0)
    bar.seen(5)
    bar.hide()
    assert terminal.getvalue() == ""
    assert open_bar()._file is None, "standard error is a file of pytest's"


def test_short_look_has_no_bar(monkeypatch):
    terminal = Terminal()
    bar = Bar(terminal, patience=3600)
    bar.will(10)
    bar.seen(5)
    bar.hide()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("verb", ["log", "report"])
def test_interrupted_ends_cleanly(verb):
    """Interrupted while it waits for more lines."""
    process = subprocess.Popen(
        [*TRACER, verb, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    try:
        # a pipe has room for 64 KiB: when more than that is written, it is being read
        process.stdin.write(jsonl.line(DESTROY).encode() * 200)
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60 * PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130 and errors == b"", errors
    assert not out or (verb == "log" and out.endswith(b"\n")), "whole lines, and no table of a part"


def test_nobody_who_reads_is_no_failure(tmp_path):
    file = lines_file(tmp_path, *[DESTROY] * 3000)
    process = subprocess.Popen(
        [*TRACER, "log", file],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    try:
        assert process.stdout.readline() and process.stdout.readline()
        process.stdout.close()
        assert process.wait(60 * PATIENCE) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("form", ON_A_HOST)
def test_record_is_told_in_every_form_with_its_host(form, tmp_path, capsys):
    events = [destroy(number, name) for number, name in enumerate(("web1", "=|'"), 1)]
    record(tmp_path, events)

    assert show_log(["--format", form, str(tmp_path)]) == 0
    assert capsys.readouterr().out == "".join(
        render_on_host(form)(event, ABOUT.host) for event in events
    )
