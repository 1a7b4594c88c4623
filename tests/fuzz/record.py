# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python3 -m tests.fuzz.record [OPTION...] FOLDER...`: bytes that libFuzzer makes up are read as a
record, by the readers of lines, frames, indexes and whole records. Needs Atheris.

None of them may raise anything but what tells the user, whatever the bytes are.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["log"]):
    from log.errors import TraceError
    from log.filters.cut import cut_event
    from log.query import reader
    from log.query.lines import Look
    from log.query.linking import events_of
    from log.query.query import Query
    from log.recording.checking.verify import verify
    from log.recording.folder import segment_name
    from log.recording.format import INDEX, SEEK_TABLE, compress, skippable
    from log.recording.index import SEEKABLE, Indexes
    from log.render import jsonl, text, xml
    from log.report.in_json import as_json
    from log.report.report import Report

QUERIES = (
    Query(nested=True, alone=True),
    Query(objects=("web1",), since=1),
    Query(failed=True, functions=("virDomain*",)),
)
AS_IT_IS, LINES, WITH_INDEX = range(3)  # by the first byte
FRAMES, OF_INDEX = b"\n\n", b"\n\n\n"  # what is between frames, and before the index
FOLDER = Path(tempfile.mkdtemp(prefix="libvirt-trace-fuzz-")) / "record"
SEGMENT = FOLDER / segment_name("host", "20260101T000000Z")


def test_one(data: bytes) -> None:
    """One run."""
    SEGMENT.write_bytes(segment(data))
    try:
        for query in QUERIES:
            asked(query)
        verify(str(FOLDER), None)
    except TraceError:
        pass


def asked(query: Query) -> None:
    """All views of the answer."""
    report = Report(both=False)
    lines, _ = reader.read([str(FOLDER)], Look(query, Indexes(), lambda line: None))
    for found in events_of(lines, query):
        event = cut_event(found.event, 16)
        for view in text.View:
            text.line(event, view)
        jsonl.line(event)
        xml.line(event)
        report.add(event)
    as_json(report)


def segment(data: bytes) -> bytes:
    """The file's bytes: most changes of those would only spoil a checksum."""
    kind, rest = data[:1], data[1:]
    if not kind or kind[0] % 3 == AS_IT_IS:
        return rest
    lines, _, index = rest.partition(OF_INDEX)
    contents = lines.split(FRAMES)
    frames = list(map(compress, contents))
    if kind[0] % 3 == LINES:
        return b"".join(frames)
    sizes = [(len(frame), len(content)) for frame, content in zip(frames, contents, strict=True)]
    frames.append(skippable(INDEX, compress(fitting(index, sizes))))
    sizes.append((len(frames[-1]), 0))
    table = b"".join(struct.pack("<II", *size) for size in sizes)
    end = struct.pack("<IBI", len(sizes), 0, SEEKABLE)
    return b"".join([*frames, skippable(SEEK_TABLE, table + end)])


def fitting(index: bytes, sizes: list[tuple[int, int]]) -> bytes:
    """The index, with columns that tell what the seek table does: else nobody looks at it."""
    try:
        columns = json.loads(index)
        columns["size"], columns["content"] = map(list, zip(*sizes, strict=True))
    except (ValueError, TypeError, RecursionError):
        return index
    return json.dumps(columns).encode()


if __name__ == "__main__":
    FOLDER.mkdir(0o700)
    try:
        atheris.Setup(sys.argv, test_one)
        atheris.Fuzz()
    finally:
        SEGMENT.unlink(missing_ok=True)
        FOLDER.rmdir()
        os.rmdir(FOLDER.parent)
