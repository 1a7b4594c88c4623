# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tracer tells about itself: an event that is no call comes in; its sentence goes out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from log.events import Attached, Clock, End, Event, Gap, Lost, Removed, Unattached
from log.quote import escape, name
from log.render.units import day_and_time, duration, plural


def notice(event: Event) -> str:
    """The sentence, without a time."""
    return _NOTICES[type(event)](event)


def end_summary(event: End) -> str:
    """What was seen, in one line without the time: for the end of a log and for standard error."""
    details = (
        f"; {event.details_lost} {plural(event.details_lost, 'detail')} lost"
        if event.details_lost
        else ""
    )
    if event.not_exported:
        details += f"; {event.not_exported} {plural(event.not_exported, 'event')} not exported"
    return (
        f"{event.calls} {plural(event.calls, 'call')}, {event.failed} failed, {event.denied} "
        "denied, "
        f"{event.lost} lost in {event.seconds:.1f}s{details}"
    )


def _attached(event: Attached) -> str:
    alike: dict[tuple[str, str | None, str | None], list[str]] = {}
    for path, libvirt, note in event.targets:
        alike.setdefault((os.path.dirname(path), libvirt, note), []).append(path)
    where = []
    for (folder, libvirt, note), paths in alike.items():
        version = "version unknown" if libvirt is None else f"libvirt {escape(libvirt)}"
        roots = max(Counter(paths).values())  # containers have the same paths
        files = f", {len(paths)} files" if len(paths) > 1 else ""
        files += f" in {roots} roots" if roots > 1 else ""
        reason = "" if note is None else f"; {escape(note)}"
        where.append(f"{name(folder if len(paths) > 1 else paths[0])} ({version}{files}{reason})")
    late = (
        ""
        if event.mapped_ms is None
        else (f"; mapped {event.mapped_ms:.0f}ms before, calls in that time were missed")
    )
    return (
        f"attached to {event.functions} functions in {', '.join(where)}, "
        f"{event.attach_ms:.1f}ms, {escape(event.link)}{late}"
    )


def _lost(event: Lost) -> str:
    whose = f" of {escape(event.user or str(event.uid))}" if event.uid is not None else ""
    what = f"{event.count} {escape(event.ring)} {plural(event.count, 'call')}{whose}"
    if not event.count:
        what = (
            f"{event.details} {plural(event.details, 'detail')} of {escape(event.ring)} "
            f"calls{whose}"
        )
    remedy = ""
    if event.ring in ("processes", "mappings"):
        what = f"{event.details} {plural(event.details, 'event')} about {event.ring}"
    elif event.reason.startswith("buffer full"):
        remedy = "; a larger --buffer-size or fewer functions (-f) may help"
    return f"lost {what}: {escape(event.reason)}{remedy}"


def _unattached(event: Unattached) -> str:
    return f"not every call of {name(event.path)} is seen: {escape(event.reason)}"


def _clock_set(event: Clock) -> str:
    return (
        f"the clock was set {'forward' if event.step_ns > 0 else 'back'} by "
        f"{duration(abs(event.step_ns))}"
    )


def _gap(event: Gap) -> str:
    if event.lost is None:
        return f"nothing was recorded until {day_and_time(event.until)}: {escape(event.reason)}"
    lost = f"{event.lost} {plural(event.lost, 'call')} missing"
    return f"recorded late until {day_and_time(event.until)}, {lost}: {escape(event.reason)}"


def _removed(event: Removed) -> str:
    return f"{name(event.segment)} was removed from the record: {escape(event.reason)}"


_NOTICES: dict[type, Callable[[Any], str]] = {
    Attached: _attached,
    Unattached: _unattached,
    Clock: _clock_set,
    Lost: _lost,
    End: end_summary,
    Gap: _gap,
    Removed: _removed,
}
