# SPDX-License-Identifier: LGPL-2.1-or-later
"""Inner functions of libvirt that are probed besides the public ones: where errors are made.

How libvirt raises errors (src/util/virerror.c, the same in 9.0 and 11.3): virReportErrorHelper and virReportSystemErrorFull know domain
and code and ask virErrorMsg for the format that the detail is put into; errors that came over RPC go through virRaiseErrorFull with
their message ready; virSetError puts an earlier error back.
"""

from __future__ import annotations

from typing import NamedTuple


class Block(NamedTuple):
    """Copy `length` bytes at `base` + `offset`; `base` is "sp", "argN" or the name of a pointer in an earlier block."""

    base: str
    offset: int
    length: int
    pointers: tuple[tuple[str, int], ...]  # names of the pointers in it, and where


class Text(NamedTuple):
    """Copy the string that the pointer `source` points to."""

    name: str
    source: str  # "argN", "value" or the name of a pointer in a block


class Private(NamedTuple):
    """An inner function and what to copy of it."""

    name: str
    entry: tuple[Block | Text, ...] = ()
    ret: tuple[Text, ...] | None = None  # None: no return probe


PRIVATE = (
    Private("virReportErrorHelper"),  # arg0 domain, arg1 code
    Private("virReportSystemErrorFull"),  # arg0 domain, arg1 errno
    Private("virErrorMsg", entry=(Text("detail", "arg1"),), ret=(Text("format", "value"),)),  # arg0 code
    Private(
        "virRaiseErrorFull",  # arg3 domain, arg4 code; on the stack: str1, str2, str3, int1, int2, fmt, ...
        entry=(Block("sp", 48, 16, (("fmt", 0), ("first", 8))), Text("format", "fmt"), Text("message", "first")),
    ),
    Private(
        "virSetError",  # arg0: const virError *: int code, int domain, char *message
        entry=(Block("arg0", 0, 16, (("text", 8),)), Text("message", "text")),
    ),
)
