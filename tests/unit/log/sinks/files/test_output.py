# SPDX-License-Identifier: LGPL-2.1-or-later
"""Destinations: whole lines whatever happens to the disk or the reader, and an honest account
of what is missing.
"""

import collections
import concurrent.futures
import contextlib
import json
import os
import re
import resource
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from log.errors import TraceError
from log.events import VerdictInfo
from log.render import jsonl, text, xml
from log.sinks.files.channel import Channel
from log.sinks.files.output import Output, open_file
from tests.unit.log_samples import ATTACHED, DESTROY, LOST

ROOT = Path(__file__).parents[5]
LINE = jsonl.line(DESTROY)
READS = DESTROY._replace(write=False)


@pytest.fixture
def said():
    return []


def open_json(path, said):
    return open_file(str(path), jsonl.line, said.append)


def write_and_close(sink, calls):
    sink.write([DESTROY] * calls)
    sink.close()


def settle(sink):
    """All is written, and said."""
    assert sink._writer.wait(20)
    sink.tick(0)


def test_file_is_private_and_gets_every_line(tmp_path, said):
    sink = open_json(tmp_path / "log", said)
    sink.write([ATTACHED, DESTROY])
    sink.write([DESTROY])
    sink.close()
    assert (tmp_path / "log").read_text() == jsonl.line(ATTACHED) + LINE + LINE
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    assert said == []


def test_existing_file_is_appended_to(tmp_path, said):
    (tmp_path / "log").write_text("before\n")
    (tmp_path / "log").chmod(0o600)
    sink = open_json(tmp_path / "log", said)
    sink.write([DESTROY])
    sink.close()
    assert (tmp_path / "log").read_text() == "before\n" + LINE


def test_symbolic_link_is_refused(tmp_path, said):
    (tmp_path / "log").symlink_to(tmp_path / "shadow")
    with pytest.raises(TraceError, match=r"log: is a symbolic link; name the file itself$"):
        open_json(tmp_path / "log", said)
    assert not (tmp_path / "shadow").exists()


@pytest.mark.parametrize(
    "path, complaint",
    [
        ("/", "/: can't write there: is a directory"),
        ("/nonexistent/log", "/nonexistent/log: can't write there: no such file or directory"),
        ("/dev/fd/987654", "/dev/fd/987654: no such descriptor is open"),
        ("a\x1b\0b", '"a\\x1b\\x00b": is not a file name'),
    ],
)
def test_what_cannot_be_opened_is_said(path, complaint, said):
    with pytest.raises(TraceError) as error:
        open_json(path, said)
    assert str(error.value) == complaint


def test_pipe_without_a_reader_is_refused_at_once(tmp_path, said):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TraceError, match=r"pipe: nobody reads it; start its reader first$"):
        open_json(tmp_path / "pipe", said)


def test_own_descriptor_is_written_to_as_it_is(tmp_path, said):
    with open(tmp_path / "log", "wb") as file:
        file.write(b"before\n")
        file.flush()
        sink = open_json(f"/dev/fd/{file.fileno()}", said)
        sink.write([DESTROY])
        sink.close()
        file.write(b"after\n")
    assert (tmp_path / "log").read_text() == f"before\n{LINE}after\n"


def test_reopen_follows_a_rotation(tmp_path, said):
    sink = open_json(tmp_path / "log", said)
    sink.write([DESTROY])
    (tmp_path / "log").rename(tmp_path / "log.1")
    sink.write([ATTACHED])
    sink.reopen()
    sink.write([LOST])
    sink.close()
    assert (tmp_path / "log.1").read_text() == LINE + jsonl.line(ATTACHED)
    assert (tmp_path / "log").read_text() == jsonl.line(LOST)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_failed_reopen_keeps_the_old_file(tmp_path, said):
    sink = open_json(tmp_path / "log", said)
    (tmp_path / "log").rename(tmp_path / "log.1")
    (tmp_path / "log").mkdir()
    sink.reopen()
    sink.write([DESTROY])
    sink.close()
    assert (tmp_path / "log.1").read_text() == LINE
    assert said == [
        (
            f"{tmp_path}/log: can't write there: is a directory; still writing to the "
            "file that was open"
        )
    ]


def test_full_disk_is_reported_once_and_counted(said):
    sink = open_json("/dev/full", said)
    for _ in range(3):
        sink.write([DESTROY, DESTROY])
    assert said == [
        (
            "/dev/full: no space left on device; tracing goes on, and calls that can't be "
            "written there are counted"
        )
    ]
    sink.close()
    assert said[1:] == ["/dev/full: 6 calls were not written (no space left on device)"]


@pytest.mark.parametrize("render", [jsonl.line, text.line, xml.line])
def test_disk_that_fills_up_within_a_line_leaves_whole_lines_and_tells_what_is_missing(
    tmp_path, said, render
):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    line = render(DESTROY)
    sink = open_file(str(tmp_path / "log"), render, said.append)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * len(line) + 20, limits[1]))
        sink.write([DESTROY] * 5)
        assert (tmp_path / "log").read_text() == line * 2
        sink.write([DESTROY._replace(write=False), LOST, ATTACHED])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    sink.write([DESTROY])
    sink.close()
    lines = (tmp_path / "log").read_text().splitlines(keepends=True)
    assert lines[:2] == [line] * 2 and lines[4:] == [line]
    if render is jsonl.line:
        lost = {event["ring"]: event["count"] for event in map(json.loads, lines[2:4])}
        assert lost == {"write": 3, "read": 13}
        assert json.loads(lines[2])["reason"] == "not written: file too large"
    assert said == [
        (
            f"{tmp_path}/log: file too large; tracing goes on, and calls that can't be written "
            "there "
            "are counted"
        ),
        f"{tmp_path}/log: 4 calls were not written (file too large)",
    ]


def test_pipe_goes_on_with_its_next_reader(tmp_path, said):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = open_json(path, said)
    os.close(reader)
    sink.write([DESTROY, DESTROY])
    settle(sink)
    assert said == [
        (
            f"{path}: its reader is gone; tracing goes on, and calls that can't be "
            "written there are counted"
        )
    ]
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink.write([DESTROY])
    settle(sink)
    lost, call = os.read(reader, 65536).decode().splitlines()
    assert (json.loads(lost)["count"], json.loads(lost)["reason"]) == (
        2,
        "not written: its reader is gone",
    )
    assert call + "\n" == LINE
    sink.close()
    os.close(reader)


def test_line_that_a_reader_left_half_is_finished_for_the_next(tmp_path, said):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = open_json(path, said)
    os.set_blocking(first, True)
    calls = [DESTROY] * 1000  # more than a pipe holds
    sink.write(calls)
    got = os.read(first, 10)
    os.close(first)
    settle(sink)
    second = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(second, True)
    writing = threading.Thread(target=write_and_close, args=(sink, 1))
    writing.start()
    with open(second, "rb") as file:
        got += file.read()
    writing.join()
    events = [json.loads(line) for line in got.splitlines()]
    lost = [event for event in events if event["type"] == "lost"]
    assert len(lost) == 1 and lost[0]["count"] + len(events) - 1 == 1001


def test_slow_reader_of_a_non_blocking_pipe_gets_every_line(said):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    sink = Output(writer, "pipe", jsonl.line, said.append)
    writing = threading.Thread(target=write_and_close, args=(sink, 1000))
    writing.start()
    with open(reader) as file:
        assert file.read() == LINE * 1000
    writing.join()
    assert said == []


def rest_of(fd):
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def read_to_end(fd):
    with open(fd, "rb") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
def test_reader_that_sleeps_stops_nobody_and_is_told_what_it_missed(
    tmp_path, said, kind, monkeypatch
):
    monkeypatch.setattr("log.sinks.files.channel.ROOM", 300 * len(LINE))
    if kind == "fifo":
        os.mkfifo(tmp_path / "fifo")
        reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        sink = open_json(tmp_path / "fifo", said)
    else:
        reader, writer = (
            os.pipe() if kind == "pipe" else (end.detach() for end in socket.socketpair())
        )
        sink = Output(writer, kind, jsonl.line, said.append)
    made = 0
    while not said:
        sink.write([DESTROY] * 50)
        made += 50
    assert said[0].endswith(
        ": its reader does not keep up; tracing goes on, and calls that can't "
        "be written there are counted"
    )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        reading = pool.submit(read_to_end, reader)
        settle(sink)
        sink.write([DESTROY])
        sink.close()
        events = reading.result(20)
    (lost,) = [event for event in events if event["type"] == "lost"]
    assert lost["reason"] == "not written: its reader does not keep up"
    assert events[-1]["type"] == "call" and len(events) - 1 + lost["count"] == made + 1
    assert said[1:] == [
        said[0].partition(":")[0]
        + (f": {lost['count']} calls were not written (its reader does not keep up)")
    ]


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 12), st.booleans()), min_size=1, max_size=25
    )
)
@settings(max_examples=60)
def test_calls_that_only_read_make_way_for_the_others(batches):
    """However many they are: half of the room is not theirs. What is denied is no such call."""
    said: list[str] = []
    denied = READS._replace(verdict=VerdictInfo("deny", "keep"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("log.sinks.files.channel.ROOM", 700 * len(LINE))
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writer, b"{}\n"):
                pass
        sink = Output(writer, "pipe", jsonl.line, said.append)
        for reads, writes, first in batches:
            batch = [READS] * reads, [DESTROY, denied] * (writes // 2)
            sink.write([*batch[first], *batch[not first]])
        with concurrent.futures.ThreadPoolExecutor() as pool:
            reading = pool.submit(read_to_end, reader)
            sink.close()
            events = [event for event in reading.result(20) if event]
    kinds = collections.Counter((event["type"], event.get("write")) for event in events)
    made = sum(reads for reads, _, _ in batches), sum(writes // 2 for _, writes, _ in batches)
    assert (kinds["call", True], kinds["verdict", False]) == (made[1], made[1])
    lost = [event for event in events if event["type"] == "lost"]
    assert {event["ring"] for event in lost} <= {"read"}
    assert kinds["call", False] + sum(event["count"] for event in lost) == made[0]
    assert kinds["call", False] >= min(made[0], 200)


@pytest.mark.parametrize("calls", [1, 1000])
@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
def test_reader_that_never_wakes_up_is_given_up(tmp_path, said, kind, calls):
    """What it may still find in the pipe and what is said to be missing are all there was."""
    if kind == "fifo":
        os.mkfifo(tmp_path / "fifo")
        reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        sink = open_json(tmp_path / "fifo", said)
    else:
        reader, writer = (
            os.pipe() if kind == "pipe" else (end.detach() for end in socket.socketpair())
        )
        sink = Output(writer, kind, jsonl.line, said.append)
    for _ in range(10):
        sink.write([DESTROY] * calls)
    # few fit into the pipe, as soon as there is time to write them
    sink.close(lambda idle: calls > 1)
    with open(reader, "rb") as file:
        whole = file.read().count(b"\n")
    missing = (
        re.fullmatch(
            r".*: ([0-9]+) calls were not written \(its reader does not keep "
            r"up\)",
            said[0],
        )
        if calls > 1
        else None
    )
    assert whole + (int(missing[1]) if missing else 0) == 10 * calls
    assert len(said) == (calls > 1)


def test_rest_of_a_line_counts_with_its_call(said):
    """Of a text that has several lines for a call, too."""
    reader, writer = os.pipe()
    line = "x" * 4000 + "\n"
    sink = Output(writer, "pipe", lambda event: line * 3, said.append)
    sink.write([DESTROY] * 30)
    sink.close(lambda idle: True)
    with open(reader, "rb") as file:
        whole = len(file.read()) // len(line * 3)
    assert said == [f"pipe: {30 - whole} calls were not written (its reader does not keep up)"]


def test_lines_of_two_that_write_to_one_pipe_stay_whole(said):
    reader, writer = os.pipe()
    sinks = [Output(os.dup(writer), str(number), jsonl.line, said.append) for number in range(2)]
    errors = Channel(writer)
    for _ in range(20):
        for sink in sinks:
            sink.write([DESTROY] * 50)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        complaint = pool.submit(errors.send, b'{"type":"complaint"}\n')
        reading = pool.submit(read_to_end, reader)
        for sink in sinks:
            sink.close()
        assert complaint.result(20) == (21, None)
        errors.close()
        os.close(writer)
        assert sorted(event["type"] for event in reading.result(20)) == [
            *["call"] * 2000,
            "complaint",
        ]
    assert said == []


@given(
    actions=st.lists(
        st.tuples(st.sampled_from(["write", "read", "leave"]), st.integers(1, 400)), max_size=25
    ),
    waits=st.booleans(),
)
@settings(max_examples=60)
def test_whatever_readers_do_every_call_is_read_or_said_to_be_missing(actions, waits):
    """Readers of a named pipe come, read some bytes, and go; together they get whole lines,
    each call at most once.
    """
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("log.sinks.files.channel.ROOM", 200 * len(LINE))
        path = Path(folder) / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        sink = open_json(path, said)
        made, got = 0, b""
        for action, amount in actions:
            if action == "write":
                sink.write([DESTROY] * amount)
                made += amount
            elif action == "read":
                with contextlib.suppress(BlockingIOError):
                    got += os.read(reader, amount * 100)
            else:
                os.close(reader)
                if amount % 2:
                    sink.write([DESTROY])
                    made += 1
                reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            if waits:
                reading = pool.submit(rest_of, reader)
                sink.close()
            else:
                sink.close(lambda idle: True)
                reading = pool.submit(rest_of, reader)
            got += reading.result(20)
        os.close(reader)
    whole = got[: got.rfind(b"\n") + 1]
    events = [json.loads(line) for line in whole.splitlines()]
    missing = [
        int(count)
        for line in said
        for count in re.findall(
            r": ([0-9]+) calls were not "
            r"written",
            line,
        )
    ]
    assert sum(event["type"] == "call" for event in events) + sum(missing) == made
    if waits:
        assert whole == got
        assert sum(event["count"] for event in events if event["type"] == "lost") == sum(missing)


PIPED = """
import sys
from log.sinks.screen.console import open_screen
from tests.unit.log_samples import DESTROY
sink = open_screen(sys.stdout, "json", print)
try:
    while True:
        sink.write([DESTROY] * 100)
except BrokenPipeError:
    print("ended", file=sys.stderr)
"""


def test_closed_standard_output_ends_the_tracer():
    with subprocess.Popen(
        [sys.executable, "-c", PIPED],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout and program.stderr
        assert program.stdout.readline() == LINE
        program.stdout.close()
        assert program.stderr.read() == "ended\n"


def test_full_disk_behind_standard_output_is_only_reported():
    code = (
        PIPED.replace("while True:", "for _ in range(3):").replace(
            "print)", "lambda line: print(line, file=sys.stderr))"
        )
        + "sink.close()"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == (
        "standard output: no space left on device; tracing goes on, and calls that can't be "
        "written there are counted\n"
        "standard output: 300 calls were not written (no space left on device)\n"
    )


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o602])
def test_file_that_others_may_use_is_refused(tmp_path, said, mode):
    (tmp_path / "log").touch()
    (tmp_path / "log").chmod(mode)
    with pytest.raises(
        TraceError,
        match=(
            r"log: others may read or write it; chmod it to 600, "
            r"name another file, or give --shared-output$"
        ),
    ):
        open_json(tmp_path / "log", said)
    sink = open_file(str(tmp_path / "log"), jsonl.line, said.append, shared=True)
    sink.write([DESTROY])
    sink.close()
    assert (tmp_path / "log").read_text() == LINE


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_file_of_somebody_else_is_refused(tmp_path, said, make):
    make(tmp_path / "log")
    (tmp_path / "log").chmod(0o600)
    os.chown(tmp_path / "log", 65534, 65534)
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(
        TraceError,
        match=(
            r"log: belongs to somebody else; name another file, or "
            r"give --shared-output$"
        ),
    ):
        open_json(tmp_path / "log", said)
    os.close(reader)
