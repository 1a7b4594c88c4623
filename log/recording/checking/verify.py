# SPDX-License-Identifier: LGPL-2.1-or-later
"""A record comes in; two verdicts go out: whether it is as it was written (intact), and whether
it holds all there was (complete).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from log.events import End, Event, Gap, Lost, Recording, Removed
from log.parsing.alike import LineParser
from log.parsing.fields import ForeignLine, moment
from log.quote import escape, name
from log.recording.checking.anchors import Anchor
from log.recording.checking.findings import Findings, Missing
from log.recording.ends import sealed
from log.recording.entry import Summing, entry_with
from log.recording.folder import Folder, Segment, contents_of, open_folder, opened
from log.recording.format import INDEX, NO_CHAIN, SEEK_TABLE, chained, need_zstandard
from log.recording.frames import Content, Fault, frames
from log.recording.index import FrameRow, Index, read_index, tail
from log.render.units import day_and_time

SILENCE_NS = 90_000_000_000  # a seal a minute, and some patience with the disk


Made = tuple[FrameRow, "set[int] | None"]  # of a frame: its row, and the marks of its words


class _State:
    """Where the chain is."""

    def __init__(self, report: Findings, anchored: Container[int]) -> None:
        """`anchored`: frames that the system's log tells of."""
        self.report, self.anchored = report, anchored
        self.parse = LineParser().parse
        self.frame = 0
        self.chain: str | None = None  # None: not known yet
        self.segment = ""
        self.sealed = 0  # ns
        self.ended = True
        self.previous: Mapping[str, Any] | None = None  # of the oldest segment that is there
        self.oldest: int | None = None  # frame
        self.chains: dict[int, str] = {}  # of frames that are anchored
        self.removed: dict[str, tuple[int, str]] = {}
        self.lost_chain = False  # behind a frame that can't be read


def verify(
    path: str,
    anchors: Sequence[Anchor] | None = None,
    will: Callable[[int], None] = lambda count: None,
    seen: Callable[[int], None] = lambda count: None,
) -> Findings:
    """Looks at every byte of the record; `will` and `seen` are told how many there are, and of each
    that was looked at. TraceError where there is no folder.
    """
    need_zstandard()
    folder = open_folder(path)
    report = Findings()
    state = _State(report, {anchor.frame for anchor in anchors or ()})
    found, refused = folder.segments()
    will(sum(segment.size for segment in found))
    for line in refused:
        report.fault(line)
    for segment in found:
        report.segments += 1
        _segment(folder, segment, state, seen, is_last=segment is found[-1])
    _begin(state)
    recorder = folder.recorder()
    if found and recorder is None:
        report.missing.append(Missing(state.sealed, 0, "not running" if state.ended else "killed"))
    if anchors is not None:
        _compare(state, anchors)
    folder.close()
    return report


def _begin(state: _State) -> None:
    """What came before the oldest segment was removed on purpose, or there was nothing."""
    previous = state.previous
    if previous is None:
        return
    gone = state.removed.get(str(previous.get("segment")))
    if gone != (previous.get("frame"), previous.get("chain")):
        state.report.fault(
            f"{name(str(previous.get('segment')))} is missing, and nothing says "
            "that it was removed on purpose"
        )


def _segment(
    folder: Folder,
    segment: Segment,
    state: _State,
    seen: Callable[[int], None],
    *,
    is_last: bool,
) -> None:
    report, label = state.report, segment.name
    made: list[Made | None] = []
    index: Index | None = None
    closed = False
    number = 0
    try:
        with opened(folder, label) as fd:
            for content in frames(contents_of(fd)):
                seen(content.size)
                if isinstance(content, Fault):
                    _fault(state, label, content, is_last)
                elif content.skippable == INDEX:
                    index = read_index(content.data)
                elif content.skippable == SEEK_TABLE:
                    closed = True
                    if (
                        index is None
                        or not _fits(index, made)
                        or tail(index)[-len(content.data) :] != content.data
                    ):
                        report.fault(f"{label}: its index does not say what is in it")
                elif content.skippable or closed:
                    report.fault(f"{label}: something was added at byte {content.offset}")
                else:
                    number += 1
                    made.append(_frame(state, label, number, content))
    except OSError as error:
        report.fault(f"{label}: can't be read: {os.strerror(error.errno or 0).lower()}")
    if not number:
        report.fault(f"{label}: holds no frame")
    state.segment = label


def _fault(state: _State, label: str, fault: Fault, is_last: bool) -> None:
    """A torn end is what a kill leaves; what it cost is told by the next segment, or goes on."""
    if fault.torn:
        state.ended = False
        return
    state.report.fault(f"{label}: {fault.size} bytes at byte {fault.offset} are no frame")
    state.lost_chain = True


def _frame(state: _State, label: str, number: int, content: Content) -> Made | None:
    """Checks a frame; what the index must say of it."""
    report = state.report
    where = f"{label}: frame {number}"
    line = sealed(content.data)
    seal = _seal(line) if line else None
    if line is None or seal is None:
        report.fault(f"{where} has no seal")
        state.lost_chain = True
        return None
    frame, count, digest, chain, when = seal
    body = content.data[: -len(line)]
    events = [_event(state.parse, part) for part in body.split(b"\n")[:-1]]
    if number == 1:
        _follow(state, label, events[0] if events else None)
    at = f"{where} ({day_and_time(when)})"
    if state.chain is not None and not state.lost_chain and frame != state.frame + 1:
        what = (
            "frames before it were removed" if frame > state.frame + 1 else "it is out of its place"
        )
        report.fault(f"{at}: {what}: its number is {frame}, after {state.frame}")
    elif _sha256(body) != digest or body.count(b"\n") != count:
        report.fault(f"{at} was changed")
    elif not state.lost_chain and state.chain is not None and chained(state.chain, line) != chain:
        report.fault(f"{at} was changed, or one before it was removed: the chain is broken")
    state.frame, state.chain, state.lost_chain = frame, chain, False
    state.oldest = frame if state.oldest is None else min(state.oldest, frame)
    if frame in state.anchored:
        state.chains[frame] = chain
    report.frames += 1
    report.events += count
    _complete(state, events, when)
    return _made(events, content, when)


def _follow(state: _State, label: str, first: Event | None) -> None:
    """Whether a segment goes on where the one before has ended."""
    report = state.report
    if not isinstance(first, Recording):
        report.fault(f"{label}: does not begin with a line that says what it is")
        return
    previous = first.previous
    if state.chain is None:
        state.previous = previous
        state.chain = str(previous.get("chain")) if previous else NO_CHAIN
        state.frame = _number(previous.get("frame")) if previous else 0
    elif previous is None or previous.get("segment") != state.segment:
        gone = name(str(previous.get("segment"))) if previous else "nothing"
        report.fault(
            f"{label}: goes on from {gone}, not from {state.segment}: segments were "
            "removed, added or renamed"
        )
        state.lost_chain = True
    elif (previous.get("frame"), previous.get("chain")) != (state.frame, state.chain):
        report.fault(
            f"{state.segment}: was cut or changed at its end: {label} goes on from its "
            f"frame {previous.get('frame')}"
        )
        state.lost_chain = True


def _complete(state: _State, events: list[Event | None], when: int) -> None:
    """What these events and this seal say of times of which something is missing."""
    report = state.report
    told = any(isinstance(event, Gap) for event in events)
    if state.sealed and when - state.sealed > SILENCE_NS and not told:
        report.missing.append(Missing(state.sealed, when, "silence: no seal, and nothing says why"))
    if state.sealed and when < state.sealed:
        report.missing.append(
            Missing(when, state.sealed, "the clock was set back: times are told twice")
        )
    for event in events:
        if isinstance(event, Gap) and event.lost != 0:
            lost = "" if event.lost is None else f", {event.lost} calls lost"
            report.missing.append(Missing(event.time, event.until, f"{escape(event.reason)}{lost}"))
        elif isinstance(event, Lost) and (event.count or event.details):
            what = (
                f"{event.count} {escape(event.ring)} calls lost"
                if event.count
                else f"{event.details} details lost"
            )
            begin = min(state.sealed or event.time, event.time)
            report.missing.append(Missing(begin, event.time, f"{what}: {escape(event.reason)}"))
        elif isinstance(event, Removed):
            state.removed[event.segment] = (event.frame, event.chain)
    state.ended = any(isinstance(event, End) for event in events)
    state.sealed = when
    report.first = report.first or when
    report.last = when


def _fits(said: Index, made: list[Made | None]) -> bool:
    """Whether the index says of the frames what is in them, as far as that can be told."""
    if len(said.rows) != len(made):
        return False
    index = Index()
    for row, one in zip(said.rows, made, strict=True):
        index.add(*(one or (row, None)))
    return said.fits(index)


def _made(events: list[Event | None], content: Content, when: int) -> Made | None:
    """What the recorder has said of the same events; None where not all are known here."""
    summing = Summing()
    for event in events:
        if event is None:
            return None
        summing.add(entry_with(event, ""))
    # of names that were cut only the recorder knew all
    marks = None if b'"cut":true' in content.data else summing.marks
    summing.last = max(summing.last, when)
    summing.first = summing.first or when
    return summing.row(content.size, len(content.data)), marks


def _event(parse: Callable[[bytes], Event | None], line: bytes) -> Event | None:
    try:
        return parse(line)
    except ForeignLine:
        return None


def _seal(line: bytes) -> tuple[int, int, str, str, int] | None:
    try:
        seal = json.loads(line)
        found = (
            _number(seal["frame"]),
            _number(seal["count"]),
            str(seal["sha256"]),
            str(seal["chain"]),
            moment(seal["time"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found


def _number(item: Any) -> int:
    return item if type(item) is int else -1


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _compare(state: _State, anchors: Iterable[Anchor]) -> None:
    """The anchors against the chain: what they know of must be there."""
    report = state.report
    report.anchors = 0
    oldest = state.oldest or 0
    for anchor in anchors:
        known = state.chains.get(anchor.frame)
        if known is None and anchor.frame < oldest:
            report.unchecked += 1
            continue
        report.anchors += 1
        if known is None:
            report.fault(
                f"the system's log knows of frame {anchor.frame} of "
                f"{name(anchor.segment)}, which is not there"
            )
        elif known != anchor.chain:
            report.fault(
                f"frame {anchor.frame} is not the one that the system's log knows of: the "
                "record was made anew"
            )
