# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tracer itself says."""

from __future__ import annotations

from log.events import Event, Owed
from log.render.notices import notice
from log.render.printers import handle
from log.render.units import clock
from log.render.why import owed


def said(event: Event) -> list[str]:
    """Of itself: what it is attached to, what was lost, ..."""
    return [
        "time",
        clock(event.time),
        "notice",
        f" libvirt-trace: {notice(event)}",
        "",
        "\n",
    ]


def reminder(event: Owed) -> list[str]:
    """What was begun and not ended: "web1: frozen by 4711 backup alice for 41s"."""
    return [
        *("time", clock(event.time), "notice", " libvirt-trace: "),
        *(handle(event.object) if event.object else ("object", "?")),
        *("notice", f": {owed(event)}", "", "\n"),
    ]
