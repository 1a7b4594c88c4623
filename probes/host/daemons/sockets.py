# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is connected to whom by local sockets: the kernel is asked (unix(7), sock_diag(7)); inodes of
sockets go out.

Sockets of other network namespaces are not told of.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

# linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h
_SOCK_DIAG, _BY_FAMILY, _ERROR, _DONE = 4, 20, 2, 3
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_SHOW_PEER, _SHOW_WAITING = 4, 8
_PEER, _WAITING = 2, 3
_HEADER = struct.Struct("<IHHII")  # length, type, flags, sequence, port
_QUESTION = struct.Struct("<BBHIIIII")  # family, protocol, -, states, inode, show, cookie
_SOCKET = struct.Struct("<BBBBIII")  # family, type, state, -, inode, cookie
_ATTRIBUTE = struct.Struct("<HH")  # length, type
_ANSWER = 1 << 16  # bytes
TIMEOUT = 2.0  # s


class Sockets(NamedTuple):
    """Inodes of sockets."""

    peers: dict[int, int]  # of those that are connected
    waiting: dict[int, int]  # that nobody has accepted yet -> the one that listens


def sockets() -> Sockets:
    """All of them; none where the kernel does not tell."""
    found = Sockets({}, {})
    question = _QUESTION.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_PEER | _SHOW_WAITING, 0, 0)
    header = _HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asking:
            asking.settimeout(TIMEOUT)
            asking.send(header + question)
            while _take(asking.recv(_ANSWER), found):
                pass
    except OSError:
        return Sockets({}, {})
    return found


def held(pid: int, proc: Path = Path("/proc")) -> set[int]:
    """Inodes of sockets that the process has open."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # it has ended
        for entry in (proc / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile
                kind, _, number = os.readlink(entry).partition(":[")
                if kind == "socket":
                    found.add(int(number.rstrip("]")))
    return found


def _take(answer: bytes, found: Sockets) -> bool:
    """Some of them; whether more come."""
    while len(answer) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(answer)
        if kind in (_ERROR, _DONE) or length < _HEADER.size:
            return False
        _learn(answer[_HEADER.size : length], found)
        answer = answer[length + 3 & ~3 :]
    return True


def _learn(one: bytes, found: Sockets) -> None:
    if len(one) < _SOCKET.size:
        return
    _, _, _, _, inode, _, _ = _SOCKET.unpack_from(one)
    at = _SOCKET.size
    while at + _ATTRIBUTE.size <= len(one):
        length, kind = _ATTRIBUTE.unpack_from(one, at)
        if length < _ATTRIBUTE.size:
            return
        value = one[at + _ATTRIBUTE.size : at + length]
        numbers = [number for (number,) in struct.iter_unpack("<I", value[: len(value) & ~3])]
        if kind == _PEER and numbers and numbers[0]:
            found.peers[inode] = numbers[0]
        elif kind == _WAITING:
            found.waiting.update(dict.fromkeys(numbers, inode))
        at += length + 3 & ~3
