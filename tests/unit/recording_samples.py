# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records for the tests of log/recording/: made in a folder, by the recorder itself."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from log.events import Call, Event, Reads, Recording
from log.query.lines import Look
from log.query.linking import Found, events_of
from log.query.query import Query
from log.query.reader import read
from log.recording.folder import make_folder
from log.recording.index import Index, Indexes
from log.recording.keeping import Keeping
from log.recording.recorder import Recorder
from tests.unit.log_samples import DESTROY, END, call_on

ABOUT = Recording(0, "0.1.0", "host", None, None, "6.1", None, {}, {}, {}, None)
READ = call_on("web1")._replace(write=False, function="virDomainGetInfo")


def destroy(number: int, name: str = "web1") -> Call:
    """A write call that is told from others by its time."""
    return call_on(name)._replace(time=DESTROY.time + number * 1_000_000)


@contextlib.contextmanager
def recorder(
    folder: Path,
    *,
    keeping: Keeping | None = None,
    reads: str = "full",
    said: list[str] | None = None,
) -> Iterator[Recorder]:
    """A recorder, closed in the end."""
    lines = [] if said is None else said
    made = Recorder(
        make_folder(str(folder)),
        ABOUT,
        lines.append,
        keeping=keeping or Keeping(spare=0),
        reads=reads,
    )
    try:
        yield made
    finally:
        made.close()


def record(folder: Path, *batches: Sequence[Event], **options: object) -> list[Path]:
    """A record of a frame a batch, ended as it should; its segments."""
    with recorder(folder, **options) as made:  # type: ignore[arg-type]
        for batch in batches:
            made.write(batch)
            settle(made)
        made.write([END])
    return segments(folder)


def settle(made: Recorder) -> None:
    """Wait until all that was written is on disk."""
    while is_busy(made):
        time.sleep(0.001)


def is_busy(made: Recorder) -> bool:
    """Whether something is still to be written."""
    writer = made._writer
    return bool(writer._size or writer._due is not None or writer._storing)


def segments(folder: Path) -> list[Path]:
    """The files of a record."""
    return sorted(folder.glob("*.zst"))


def index(path: Path) -> Index:
    """Of a closed segment."""
    with path.open("rb") as file:
        found = Indexes().of(file.fileno())
    assert found
    return found


def without_index(path: Path) -> None:
    """As one is whose recorder was killed."""
    path.write_bytes(path.read_bytes()[: index(path).offsets()[-1]])


def replay(*paths: Path | str, query: Query | None = None) -> tuple[list[Event], list[str]]:
    """The events of a record as `log` gets them, and what was said."""
    said: list[str] = []
    asked = query or Query(nested=True, alone=True)
    lines, _ = read([os.fspath(path) for path in paths], Look(asked, Indexes(), said.append))
    found: list[Found] = list(
        events_of(lines, asked, lambda count: said.append(f"{count} foreign"))
    )
    return [without_memory(item.event) for item in found], said


def without_memory(event: Event) -> Event:
    """As it was made: of what is alike, sinks keep something."""
    if type(event) is Call or type(event) is Reads:
        return event._replace(alike=None)
    return event


def calls(events: list[Event]) -> list[Call]:
    """The calls among them."""
    return [event for event in events if type(event) is Call]
