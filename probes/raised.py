# SPDX-License-Identifier: LGPL-2.1-or-later
"""Follows how libvirt raises errors in one thread: hits of inner functions come in, the error of a failed call goes out."""

from __future__ import annotations

from collections.abc import Mapping

from log.events import CallError, CutText, Value
from probes.api import ApiTable
from probes.redact.messages import redact_error

SYSTEM_ERROR = 38  # VIR_ERR_SYSTEM_ERROR


class RaisedErrors:
    """The last error raised in each thread. It is the one of a failed call if it was raised since the call began.

    libvirt resets its errors when a public call begins, and puts them back after calls that it makes while it cleans up.
    """

    def __init__(self, table: ApiTable, *, redact: bool = True) -> None:
        self._redact = redact
        self._codes = _by_value(table, "virErrorNumber")
        self._domains = _by_value(table, "virErrorDomain")
        self._last: dict[int, tuple[int, int, int | None, str | None]] = {}  # tid -> time, code, domain, message
        self._making: dict[int, tuple[int, int | None, str | None]] = {}  # tid -> code, domain, detail

    def forget(self, tid: int) -> None:
        """The thread is gone."""
        self._last.pop(tid, None)
        self._making.pop(tid, None)

    def entered(self, tid: int, time: int, function: str, fields: Mapping[str, Value]) -> None:
        """An inner function was entered at `time` (ns) with these registers (argN) and texts; see probes/private.py."""
        if function == "virReportErrorHelper":
            self._making[tid] = (_int(fields["arg1"]), _int(fields["arg0"]), None)
        elif function == "virReportSystemErrorFull":
            self._making[tid] = (SYSTEM_ERROR, _int(fields["arg0"]), None)
        elif function == "virErrorMsg":
            _, domain, _ = self._making.get(tid, (0, None, None))
            self._making[tid] = (_int(fields["arg0"]), domain, _text(fields["detail"]))
        elif function == "virRaiseErrorFull":
            message, form = _text(fields["message"]), _text(fields["format"])
            self._last[tid] = (time, _int(fields["arg4"]), _int(fields["arg3"]), message if form == "%s" else form)
        elif function == "virSetError":
            both = fields["block"]  # its first eight bytes: code, domain
            assert isinstance(both, int)
            if code := _int(both):
                self._last[tid] = (time, code, _int(both >> 32), _text(fields["message"]))

    def returned(self, tid: int, time: int, function: str, fields: Mapping[str, Value]) -> None:
        """virErrorMsg returned the format that its detail goes into."""
        if function == "virErrorMsg" and tid in self._making:
            code, domain, detail = self._making.pop(tid)
            form = _text(fields["format"]) or ""
            self._last[tid] = (time, code, domain, form.replace("%s", detail, 1) if detail is not None else form)

    def error(self, tid: int, since: int) -> CallError | None:
        """The error that the thread's failed call leaves behind, which began at the time `since` (ns)."""
        time, code, domain, message = self._last.get(tid, (0, 0, None, None))
        if time < since:
            return None
        if self._redact and message is not None:
            message = redact_error(code, message)
        return CallError(code, self._codes.get(code), None if domain is None else self._domains.get(domain, str(domain)), message)


def _by_value(table: ApiTable, enum: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for name, value in table.enums[enum].constants.items() if enum in table.enums else ():
        names.setdefault(value, name)
    return names


def _int(value: Value) -> int:
    assert isinstance(value, int)
    return value & 0x7FFFFFFF


def _text(value: Value) -> str | None:
    if isinstance(value, CutText):
        return value.text + "..."
    return value if isinstance(value, str) else None
