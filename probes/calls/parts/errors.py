# SPDX-License-Identifier: LGPL-2.1-or-later
"""Follows how libvirt raises errors in one thread: hits of inner functions come in, the error
of a failed call goes out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from log.events import CallError
from log.recent import Recent
from log.redact.messages import redact_error
from log.values import CutText, Value
from probes.api.table import ApiTable
from probes.internals.private import MOST_DETAILS

MOST_THREADS = 65536
SYSTEM_ERROR = 38  # VIR_ERR_SYSTEM_ERROR
_ALL_BITS = (1 << 64) - 1
# a place for an argument in a format of printf(); with its position from libvirt 9.3 on, and in
# translations
_SLOT = re.compile(
    r"%(?:(?P<position>\d{1,2})\$)?(?P<how>[-+ "
    r"#0]*(?:\d{1,3})?)(?:\.(?P<most>\*|\d{1,3}))?(?P<size>hh|h|ll|l|z|j|t)?(?P<kind>[diouxXcsp%])"
)


class RaisedErrors:
    """The last error raised in each thread. It is the one of a failed call if it was raised since
    the call began.

    libvirt resets its errors when a public call begins, and puts them back after calls that it
    makes while it cleans up.
    """

    def __init__(self, table: ApiTable, *, redact: bool = True) -> None:
        self._redact = redact
        self._codes = _by_value(table, "virErrorNumber")
        self._domains = _by_value(table, "virErrorDomain")
        # not all ends of threads are told
        # tid -> time, code, domain, message
        self._last: Recent[int, tuple[int, int, int | None, str | None]] = Recent(MOST_THREADS)
        # tid -> code, domain, detail
        self._making: Recent[int, tuple[int, int | None, str | None]] = Recent(MOST_THREADS)

    def forget(self, tid: int) -> None:
        """The thread is gone."""
        self._last.pop(tid)
        self._making.pop(tid)

    def entered(self, tid: int, time: int, function: str, fields: Mapping[str, Value]) -> None:
        """An inner function was entered at `time` (ns) with these registers (argN) and texts;
        see probes/internals/private.py.
        """
        if function == "virReportErrorHelper":
            self._making.put(tid, (_int(fields["arg1"]), _int(fields["arg0"]), None))
        elif function == "virReportSystemErrorFull":
            self._making.put(tid, (SYSTEM_ERROR, _int(fields["arg0"]), None))
        elif function == "virErrorMsg":
            _, domain, _ = self._making.get(tid, (0, None, None))
            self._making.put(tid, (_int(fields["arg0"]), domain, _text(fields["detail"])))
        elif function == "virRaiseErrorFull":
            stack = fields["block"]
            assert isinstance(stack, int)
            details = [
                (stack >> 64 * (i + 1) & _ALL_BITS, _text(fields[f"text{i}"]))
                for i in range(MOST_DETAILS)
            ]
            self._last.put(
                tid,
                (
                    time,
                    _int(fields["arg4"]),
                    _int(fields["arg3"]),
                    fill(_text(fields["format"]) or "", details),
                ),
            )
        elif function == "virSetError":
            both = fields["block"]  # its first eight bytes: code, domain
            assert isinstance(both, int)
            if code := _int(both):
                self._last.put(tid, (time, code, _int(both >> 32), _text(fields["message"])))

    def returned(self, tid: int, time: int, function: str, fields: Mapping[str, Value]) -> None:
        """virErrorMsg returned the format that its detail goes into."""
        if function == "virErrorMsg" and (made := self._making.pop(tid)):
            code, domain, detail = made
            form = _text(fields["format"]) or ""
            self._last.put(
                tid, (time, code, domain, form if detail is None else fill(form, [(0, detail)]))
            )

    def error(self, tid: int, since: int) -> CallError | None:
        """The error that the thread's failed call leaves behind, which began at the time
        `since` (ns).
        """
        time, code, domain, message = self._last.get(tid, (0, 0, None, None))
        if time < since:
            return None
        if self._redact and message is not None:
            message = redact_error(code, message)
        return CallError(
            code,
            self._codes.get(code),
            None if domain is None else self._domains.get(domain, str(domain)),
            message,
        )


def _by_value(table: ApiTable, enum: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for name, value in table.enums[enum].constants.items() if enum in table.enums else ():
        names.setdefault(value, name)
    return names


def fill(form: str, arguments: Sequence[tuple[int, str | None]]) -> str:
    """The text that printf() makes of a format and these arguments: 64 bits each, and the
    string that is there if it is an address.
    """
    left = iter(arguments)

    def put(slot: re.Match[str]) -> str:
        if slot["kind"] == "%":
            return "%"
        most = slot["most"]
        if most == "*":
            most = str(_signed(next(left, (0, None))[0], 32))
        place = int(slot["position"] or 0)
        number, text = (
            arguments[place - 1]
            if 0 < place <= len(arguments)
            else next(left, (0, None))
            if not place
            else (0, None)
        )
        if slot["kind"] == "s":
            return f"%{slot['how'].lstrip('0')}s" % _first(text or "(null)", most)
        if slot["kind"] == "c":
            return chr(number & 0x7F)
        if slot["kind"] == "p":
            return f"{number:#x}"
        bits = 64 if slot["size"] in ("l", "ll", "z", "j", "t") else 32
        value = _signed(number, bits) if slot["kind"] in "di" else number & ((1 << bits) - 1)
        how = slot["how"].replace("#", "") if slot["kind"] == "u" else slot["how"]
        precision = "" if most is None else "." + most
        alternative = "0x" if "#" in how and slot["kind"] in "xX" and value else ""
        return alternative + (
            f"%{how.replace('#', '')}{precision}{slot['kind'].replace('u', 'd')}" % value
        )

    return _SLOT.sub(put, form)


def _first(text: str, most: str | None) -> str:
    """At most so many bytes of the text."""
    if most is None or int(most) < 0:
        return text
    return text.encode(errors="surrogateescape")[: int(most)].decode(errors="surrogateescape")


def _signed(number: int, bits: int) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number


def _int(value: Value) -> int:
    assert isinstance(value, int)
    return value & 0x7FFFFFFF


def _text(value: Value) -> str | None:
    if isinstance(value, CutText):
        return value.text + "..."
    return value if isinstance(value, str) else None
