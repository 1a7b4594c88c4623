# SPDX-License-Identifier: LGPL-2.1-or-later
"""verify: whoever changes a record is found out, and times of which something is missing are
told with their cause.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from log.events import Removed
from log.parsing.fields import moment
from log.parsing.parse import parse
from log.recording import writer
from log.recording.checking import verify as module
from log.recording.checking.anchors import Anchor, anchors_of
from log.recording.checking.findings import Findings
from log.recording.checking.verify import _event, _made, verify
from log.recording.format import NO_CHAIN, compress, seal_line
from log.recording.frames import Content, frames
from log.recording.index import Index, tail
from tests.unit.log_samples import LOST
from tests.unit.recording_samples import destroy, index, record, recorder, segments, settle


@pytest.fixture
def folder(tmp_path):
    """Three segments, of restarts in good order, with five frames each."""
    for start in (0, 3, 6):
        record(tmp_path / "record", *[[destroy(start + number)] for number in range(3)])
    return tmp_path / "record"


def contents(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [
            part.data
            for part in frames(file.read)
            if isinstance(part, Content) and not part.skippable
        ]


def rewrite(path: Path, parts: list[bytes]) -> None:
    """The frames, with an index that fits them."""
    before, made, data = index(path), Index(), b""
    words = [
        {mark for mark, frames in before.marks.items() if frames >> number & 1}
        for number in range(len(before.rows))
    ]
    for number, content in enumerate(parts):
        raw = compress(content)
        like = min(number, len(before.rows) - 1)
        made.add(before.rows[like]._replace(size=len(raw), content=len(content)), words[like])
        data += raw
    path.write_bytes(data + tail(made))


def change(path: Path) -> None:
    parts = contents(path)
    parts[2] = parts[2].replace(b"web1", b"web2")
    rewrite(path, parts)


def take_line(path: Path) -> None:
    parts = contents(path)
    parts[2] = parts[2].partition(b"\n")[2]
    rewrite(path, parts)


def add_line(path: Path) -> None:
    parts = contents(path)
    parts[2] = parts[2].partition(b"\n")[0] + b"\n" + parts[2]
    rewrite(path, parts)


def take_frame(path: Path) -> None:
    parts = contents(path)
    rewrite(path, parts[:2] + parts[3:])


def swap_frames(path: Path) -> None:
    parts = contents(path)
    rewrite(path, [parts[0], parts[2], parts[1], *parts[3:]])


def repeat_frame(path: Path) -> None:
    parts = contents(path)
    rewrite(path, [*parts[:3], parts[2], *parts[3:]])


def seal_anew(path: Path) -> None:
    """Changes a line and seals its frame again, as it should be; what follows stays."""
    parts = contents(path)
    before, seal = json.loads(parts[1].splitlines()[-1]), json.loads(parts[2].splitlines()[-1])
    body = b"\n".join(parts[2].replace(b"web1", b"web2").split(b"\n")[:-2]) + b"\n"
    line, _ = seal_line(seal["time"], seal["frame"], body, seal["count"], before["chain"])
    parts[2] = body + line
    rewrite(path, parts)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[index(path).offsets()[2] + 20] ^= 1
    path.write_bytes(data)


def cut_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: index(path).offsets()[-3]])


def lie_in_the_index(path: Path) -> None:
    found = index(path)
    found.rows = [row._replace(holds=0) for row in found.rows]
    path.write_bytes(path.read_bytes()[: found.offsets()[-1]] + tail(found))


def hide_a_name_in_the_index(path: Path) -> None:
    found = index(path)
    found.marks = {mark: frames & 1 for mark, frames in found.marks.items()}
    path.write_bytes(path.read_bytes()[: found.offsets()[-1]] + tail(found))


def add_behind(path: Path) -> None:
    path.write_bytes(path.read_bytes() + compress(b'{"type":"call"}\n'))


def remove(path: Path) -> None:
    path.unlink()


def put_a_copy(path: Path) -> None:
    (path.parent / path.name.replace("-2", "-29")).write_bytes(path.read_bytes())


def rename(path: Path) -> None:
    path.rename(path.parent / path.name.replace("-2", "-29"))


TAMPERING: dict[Callable[[Path], None], str] = {
    change: "frame 3 .* was changed",
    take_line: "frame 3 .* was changed",
    add_line: "frame 3 .* was changed",
    take_frame: "frame 3 .* frames before it were removed",
    swap_frames: "frame 2 .* frames before it were removed",
    repeat_frame: "frame 4 .* out of its place",
    seal_anew: "frame 4 .* the chain is broken",
    flip_a_bit: "are no frame",
    cut_the_end: "was cut or changed at its end",
    lie_in_the_index: "its index does not say what is in it",
    hide_a_name_in_the_index: "its index does not say what is in it",
    add_behind: "something was added",
    remove: "segments were removed, added or renamed",
    put_a_copy: "segments were removed, added or renamed",
    rename: "segments were removed, added or renamed",
}


def test_record_that_nobody_touched_is_intact(folder):
    report = verify(str(folder))
    assert report.is_intact and (report.segments, report.frames) == (3, 15)
    assert [gap.cause for gap in report.missing] == [("not running")] * 3 and report.missing[
        -1
    ].end == 0


@pytest.mark.parametrize(
    "tamper, said", TAMPERING.items(), ids=lambda item: getattr(item, "__name__", "")
)
def test_tampering_is_found_and_its_place_is_named(folder, tamper, said):
    tamper(segments(folder)[1])
    report = verify(str(folder))
    assert not report.is_intact
    assert re.search(said, report.faults[0]), report.faults


def test_first_segment_that_is_missing_was_removed_on_purpose_or_not(folder, monkeypatch):
    first = segments(folder)[0]
    kept = first.read_bytes()
    first.unlink()
    assert "nothing says that it was removed on purpose" in verify(str(folder)).faults[0]
    first.write_bytes(kept)
    os.utime(first, (1, 1))
    monkeypatch.setattr(writer, "ANCHOR_NS", 0)
    record(folder, [destroy(9)])
    assert first not in segments(folder)
    assert verify(str(folder)).is_intact, "retention does not break the chain"


def anchored(folder: Path) -> list[Anchor]:
    lines: list[str] = []
    with recorder(folder) as made:
        made._writer._segments._anchor = lines.append
        made.write([destroy(9)])
        settle(made)
    assert lines
    (folder.parent / "log").write_text(
        "".join((f"Nov 26 03:32:33 host libvirt-trace[7]: {line}\n") for line in lines)
    )
    return anchors_of(str(folder.parent / "log"))


def test_anchors_agree_with_a_record_that_nobody_touched(folder):
    anchors = anchored(folder)
    report = verify(str(folder), anchors)
    assert report.is_intact and report.anchors == len(anchors)


def test_end_that_was_cut_is_found_by_an_anchor_only(folder):
    anchors = anchored(folder)
    last = segments(folder)[-1]
    last.write_bytes(last.read_bytes()[: index(last).offsets()[1]])
    assert verify(str(folder)).is_intact, "as after a kill"
    assert verify(str(folder)).missing[-1].cause == "killed"
    assert "which is not there" in verify(str(folder), anchors).faults[0]


def test_record_that_was_made_anew_is_found_by_an_anchor_only(folder):
    anchors = anchored(folder)
    chain, number = NO_CHAIN, 0
    for path in segments(folder):
        parts = []
        for content in contents(path):
            seal = json.loads(content.splitlines()[-1])
            body = b"\n".join(content.replace(b"web1", b"web2").split(b"\n")[:-2])
            body += b"\n" if body else b""
            if b'"previous":{' in body:
                head, _, rest = body.partition(b'"chain":"')
                body = head + b'"chain":"' + chain.encode() + rest[64:]
            number += 1
            line, chain = seal_line(seal["time"], number, body, seal["count"], chain)
            parts.append(body + line)
        rewrite(path, parts)
    for path in segments(folder):  # the index, too
        parts, data, made = contents(path), b"", Index()
        for content in parts:
            raw = compress(content)
            body = content[: content.rfind(b"\n", 0, len(content) - 1) + 1]
            events = [_event(parse, line) for line in body.split(b"\n")[:-1]]
            when = moment(json.loads(content.splitlines()[-1])["time"])
            of_frame = _made(events, Content(len(data), len(raw), content), when)
            assert of_frame
            made.add(*of_frame)
            data += raw
        path.write_bytes(data + tail(made))
    assert verify(str(folder)).is_intact
    assert "the record was made anew" in verify(str(folder), anchors).faults[0]


def test_losses_and_gaps_are_told_with_their_cause(folder):
    """Also where a loss is told of a time before the last seal: the tracer was late."""
    record(folder, [LOST])
    (told,) = [gap for gap in verify(str(folder)).missing if "12 read" in gap.cause]
    assert told.cause == "12 read calls lost: buffer full"
    assert told.begin <= told.end == LOST.time


def test_kill_is_told(tmp_path):
    folder = tmp_path / "record"
    (segment,) = record(folder, [destroy(1)], [destroy(2)])
    segment.write_bytes(segment.read_bytes()[: index(segment).offsets()[-2] + 7])
    assert [gap.cause for gap in verify(str(folder)).missing] == ["killed"]
    record(folder, [destroy(3)])
    report = verify(str(folder))
    assert report.is_intact and [gap.cause for gap in report.missing] == ["killed", "not running"]


def test_silence_is_told(tmp_path, monkeypatch):
    folder = tmp_path / "record"
    record(folder, [destroy(1)])
    monkeypatch.setattr(module, "SILENCE_NS", -1)
    assert "silence" in verify(str(folder)).missing[0].cause


def test_hostile_names_in_a_record_are_no_commands_to_the_terminal(tmp_path):
    folder = tmp_path / "record"
    with recorder(folder) as made:
        made.write(
            [Removed(1, "\x1b[2J\n", "\x1b]0;x\x07", "", 1), LOST._replace(reason="\x1b[2J")]
        )
    report = verify(str(folder))
    assert all(line.isprintable() for line in report.lines())


def test_list_of_faults_has_a_limit():
    found = Findings()
    for number in range(1500):
        found.fault(str(number))
    assert found.faults == [str(number) for number in range(1000)]
    assert not found.is_intact
