# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records that are written and read back: whole, killed, cut, damaged, with foreign files
beside them.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from log.client import Client
from log.errors import TraceError
from log.events import End, Event, Gap, Lost, Reads, Recording, Removed
from log.query.lines import Look
from log.query.query import Query
from log.query.reader import read
from log.recording.checking.verify import verify
from log.recording.folder import make_folder
from log.recording.format import INDEX, compress, skippable
from log.recording.frames import Content, frames
from log.recording.index import Indexes, tail
from log.recording.keeping import Keeping
from log.recording.recorder import Recorder
from log.render import jsonl
from tests.needs import ROOT
from tests.unit.log_samples import ATTACHED, DESTROY, LOST, call_on
from tests.unit.recording_samples import (
    ABOUT,
    READ,
    calls,
    destroy,
    index,
    is_busy,
    record,
    recorder,
    replay,
    segments,
    settle,
    without_index,
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "record"


def test_what_was_recorded_is_read_back(folder):
    events: list[Event] = [ATTACHED, destroy(1), destroy(2), LOST]
    record(folder, events[:2], events[2:])
    found, said = replay(folder)
    assert not said
    assert isinstance(found[0], Recording) and isinstance(found[-1], End)
    assert found[1:-1] == events


def test_no_descriptor_is_left_open(folder):
    record(folder, [destroy(1)])
    replay(folder)
    next(read([str(folder)], Look(Query(), Indexes(), pytest.fail))[0])  # and is left early
    with os.scandir("/proc/self/fd") as opened:
        assert not [entry for entry in opened if os.readlink(entry).startswith(str(folder))]


def test_segment_is_json_lines_for_other_programs(folder):
    (segment,) = record(folder, [destroy(1)], [destroy(2)])
    text = subprocess.run(["zstdcat", segment], check=True, capture_output=True).stdout.decode()
    types = [json.loads(line)["type"] for line in text.splitlines()]
    assert types == ["recording", "seal", "call", "seal", "call", "seal", "end", "seal"]
    assert subprocess.run(["zstd", "-tq", segment], check=False).returncode == 0


def test_closed_segment_ends_with_the_seek_table_of_its_frames(folder):
    (segment,) = record(folder, [destroy(1)], [destroy(2)])
    with segment.open("rb") as file:
        walked = [content for content in frames(file.read) if isinstance(content, Content)]
    rows = index(segment).rows
    places = zip(index(segment).offsets(), rows, strict=False)
    assert [(offset, row.size, row.content) for offset, row in places] == [
        (content.offset, content.size, len(content.data))
        for content in walked
        if not content.skippable
    ]
    # as zstd's format says: number of frames, descriptor, magic number
    data = segment.read_bytes()
    assert data[-9:] == (len(rows) + 1).to_bytes(4, "little") + b"\0" + bytes.fromhex("b1ea928f")


def test_folder_and_segments_are_ours_alone(folder):
    (segment,) = record(folder)
    assert folder.stat().st_mode & 0o777 == 0o700 and segment.stat().st_mode & 0o777 == 0o600


def test_recorder_tells_how_it_does(folder):
    before = time.time()
    with recorder(folder) as made:
        made.write([destroy(1)])
        made.write([LOST])
        settle(made)
        numbers = {gauge.name: gauge.value() for gauge in made.gauges()}
        status = made.status()
    (segment,) = segments(folder)
    sealed = segment.stat().st_size - len(tail(index(segment)))
    last = numbers.pop("record_last_write_seconds")
    assert last and before <= last <= time.time()
    assert numbers == {
        "record_written_calls": 1,
        "record_counted_calls": 0,
        "record_missing_calls": 0,
        "record_failing": False,
        "record_bytes": sealed,
        "record_segments": 1,
        "record_frames": len(index(segment).rows),
        "record_waiting_bytes": 0,
    }
    assert re.fullmatch(
        r"recording; 1 calls written, 0 counted, 0 missing; 0\.0 MB; "
        rf"last on disk: frame {numbers['record_frames']}, [0-9:.]+",
        status,
    )


def test_second_recorder_says_so_and_stops(folder):
    with recorder(folder):
        code = f"from log.recording.folder import make_folder; make_folder({str(folder)!r}).hold()"
        other = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert f"process {os.getpid()} records there" in other.stderr
    record(folder)  # it is free again


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_folder_that_others_may_look_into_is_refused(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(TraceError, match="chmod it to 700"):
        make_folder(str(folder))


def test_folder_that_is_a_link_is_refused(folder, tmp_path):
    folder.symlink_to(tmp_path)
    with pytest.raises(TraceError, match="is a symbolic link"):
        make_folder(str(folder))


def test_file_cut_at_every_byte_of_its_last_two_frames_loses_no_more_than_these(folder):
    (whole,) = record(folder, *[[destroy(number)] for number in range(4)])
    data = whole.read_bytes()
    ends = index(whole).offsets()[1:]
    expected = calls(replay(whole)[0])
    for cut in range(ends[-3], ends[-1] + 1):
        whole.write_bytes(data[:cut])
        found, said = replay(whole)
        kept = sum(end <= cut for end in ends)
        assert calls(found) == expected[: min(kept - 1, 4)]
        assert len(said) == (cut not in ends), (cut, said)
        assert not said or "its end is torn off; skipped" in said[0]


def test_recorder_goes_on_behind_a_torn_end(folder):
    (first,) = record(folder, [destroy(1)], [destroy(2)])
    data = first.read_bytes()
    offsets = index(first).offsets()
    torn = data[: offsets[-2] + 10]
    first.write_bytes(torn)
    record(folder, [destroy(3)])
    assert first.read_bytes() == torn, "what is there is never written to"
    found, said = replay(folder)
    assert len(said) == 1 and "torn" in said[0]
    assert calls(found) == [destroy(1), destroy(2), destroy(3)]
    gaps = [event.reason for event in found if isinstance(event, Gap)]
    assert gaps == ["killed"]
    heads = [event for event in found if isinstance(event, Recording)]
    assert (
        heads[1].previous is not None
        and heads[1].previous["segment"] == first.name
        and heads[1].previous["frame"] == len(offsets) - 2
    )


def test_killed_recorder_loses_nothing_that_was_urgent(folder):
    code = f"""
import os, signal
from pathlib import Path
from tests.unit.recording_samples import destroy, recorder, settle
with recorder(Path({str(folder)!r})) as made:
    for number in range(7):
        made.write([destroy(number)])
        settle(made)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode
        == -signal.SIGKILL
    )
    found, said = replay(folder)
    assert calls(found) == [destroy(number) for number in range(7)] and not said
    record(folder)
    assert [event.reason for event in replay(folder)[0] if isinstance(event, Gap)] == ["killed"]


def test_orderly_restart_is_a_gap_with_its_reason(folder):
    record(folder, [destroy(1)])
    record(folder, [destroy(2)])
    found, said = replay(folder)
    assert calls(found) == [destroy(1), destroy(2)] and not said
    assert [event.reason for event in found if isinstance(event, Gap)] == ["not running"]


@pytest.mark.parametrize("size", [0, 1, 3, 1000])
def test_garbage_in_place_of_a_segment_is_one_line(folder, size):
    record(folder, [destroy(1)])
    (folder / "host-20200101T000000Z.jsonl.zst").write_bytes(random.Random(size).randbytes(size))
    found, said = replay(folder)
    assert calls(found) == [destroy(1)]
    assert len(said) == 1 and "is empty" in said[0] if size == 0 else len(said) == 1


def _no_more() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("begin", [b"", b"{}\n", bytes.fromhex("28b52ffd00")])
def test_file_of_100_gb_that_are_not_there_is_a_line(folder, begin):
    """It would take minutes to read: by who asks, who checks, and who records there next."""
    record(folder, [destroy(1)])
    hollow = folder / "host-20260101T000000Z.jsonl.zst"
    hollow.write_bytes(begin)
    os.truncate(hollow, 100 << 30)
    found, said = replay(folder)
    assert calls(found) == [destroy(1)] and len(said) == 1 and len(said[0]) < 200
    assert not verify(str(folder), None).is_intact
    hollow.rename(folder / "host-20991231T000000Z.jsonl.zst")
    followed = read([str(folder)], Look(Query(nested=True), Indexes(), said.append, _no_more))[0]
    shown = []
    with pytest.raises(KeyboardInterrupt):
        for line in followed:
            shown.append(line.text)
    assert shown.count(jsonl.line(destroy(1)).strip().encode()) == 1
    record(folder, [destroy(2)])
    assert calls(replay(folder)[0]) == [destroy(1), destroy(2)]


def test_segment_of_a_newer_version_is_read(folder):
    """Without its index, where that is another one; what is not known here is passed over."""
    (segment,) = record(folder, [destroy(1)], [destroy(2)])
    data, end = segment.read_bytes(), index(segment).offsets()[-1]
    new = b'{"type":"of tomorrow","time":"2999-01-01T00:00:00.000000000Z","what":{"x":[1]}}\n'
    line = jsonl.line(destroy(3)).replace("}\n", ',"new":{"y":2}}\n').encode()
    rows = json.dumps({"version": 99, "columns": {}}).encode()
    segment.write_bytes(data[:end] + compress(new + line) + skippable(INDEX, compress(rows)))
    found, said = replay(folder)
    assert calls(found) == [destroy(1), destroy(2), destroy(3)] and not said


def test_folder_that_may_not_be_read_is_one_line(folder, monkeypatch):
    record(folder, [destroy(1)])
    (folder / "other").mkdir()
    opens = os.open

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith("other"):
            raise PermissionError(13, "Permission denied")
        return opens(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    found, said = replay(folder)
    assert calls(found) == [destroy(1)] and said == [f"{folder}/other: permission denied"]
    with pytest.raises(TraceError, match="other: permission denied"):
        replay(folder / "other")


def test_damaged_frame_costs_itself_only(folder):
    (segment,) = record(folder, *[[destroy(number)] for number in range(5)])
    offsets = index(segment).offsets()
    data = bytearray(segment.read_bytes())
    data[(offsets[3] + offsets[4]) // 2] ^= 0xFF
    for end in (len(data), offsets[-1]):  # with its index and without
        segment.write_bytes(data[:end])
        found, said = replay(segment)
        assert calls(found) == [destroy(number) for number in (0, 1, 3, 4)]
        assert len(said) == 1


def test_concatenated_segments_are_read_as_one(folder, tmp_path):
    (first,) = record(folder, [destroy(1)])
    (second,) = record(tmp_path / "other", [destroy(2)])
    joined = tmp_path / "joined"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    found, said = replay(joined)
    assert calls(found) == [destroy(1), destroy(2)] and not said


def test_link_in_place_of_a_segment_is_one_line(folder, tmp_path):
    (segment,) = record(folder, [destroy(1)])
    secret = tmp_path / "secret"
    segment.rename(secret)
    segment.symlink_to(secret)
    found, said = replay(folder)
    assert not found and said[0].endswith("is a symbolic link, not a segment")
    os.mkfifo(folder / "host-20200101T000000Z.jsonl.zst")
    assert "is no file" in "".join(replay(folder)[1])


def test_lines_of_other_programs_are_counted_and_left_out(tmp_path):
    path = tmp_path / "mixed.json"
    foreign = [
        '{"level":"info","msg":"x"}',
        "not json",
        '{"type":"call"}',
        '{"type":"of tomorrow","what":"paused"}',
        "",
    ]
    path.write_text(jsonl.line(destroy(1)) + "\n".join(foreign) + "\n" + jsonl.line(destroy(2)))
    found, said = replay(path)
    assert calls(found) == [destroy(1), destroy(2)] and said == ["3 foreign"]


def test_line_without_end_is_no_end_of_memory(tmp_path, monkeypatch):
    from log.query import lines

    monkeypatch.setattr(lines, "LONGEST_LINE", 10000)
    monkeypatch.setattr(lines, "_READ", 1000)
    path = tmp_path / "long.json"
    path.write_text(jsonl.line(destroy(1)) + "x" * 50_000 + "\n" + jsonl.line(destroy(2)))
    found, said = replay(path)
    assert (
        calls(found) == [destroy(1), destroy(2)]
        and len(said) == 1
        and ("a line has more than") in said[0]
    )


def test_zstd_of_other_programs_is_read(tmp_path):
    path = tmp_path / "events.json"
    path.write_text("".join(jsonl.line(destroy(number)) for number in range(1000)))
    subprocess.run(["zstd", "-q", path], check=True)
    found, said = replay(f"{path}.zst")
    assert calls(found) == [destroy(number) for number in range(1000)] and not said


def test_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(TraceError, match="no such file"):
        replay(tmp_path / "nothing")


def test_hosts_are_merged_by_time(tmp_path):
    for host, numbers in (("a", (1, 4, 5)), ("b", (2, 3, 6))):
        about = ABOUT._replace(host=host)
        made = Recorder(
            make_folder(str(tmp_path / host)), about, print, keeping=Keeping(spare=0), reads="full"
        )
        made.write([destroy(number) for number in numbers])
        made.close()
    tmp_path.chmod(0o700)
    found, said = replay(tmp_path)
    assert not said
    assert [call.time for call in calls(found)] == [destroy(number).time for number in range(1, 7)]


def test_reads_are_counted_and_none_is_missing(folder):
    made_for = READ._replace(tid=7, parent=None, client=Client(pid=1))
    batch: list[Event] = [READ._replace(time=READ.time + number) for number in range(23)]
    failed = READ._replace(failed=True, ret=-1)
    slow = READ._replace(duration_ns=10**9)
    with recorder(folder, reads="counted") as made:
        made.write([*batch, failed, destroy(1), made_for])
        made.write([LOST])
    assert (made.written, made.counted) == (2, 24)
    found, _ = replay(folder)
    counted = [event for event in found if isinstance(event, Reads)]
    assert sum(event.calls for event in counted) == 24 and len(counted) == 2
    assert calls(found) == [failed, destroy(1)]
    assert counted[0].total_ns == 23 * 4_100_000 and counted[0].max_ns == 4_100_000
    with recorder(folder, reads="counted") as made:
        made._counting._slower = 10**9
        made.write([slow, READ])
    assert calls(replay(folder)[0])[-1] == slow


def test_short_lived_programs_share_a_line_that_says_how_many_they_are(folder):
    several = 40
    callers = [READ.caller._replace(pid=100 + number) for number in range(several)]
    bash = READ.caller._replace(pid=7, exe="/bin/bash")
    alice = READ.caller._replace(pid=8, user="alice", uid=1000, cmdline=("virsh", "list"))
    clients = [Client(pid, user="bob", peer=Client(pid)) for pid in (200, 201)]
    batch: list[Event] = [READ._replace(caller=caller) for caller in callers for _ in range(3)]
    batch += [READ._replace(caller=bash), READ._replace(caller=alice)]
    batch += [READ._replace(caller=bash._replace(cmdline=("bash", "-c")))]
    batch += [READ._replace(client=client) for client in clients]
    with recorder(folder, reads="counted") as made:
        made.write(batch)
    assert (made.written, made.counted) == (0, len(batch))
    found, _ = replay(folder)
    virsh, shell, hers, daemon = (event for event in found if isinstance(event, Reads))
    assert (virsh.calls, virsh.processes) == (3 * several, several)
    assert virsh.pids == tuple(range(100, 132)) and virsh.caller == callers[0]
    assert (shell.calls, shell.processes, shell.pids) == (2, 1, ()), "one that has become another"
    assert shell.caller.cmdline is None
    assert (hers.calls, hers.processes, hers.caller) == (1, 1, alice)
    assert (daemon.calls, daemon.processes, daemon.pids) == (2, 2, (200, 201))
    assert daemon.client == Client(user="bob", peer=Client())
    for pid, lines in ((100, [virsh]), (139, [virsh]), (8, [virsh, hers]), (201, [virsh, daemon])):
        for _ in range(2):
            asked = replay(folder, query=Query(pids=(pid,)))[0]
            assert [event for event in asked if isinstance(event, Reads)] == lines
            if segments(folder)[0].read_bytes()[-4:] == b"\xb1\xea\x92\x8f":
                without_index(segments(folder)[0])


def test_so_many_programs_that_all_are_written_lose_no_call(folder, monkeypatch):
    from log.recording import counting

    monkeypatch.setattr(counting, "MOST_GROUPS", 10)
    callers = [READ.caller._replace(pid=number) for number in range(95)]
    with recorder(folder, reads="counted") as made:
        for caller in callers:
            made.write([READ._replace(caller=caller)])
    found = [event for event in replay(folder)[0] if isinstance(event, Reads)]
    assert sum(event.calls for event in found) == made.counted == 95
    assert [event.processes for event in found] == [10] * 9 + [5]


def test_read_that_caused_something_that_is_written_is_written_too(folder):
    parent = READ._replace(tid=1)
    id = f"1-{parent.time}"
    quiet = READ._replace(tid=2, parent=id, time=parent.time + 1)
    loud = destroy(1)._replace(tid=3, parent=id)
    with recorder(folder, reads="counted") as made:
        made.write([quiet, loud, parent])
        made.write([quiet._replace(parent=f"9-{parent.time}"), parent._replace(tid=9)])
    found, _ = replay(folder)
    assert [call.tid for call in calls(found)] == [3, 2, 1]
    assert sorted((event.calls, event.caused) for event in found if isinstance(event, Reads)) == [
        (1, False),
        (1, True),
    ]


def test_a_segment_that_is_removed_while_it_is_written_is_a_gap(folder):
    """What comes does not go to a file that has no name any more."""
    said: list[str] = []
    with recorder(folder, said=said) as made:
        made.write([destroy(0)])
        settle(made)
        (removed,) = segments(folder)
        removed.unlink()
        made.write([destroy(1)])
        settle(made)
    found, _ = replay(folder)
    assert calls(found) == [destroy(1)]
    (gap,) = [event for event in found if isinstance(event, Gap)]
    assert gap.reason == "removed while it was written" and gap.until > gap.time
    assert said == [
        f"{folder}: {removed.name} was removed while it was written; another segment begins"
    ]


def test_a_disk_that_does_not_answer_does_not_keep_the_recorder(folder, monkeypatch):
    from log.recording import writer

    hangs, answers, said = threading.Event(), threading.Event(), list[str]()

    def hang(fd):
        hangs.set()
        answers.wait()

    with recorder(folder, said=said) as made:
        monkeypatch.setattr(writer, "STALLED", 0.1)
        monkeypatch.setattr(os, "fdatasync", hang)
        made.write([destroy(0)])
        hangs.wait()
        made.write([destroy(1)])
    monkeypatch.undo()
    answers.set()
    made._writer._thread.join()
    assert said == [
        f"{folder}: 2 lines of the record could not be written (the disk does not answer)"
    ]


def test_full_disk_is_a_gap_and_recording_goes_on(tmp_path, monkeypatch):
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", mount], check=True)
    try:
        from log.recording import writer

        monkeypatch.setattr(writer, "AGAIN", 0.01)
        monkeypatch.setattr(writer, "ROOM", 20_000)
        said: list[str] = []
        with recorder(mount / "record", said=said) as made:
            made.write([destroy(0)])
            settle(made)
            filler = os.open(mount / "filler", os.O_WRONLY | os.O_CREAT)
            with pytest.raises(OSError, match="No space left"):
                while True:
                    os.write(filler, bytes(4096))
            os.close(filler)
            written = 1
            while not made.missed:
                made.write(
                    [
                        call_on(random.Random(written).randbytes(4000).hex())._replace(
                            time=destroy(written).time
                        )
                    ]
                )
                written += 1
                while not made._writer.has_failed() and is_busy(made):
                    time.sleep(0.001)
            assert "disk full" in said[0]
            (mount / "filler").unlink()
            settle(made)
            made.write([destroy(written)])
            written += 1
        found, faults = replay(mount / "record")
        assert not faults
        lost = [event for event in found if isinstance(event, Lost)]
        assert len(calls(found)) + sum(event.count for event in lost) == written
        assert lost[-1].reason == "not recorded: disk full"
        (gap,) = [event for event in found if isinstance(event, Gap)]
        assert gap.reason == "disk full" and gap.lost == made.missed > 0 and gap.until > gap.time
        assert any("the record goes on" in line for line in said)
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def test_old_segments_go_and_the_record_says_which(folder, monkeypatch):
    from log.recording import writer

    first = record(folder, [destroy(1)])[0]
    second = record(folder, [destroy(2)])[1]
    os.utime(first, (1, 1))
    monkeypatch.setattr(writer, "ANCHOR_NS", 0)
    record(folder, [destroy(3)], [destroy(4)])
    assert first not in segments(folder) and second in segments(folder)
    removed = [event for event in replay(folder)[0] if isinstance(event, Removed)]
    assert [(event.segment, event.reason) for event in removed] == [(first.name, "old")]


def test_long_record_is_cut_into_segments_and_at_its_begin(folder):
    batches = [
        [call_on(random.Random(number).randbytes(2000).hex())._replace(time=destroy(number).time)]
        for number in range(100)
    ]
    files = record(folder, *batches, keeping=Keeping(max_bytes=80_000, spare=0))
    assert len(files) > 3 and sum(file.stat().st_size for file in files) < 100_000
    found, said = replay(folder)
    numbers = [call.time for call in calls(found)]
    assert (
        not said
        and numbers == sorted(numbers)
        and numbers[-1] == destroy(99).time
        and len(numbers) > 20
    )
    assert {event.reason for event in found if isinstance(event, Removed)} == {"the record is long"}


@pytest.mark.parametrize(
    "query, wanted",
    [
        (Query(objects=("web3",)), [3]),
        (Query(objects=("web[34]",)), [3, 4]),
        (Query(objects=("*3",), functions=("virDomain*",)), [3]),
        (Query(functions=("virDomainGet*",)), [9]),
        (Query(writes=True, functions=("!*Create",)), [0, 1, 2, 3, 4]),
        (Query(failed=True), [5]),
        (Query(slower_ns=10**9), [6]),
        (Query(pids=(77,)), [7]),
        (Query(users=("alice",)), [8]),
        (Query(users=("1000",)), [8]),
        (Query(rules=("keep*",)), [5]),
        (Query(clients=("alice",)), [6]),
        (Query(grep="virDomainGetInfo"), [9]),
        (Query(since=destroy(9).time), [5, 6, 7, 8, 9]),
        (Query(until=destroy(1).time), [0, 1]),
        (Query(uuids=("00000000-0000-0000-0000-000000000001",)), [7]),
        (Query(comms=("virt-*",)), [4]),
    ],
)
def test_query_finds_what_a_look_at_every_event_does(folder, query, wanted):
    from log.events import VerdictInfo
    from log.values import Handle, Values

    events = [destroy(number, f"web{number}") for number in range(5)]
    events[4] = events[4]._replace(comm="virt-manager")
    events.append(
        destroy(5, "db")._replace(
            failed=True, ret=-1, verdict=VerdictInfo("deny", "keep-web"), function="virDomainCreate"
        )
    )
    events.append(
        destroy(6, "db")._replace(
            duration_ns=2 * 10**9, function="virDomainCreate", client=Client(user="alice")
        )
    )
    uuid = "00000000-0000-0000-0000-000000000001"
    on = Values({"domain": Handle("domain", {"name": "db", "uuid": uuid})})
    caller = DESTROY.caller
    events.append(
        destroy(7)._replace(caller=caller._replace(pid=77), args=on, function="virDomainCreate")
    )
    events.append(
        destroy(8, "db")._replace(
            caller=caller._replace(uid=1000, user="alice"), function="virDomainCreate"
        )
    )
    events.append(READ._replace(time=destroy(9).time))
    if query.clients or query.users:
        wanted = [*wanted] if not query.users or query.users == ("1000",) else sorted({*wanted, 6})
    (segment,) = record(folder, *[[event] for event in events])
    expected = [events[number] for number in wanted]
    assert calls(replay(folder, query=query)[0]) == expected
    without_index(segment)
    assert calls(replay(folder, query=query)[0]) == expected


@pytest.mark.parametrize(
    "query",
    [
        Query(users=("alice",)),
        Query(users=("1000",)),
        Query(pids=(99,)),
        Query(comms=("virsh",)),
        Query(clients=("alice",)),
    ],
)
def test_query_believes_nobody_whose_word_alone_says_for_whom_a_call_is(folder, query):
    """What anybody's program says of its clients is recorded, and chooses nothing."""
    says = Client(99, 1000, "alice", exe="/usr/bin/virsh")
    caller = DESTROY.caller._replace(pid=5, uid=65534, user="nobody", exe="/tmp/own")
    proved = destroy(1)._replace(comm="rpc", caller=caller, client=says)
    alone = destroy(2)._replace(comm="rpc", caller=caller, client=says._replace(unproved=True))
    record(folder, [proved], [alone])
    assert calls(replay(folder, query=query)[0]) == [proved]
    assert calls(replay(folder, query=Query(users=("nobody",)))[0]) == [proved, alone]


def test_so_many_rows_of_indexes_are_kept_in_memory(folder, monkeypatch):
    for number in range(3):
        with recorder(folder) as made:
            made.write([destroy(number)])
    rows = [len(index(path).rows) for path in segments(folder)]
    monkeypatch.setattr("log.recording.index.MOST_READ", sum(rows[:2]))
    indexes, kept = Indexes(), []
    for path in segments(folder):
        with path.open("rb") as file:
            kept.append(indexes.of(file.fileno()) is indexes.of(file.fileno()))
    assert kept == [True, True, False]


def test_frame_has_a_limit_however_much_comes_together(folder):
    long = destroy(0)._replace(comm="x" * 300_000)
    record(folder, [long] * 9)
    found = [one for path in segments(folder) for one in frames(path.open("rb").read)]
    sizes = [one.data.count(b'"function"') for one in found if isinstance(one, Content)]
    assert sum(sizes) == 9 and max(sizes) == 4, "as many as first are over 1 MiB"


def test_segment_has_so_many_frames(folder, monkeypatch):
    monkeypatch.setattr("log.recording.writer.MOST_FRAMES", 3)
    record(folder, *([destroy(number)] for number in range(9)))
    rows = [len(index(path).rows) for path in segments(folder)]
    assert len(rows) >= 3 and max(rows) == 3
    assert len(calls(replay(folder)[0])) == 9
