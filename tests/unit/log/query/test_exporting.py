# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was recorded is sent once, in order, and a run goes on where the one before it stopped,
however that was.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from log.errors import TraceError
from log.events import Call, Event, call_id
from log.query import exporting
from log.query.exporting import Exporting, State, state_name
from log.query.query import Query
from log.recording.keeping import Keeping
from log.render import jsonl
from log.sinks.exporter import Refused, Unsent
from tests.needs import PATIENCE
from tests.recorded import TRACER
from tests.unit.log_samples import END, LOST
from tests.unit.recording_samples import destroy, record, recorder, segments, settle

SOON = 20 * PATIENCE  # s


class Taker:
    """A target that takes calls; `fails`: what it raises, one a batch, before it takes all."""

    label = "the taker"
    resumes = True

    def __init__(self, *fails: Exception) -> None:
        self.fails = list(fails)
        self.taken: list[tuple[str | None, Event]] = []
        self.held = 0

    def wants(self, event: Event) -> bool:
        return type(event) is Call

    def send(self, host: str | None, events: Sequence[Event]) -> None:
        failure = self.fails.pop(0) if self.fails else None
        taken = len(events) if failure is None else getattr(failure, "taken", 0)
        self.taken += [(host, event) for event in events[:taken]]
        if failure:
            raise failure

    def flush(self) -> None:
        self.held = 0

    def holds(self) -> int:
        return self.held

    def close(self) -> None:
        pass

    @property
    def events(self) -> list[Event]:
        return [event for _, event in self.taken]


def export(
    path: Path | str, target: Taker, to: str = "fake", query: Query | None = None, **more: object
) -> list[str]:
    """A run; what was said."""
    said: list[str] = []
    run = Exporting(to, target, query or Query(alone=True), said.append, **more)  # type: ignore[arg-type]
    run.run([str(path)])
    return said


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_FIRST_WAIT", 0.0)
    monkeypatch.setattr(exporting, "_LAST_WAIT", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "record"


def test_second_run_sends_only_what_is_new(folder: Path):
    events = [destroy(number) for number in range(9)]
    record(folder, events[:3], [LOST], events[3:6])
    target = Taker()
    assert export(folder, target) == [] and target.events == events[:6]
    assert {host for host, _ in target.taken} == {"host"}
    assert export(folder, target) == [] and target.events == events[:6]
    record(folder, events[6:])
    assert export(folder, target) == [] and target.events == events
    state = folder / state_name("fake")
    assert state.stat().st_mode & 0o777 == 0o600
    place = json.loads(state.read_text())["hosts"]["host"]
    assert place["segment"] == segments(folder)[-1].name


def test_each_target_has_a_state_of_its_own(folder: Path):
    record(folder, [destroy(1)])
    for to in ("fake", "fake=one", "fake=other"):
        target = Taker()
        export(folder, target, to)
        assert len(target.taken) == 1
    assert len(list(folder.glob(".export-fake*.json"))) == 3


def test_state_may_be_kept_elsewhere(folder: Path, tmp_path: Path):
    record(folder, [destroy(1)])
    state = str(tmp_path / "state")
    target = Taker()
    for _ in range(2):
        export(folder, target, state=state)
    assert len(target.taken) == 1 and not list(folder.glob(".export*"))


def test_run_that_failed_is_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exporting, "AT_ONCE", 4)
    monkeypatch.setattr(exporting, "_SAVE_AGAIN", 0.0)
    events = [destroy(number) for number in range(20)]
    record(folder, events)
    target = Taker(*[Unsent("down")] * 3, Unsent("half", taken=2))
    target.fails += [Unsent("gone")] * 5
    with pytest.raises(TraceError, match="the taker: gone; the next run goes on from here"):
        export(folder, target)
    assert target.events == events[:2]
    rest = Taker()
    export(folder, rest)
    assert rest.events == events[2:]
    target = Taker()
    assert export(folder, target) == [] and not target.taken


def test_place_is_kept_after_each_batch_unless_something_is_held(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exporting, "AT_ONCE", 4)
    monkeypatch.setattr(exporting, "_SAVE_AGAIN", 0.0)
    events = [destroy(number) for number in range(20)]
    record(folder, events)

    class Stops(Taker):
        """Takes two batches."""

        def send(self, host: str | None, events: Sequence[Event]) -> None:
            if len(self.taken) >= 8:
                raise KeyboardInterrupt
            super().send(host, events)

    for held, begin in ((1, 0), (0, 8)):
        target = Stops()
        target.held = held
        with pytest.raises(KeyboardInterrupt):
            export(folder, target)
        again = Taker()
        export(folder, again, state=None)
        assert again.events == events[begin:]
        (folder / state_name("fake")).unlink()


def test_refused_events_are_said_and_passed_over(folder: Path):
    record(folder, [destroy(1), destroy(2)])
    target = Taker(Refused("400 bad"))
    said = export(folder, target)
    assert said == ["the taker: 400 bad; 2 events are left out"]
    assert export(folder, target) == [] and not target.taken


def test_segment_that_was_removed_unsent_is_said(folder: Path):
    record(folder, [destroy(1)])
    target = Taker()
    export(folder, target)
    (old,) = segments(folder)
    record(folder, [destroy(2)])
    old.unlink()
    (said,) = export(folder, target)
    assert said.startswith(f"{old.name} is gone: ")
    assert target.events == [destroy(1), destroy(2)]


def test_filters_choose_what_is_sent(folder: Path):
    record(folder, [destroy(1, "web1"), destroy(2, "db1")])
    target = Taker()
    export(folder, target, query=Query(objects=("db*",), alone=True))
    assert target.events == [destroy(2, "db1")]


def test_folders_of_hosts_have_a_place_each(tmp_path: Path):
    for number, host in enumerate(("a", "b")):
        record(tmp_path / host, [destroy(number)])
    target = Taker()
    for _ in range(2):
        export(tmp_path, target)
    assert len(target.taken) == 2
    assert len(list(tmp_path.glob("*/.export-fake.json"))) == 2


def test_file_of_lines_is_sent_as_a_whole(tmp_path: Path):
    file = tmp_path / "lines.json"
    file.write_text(jsonl.line(destroy(1)) + "nonsense\n" + jsonl.line(END))
    target = Taker()
    assert export(file, target) == ["1 line is no event; left out"]
    assert target.taken == [(None, destroy(1))]


def test_torn_and_damaged_segments_lose_what_is_damaged_only(folder: Path):
    (segment,) = record(folder, [destroy(1)], [destroy(2)])
    whole = segment.read_bytes()
    with recorder(folder) as made:
        made.write([destroy(3)])
    second = segments(folder)[-1]
    segment.write_bytes(whole[: len(whole) // 2])
    target = Taker()
    said = export(folder, target)
    assert "are no frame; skipped" in said[0]
    assert target.events[-1] == destroy(3) and second.exists()


@pytest.mark.parametrize("follows", [False, True])
def test_segment_of_100_gb_that_are_not_there_is_passed_over(folder: Path, follows: bool):
    record(folder, [destroy(1)])
    hollow = folder / "host-20991231T000000Z.jsonl.zst"
    hollow.write_bytes(b"")
    os.truncate(hollow, 100 << 30)
    waits: list[int] = []

    def no_more() -> None:
        waits.append(1)
        raise KeyboardInterrupt

    target = Taker()
    with pytest.raises(KeyboardInterrupt) if follows else contextlib.nullcontext():
        export(folder, target, wait=no_more if follows else None)
    assert target.events == [destroy(1)] and len(waits) == follows


@pytest.mark.parametrize("content", ["", "[]", '{"hosts":{"host":{"segment":1}}}', "{" * 5000])
def test_damaged_state_is_said(folder: Path, content: str):
    record(folder, [destroy(1)])
    state = folder / state_name("fake")
    state.write_text(content)
    state.chmod(0o600)
    with pytest.raises(TraceError, match="says not how far an export was; remove it"):
        export(folder, Taker())


def test_state_of_others_is_not_believed(folder: Path, tmp_path: Path):
    record(folder, [destroy(1)])
    state = folder / state_name("fake")
    state.write_text('{"hosts":{}}')
    state.chmod(0o666)
    with pytest.raises(TraceError, match="others may have written it"):
        State(str(state))
    state.unlink()
    state.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TraceError):
        State(str(state))


def test_one_run_at_a_time_goes_on_from_a_state(folder: Path, tmp_path: Path):
    record(folder, [destroy(1)])
    state = State(str(folder / state_name("fake")))
    target = Taker()
    with pytest.raises(TraceError, match="another export sends this record there; end it first"):
        export(folder, target)
    assert target.taken == []
    export(folder, target, state=str(tmp_path / "own"))
    state.close()
    export(folder, target)
    assert len(target.taken) == 2


def test_record_is_followed_across_segments(folder: Path):
    events = [destroy(number) for number in range(30)]
    target = Taker()
    with recorder(folder, keeping=Keeping(spare=0, max_bytes=1 << 14)) as made:
        made.write(events[:1])
        settle(made)
        stop = threading.Event()

        def wait() -> None:
            if stop.wait(0.01):
                raise KeyboardInterrupt

        def follow() -> None:
            with pytest.raises(KeyboardInterrupt):
                export(folder, target, wait=wait)

        thread = threading.Thread(target=follow)
        thread.start()
        for event in events[1:]:
            made.write([event])
            settle(made)
        deadline = threading.Event()
        while len(target.taken) < len(events) and not deadline.wait(0.01):
            assert thread.is_alive()
        stop.set()
        thread.join(SOON)
    assert len(segments(folder)) > 2
    assert target.events == events


def test_command_sends_to_a_journal_and_goes_on(folder: Path, tmp_path: Path):
    import socket

    place = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(place))
        receiver.settimeout(SOON)
        for number in (1, 2):
            record(folder, [destroy(number)])
            done = subprocess.run(
                [*TRACER, "export", "--to", f"journal={place}", str(folder)],
                capture_output=True,
                text=True,
                timeout=SOON,
            )
            assert (done.returncode, done.stdout) == (0, ""), done.stderr
            sent = 2 if number == 1 else 3  # ends, and what was not recorded between the two
            assert done.stderr == f"libvirt-trace: {sent} events sent to {place}\n"
            entries = [receiver.recv(1 << 16) for _ in range(sent)]
            call = destroy(number)
            id = f"LIBVIRT_ID={call_id(call.tid, call.time)}\n".encode()
            assert sum(id in entry for entry in entries) == 1
            assert all(b"OBJECT_PID" not in entry for entry in entries)  # pids are of that time
            assert all(b"LIBVIRT_HOST=host\n" in entry for entry in entries)
    os.unlink(place)


def test_command_says_what_there_is_to_export_to():
    done = subprocess.run(
        [*TRACER, "export", "--to", "nothing"], capture_output=True, text=True, timeout=SOON
    )
    assert done.returncode == 2
    assert done.stderr.startswith("libvirt-trace: there is no export to 'nothing': name one of ")
