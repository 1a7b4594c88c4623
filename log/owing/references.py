# SPDX-License-Identifier: LGPL-2.1-or-later
"""What still refers to a connection: calls that make and free objects of libvirt's come in, words
go out.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import lru_cache
from typing import NamedTuple

from log.events import Call
from log.values import Handle, Value

MOST, MOST_NAMED = 16384, 8
_frees = re.compile(r"vir\w+Free").fullmatch
_refers = re.compile(r"vir(?!ConnectRef)\w+Ref").fullmatch
_registers = re.compile(r"virConnect\w*(?<!De)Register(?:Any|CloseCallback)?").fullmatch
_deregisters = re.compile(r"virConnect\w*(?:Deregister(?:Any)?|UnregisterCloseCallback)").fullmatch


@lru_cache(maxsize=2048)
def _does(function: str) -> str:
    """What of all this a function does."""
    if _registers(function):
        return "registers"
    if _deregisters(function):
        return "deregisters"
    return "refers" if _refers(function) else "frees" if _frees(function) else ""


_Key = tuple[int, int | str]  # process; address of an object, or which callback


class _Reference(NamedTuple):
    connection: int  # its address
    name: str
    times: int


class References:
    """Objects and callbacks that hold connections, of all processes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, _Reference] = OrderedDict()
        self._of: dict[int, dict[_Key, None]] = {}  # by process

    def learn(self, call: Call) -> int | None:
        """From a call that is over; the connection that is referred to once less now, if any."""
        if call.args is None or call.failed or call.unfinished:
            return None
        pid, args = call.caller.pid, call.args.values
        if isinstance(call.ret, Handle):
            self._made(pid, call.ret)
        for value in call.out.values.values() if call.out.values else ():
            for item in value if isinstance(value, list) else ():
                if isinstance(item, Handle):
                    self._made(pid, item, _connection(args))
        first = next(iter(args.values()), None)
        if not isinstance(first, Handle) or not first.address:
            return None
        does = _does(call.function)
        if does in ("registers", "deregisters"):
            return self._callback(call, first.address)
        if does == "refers" and (known := self._kept.get((pid, first.address))):
            self._keep((pid, first.address), known._replace(times=known.times + 1))
        elif does == "frees":
            known = self._drop((pid, first.address))
            if known and known.times > 1:
                self._keep((pid, first.address), known._replace(times=known.times - 1))
                return None
            return first.owner or (known.connection if known else None)
        return None

    def _made(self, pid: int, handle: Handle, connection: int = 0) -> None:
        connection = handle.owner or connection
        if handle.address and connection:
            name = f"{handle.type} {handle.label}" if handle.type != "stream" else handle.type
            self._keep((pid, handle.address), _Reference(connection, name, 1))

    def _callback(self, call: Call, connection: int) -> int | None:
        pid, args = call.caller.pid, list(call.args.values.values()) if call.args else []
        if _does(call.function) == "registers":
            number = call.ret if call.function.endswith("Any") else "callback"
            self._keep(
                (pid, f"{connection} {number}"), _Reference(connection, "callback of events", 1)
            )
            return None
        number = args[1] if call.function.endswith("Any") and len(args) > 1 else "callback"
        return connection if self._drop((pid, f"{connection} {number}")) else None

    def of(self, pid: int, connection: int, count: int) -> list[Value]:
        """What refers to it, of so many references."""
        found: list[Value] = [
            self._kept[key].name
            for key in self._of.get(pid, ())
            if self._kept[key].connection == connection
        ]
        named = found[:MOST_NAMED]
        if count > len(named):
            named.append(f"{count - len(named)} more")
        return named

    def forget(self, pid: int) -> None:
        """The process has ended."""
        for key in list(self._of.get(pid, ())):
            self._drop(key)

    def _keep(self, key: _Key, reference: _Reference) -> None:
        """In place of the one that was not touched for longest."""
        self._kept[key] = reference
        self._kept.move_to_end(key)
        self._of.setdefault(key[0], {})[key] = None
        if len(self._kept) > MOST:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: _Key) -> _Reference | None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            of_process = self._of[key[0]]
            del of_process[key]
            if not of_process:
                del self._of[key[0]]
        return dropped


def _connection(args: dict[str, Value]) -> int:
    found = next((one for one in args.values() if isinstance(one, Handle)), None)
    if found is None:
        return 0
    return (found.address if found.type == "connect" else found.owner) or 0
