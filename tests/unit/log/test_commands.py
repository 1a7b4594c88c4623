# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt-trace log as it prints, without a tracer: events of samples on standard output."""

from __future__ import annotations

import time

import pytest

from log.commands import show_log
from log.events import Event
from log.render import jsonl
from tests.unit.log_samples import DESTROY, END, NS, START

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
    file = lines_file(tmp_path, *(DESTROY._replace(time=ns) for ns in at), END._replace(time=at[-1]))

    assert show_log([file]) == 0
    assert [line[:20] for line in capsys.readouterr().out.splitlines()] == [
        "-- Wed 2023-11-15 --",
        "09:24:11.403660 4120",
        "09:24:12.403660 4120",
        "-- Thu 2023-11-16 --",
        "09:24:11.403660 4120",
        "09:24:12.403660 4120",
        time.strftime("-- %a %Y-%m-%d --", time.gmtime(at[-1] // NS)),
        time.strftime("%H:%M:%S", time.gmtime(at[-1] // NS)) + f".{at[-1] // 1000 % 10**6:06d} 4120",
    ]


@pytest.mark.parametrize("form", ["json", "xml"])
def test_forms_for_programs_have_no_lines_of_days(tmp_path, capsys, form):
    assert show_log([lines_file(tmp_path, DESTROY, DESTROY._replace(time=START + DAY)), "--format", form]) == 0
    assert "--" not in capsys.readouterr().out


def test_lines_of_today_are_those_of_the_live_view(tmp_path, capsys):
    assert show_log([lines_file(tmp_path, DESTROY._replace(time=time.time_ns()))]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_what_is_not_shown_tells_no_day(tmp_path, capsys):
    assert show_log([lines_file(tmp_path, DESTROY._replace(parent="1-2"), END), "-p", "1"]) == 0
    assert capsys.readouterr().out == ""
