# SPDX-License-Identifier: LGPL-2.1-or-later
"""The forms of a log by their names: an event comes in, a line goes out, "" if a form has none."""

from __future__ import annotations

from collections.abc import Callable

from log.events import Event
from log.render import FORMS, jsonl, text

Render = Callable[[Event], str]
# lines of their own tell the host, too
ON_A_HOST = ("ocsf", "ecs", "cef", "auditd")
assert ("text", "json", "xml", *ON_A_HOST) == FORMS


def render(form: str, host: str | None) -> Render:
    """What makes lines of that form from the events of a host; what few ask for is imported here,
    as tracing starts with the rest.
    """
    if form in ON_A_HOST:
        told = render_on_host(form)
        return lambda event: told(event, host)
    if form == "xml":
        from log.render import xml

        return xml.line
    return {"text": text.line, "json": jsonl.line}[form]


def render_on_host(form: str) -> Callable[[Event, str | None], str]:
    """The same of a form that tells the host, which may be another one for each event."""
    from log.render.siem import auditd, cef, ecs, ocsf

    return {"ocsf": ocsf.line, "ecs": ecs.line, "cef": cef.line, "auditd": auditd.line}[form]
