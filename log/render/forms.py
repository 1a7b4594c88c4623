# SPDX-License-Identifier: LGPL-2.1-or-later
"""The forms of a log by their names: an event comes in, a line goes out, "" if a form has none."""

from __future__ import annotations

from collections.abc import Callable

from log.events import Event
from log.render import FORMS, jsonl, text, xml
from log.render.siem import auditd, cef, ecs, ocsf

Render = Callable[[Event], str]
# lines of their own tell the host, too
ON_A_HOST: dict[str, Callable[[Event, str | None], str]] = {
    "ocsf": ocsf.line,
    "ecs": ecs.line,
    "cef": cef.line,
    "auditd": auditd.line,
}
assert ("text", "json", "xml", *ON_A_HOST) == FORMS


def render(form: str, host: str | None) -> Render:
    """What makes lines of that form from the events of a host."""
    told = ON_A_HOST.get(form)
    if told is not None:
        return lambda event: told(event, host)
    return {"text": text.line, "json": jsonl.line, "xml": xml.line}[form]
