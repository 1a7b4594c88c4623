# SPDX-License-Identifier: LGPL-2.1-or-later
"""What daemons do without a call of the API: commands to monitors and agents, and changes of
domains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from log.events import Command, DomainEvent
from log.filters.asking import command_name
from log.quote import escape
from log.render.pieces.who import INDENT, process
from log.render.printers import handle
from log.render.units import clock, duration
from log.render.why import plain, why


def questions(run: Sequence[Command], level: int) -> list[str]:
    """One line for the same question, asked several times; the time is that of all of them."""
    took = sum(command.duration_ns or 0 for command in run)
    text = f"{plain(command_name(run[0].text))}, {len(run)} times"
    return [*_clock_and_who(run[0]), *_told(run[0], text, duration(took), level)]


def one_command(command: Command, level: int) -> list[str]:
    """With its answer's time."""
    took = "no answer" if command.duration_ns is None else duration(command.duration_ns)
    return [*_clock_and_who(command), *_told(command, plain(command.text), took, level)]


def _told(command: Command, text: str, took: str, level: int) -> tuple[str, ...]:
    whom = "agent" if command.to_agent else "monitor"
    return (
        "",
        INDENT * level,
        "function",
        whom,
        "",
        " ",
        "string",
        text,
        "duration",
        f" <{took}>",
        "",
        "\n",
    )


def _domain(event: DomainEvent, level: int) -> list[str]:
    reason = "" if event.parent else f", {why(event)}"
    what = (
        "",
        INDENT * level,
        "function",
        "domain",
        "",
        " ",
        *handle(event.domain),
        "notice",
        f" {escape(event.event)}: ",
    )
    return [*_clock_and_who(event), *what, "notice", f"{escape(event.detail)}{reason}", "", "\n"]


def _clock_and_who(event: Command | DomainEvent) -> tuple[str, ...]:
    return (
        "time",
        clock(event.time),
        "process",
        process(event.caller, event.comm),
    )


LINES: dict[type, Callable[[Any, int], list[str]]] = {Command: one_command, DomainEvent: _domain}
