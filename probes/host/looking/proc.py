# SPDX-License-Identifier: LGPL-2.1-or-later
"""What /proc shows of a process: its number comes in; when it began, who made it and whose it is
goes out. What can't be read is None: it has gone, or does not let us.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
NS = 1_000_000_000
NEAR_NS = 2 * NS // TICKS  # a start is told in ticks, by some rounded
_STATUS = 8192  # bytes; what is asked for stands at its begin


class Stat(NamedTuple):
    """What stat says."""

    state: bytes  # b"R", b"S", b"Z", ...
    ppid: int
    start: int  # ticks, CLOCK_BOOTTIME


class Uids(NamedTuple):
    """Whose the process is."""

    real: int
    effective: int


@contextlib.contextmanager
def folder_of(pid: int, proc: Path = PROC) -> Iterator[int]:
    """Its folder, by descriptor: that stays with this process, whoever gets its number. OSError: it
    has gone.
    """
    folder = os.open(f"{proc}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def read(name: str, folder: int, most: int = _STATUS) -> bytes | None:
    """The begin of a file in the folder."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        data = b""
        while len(data) < most and (part := os.read(fd, most - len(data))):
            data += part
        return data
    except OSError:
        return None
    finally:
        os.close(fd)


def read_link(path: str, folder: int | None = None) -> str | None:
    """Where a link leads."""
    try:
        return os.readlink(path, dir_fd=folder)
    except OSError:
        return None


def read_stat(pid: int, proc: Path = PROC) -> Stat | None:
    """What stat says of the process that has the number now."""
    return parse_stat(_text(f"{proc}/{pid}/stat"))


def read_status(pid: int, proc: Path = PROC) -> bytes | None:
    """The text of its status."""
    return _text(f"{proc}/{pid}/status")


def parse_stat(text: bytes | None) -> Stat | None:
    """The fields behind its name, which may have anything in it."""
    fields = (text or b"").rpartition(b")")[2].split()
    try:
        return Stat(fields[0], int(fields[1]), int(fields[19]))
    except (IndexError, ValueError):
        return None


def uids(status: bytes | None) -> Uids | None:
    """Whose it is, by the text of its status."""
    _, _, ids = (b"\n" + (status or b"")).partition(b"\nUid:")
    real, effective = [*ids.split(None, 2), b"", b""][:2]
    return Uids(int(real), int(effective)) if real.isdigit() and effective.isdigit() else None


def began(pid: int, proc: Path = PROC) -> int | None:
    """When the process that has the number now began (ns, CLOCK_BOOTTIME; to the tick)."""
    found = read_stat(pid, proc)
    return None if found is None else found.start * NS // TICKS


def _text(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_STATUS)
    except OSError:
        return None
