# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds out how the person behind a process came in: the parents of a process come in, as they were
remembered and as /proc shows them; the programs of root's among them that let somebody in go out,
and the container or the unit of systemd's that it was started in.

A process can lie about itself: its name, its variables, its command line. So only what runs as
root, from a file and a folder that are root's, is believed to be sshd or sudo.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from log.login import CONTAINER, DBUS, SYSTEMD, Login, LoginStep
from log.recent import Recent
from log.trust import ROOT, is_only_of
from probes.host.looking.proc import NS, TICKS, folder_of, parse_stat, read, read_link, uids
from probes.host.processes.cgroups import Cgroup
from probes.kernel.libc import syscall

MOST_PARENTS, MOST_KNOWN, MOST_FILES = 64, 4096, 64
# program -> what it is called
_PROGRAMS = {
    "sshd": "sshd",
    "sshd-session": "sshd",  # since OpenSSH 9.8
    "sudo": "sudo",
    "su": "su",
    "runuser": "runuser",
    "doas": "doas",
    "pkexec": "pkexec",
    "login": "login",
    "cron": "cron",
    "crond": "cron",
    "anacron": "cron",
    "atd": "atd",
}
_ASKED = frozenset({"sudo", "su", "runuser", "doas", "pkexec"})  # somebody has had them run
_SERVANT = "libvirt-dbus"  # does what others ask of it over D-Bus, and says to nobody who they are
_INVOCATIONS = "/run/systemd/units/invocation:"  # links of systemd's, to 32 digits
_PIDFD_GETFD = 438  # linux/unistd.h, on all machines; since 5.6
NOWHERE = Cgroup(None, None)
_is_invocation = re.compile(r"[0-9a-f]{32}").fullmatch


class Was(NamedTuple):
    """What the kernel said of a process, at its exec or fork."""

    since: int  # ns, CLOCK_MONOTONIC
    start: int  # when it began: ns, CLOCK_BOOTTIME; 0: not known
    ppid: int
    exe: str | None
    uid: int | None  # effective; None: not told
    real_uid: int | None


class _Is(NamedTuple):
    """What /proc shows of a process."""

    ppid: int
    start: int  # ticks
    exe: str | None
    uid: int | None
    real_uid: int | None


class _Parent(NamedTuple):
    pid: int
    at: int | None  # when it had the child, ns, CLOCK_MONOTONIC; None: not known
    before: int  # it began no later than its child, in ticks


class Logins:
    """The ways by which people have come in."""

    def __init__(
        self,
        past: Callable[[int, int | None], list[Was]],
        user: Callable[[int], str | None],
        proc: Path = Path("/proc"),
        peer: Callable[[int], str | None] | None = None,
        invocations: str = _INVOCATIONS,
    ) -> None:
        """`past`: what is remembered of a number up to a time (None: now), the latest first."""
        self._past, self._user, self._proc = past, user, proc
        self._peer = peer or find_peer
        self._invocations = invocations
        # by number, start in ticks and what it was
        self._known: Recent[tuple[int, int, int], tuple[LoginStep, ...]] = Recent(MOST_KNOWN)

    def of(
        self,
        pid: int,
        start: int,
        loginuid: int | None,
        at: int | None,
        ppid: int,
        place: Cgroup = NOWHERE,
        *,
        is_there: bool = True,
    ) -> Login | None:
        """How the process came to be that began then (ns, CLOCK_BOOTTIME), as of the time `at`, in
        that place; None: nothing is known of that. `is_there`: it has not ended.
        """
        ticks = start * TICKS // NS if start else 0
        ways = self._ways(_Parent(pid, at, ticks + 1 if ticks else 0), ppid)
        ways += tuple(self._started(place, is_there))
        if not ways and loginuid is None:
            return None
        login = None if loginuid is None else self._user(loginuid)
        return Login(loginuid, login, ways)

    def forget(self) -> None:
        """What processes are was missed."""
        self._known.clear()

    def _ways(self, who: _Parent, ppid: int) -> tuple[LoginStep, ...]:
        """`ppid`: its parent, where nothing else tells."""
        found: list[tuple[tuple[int, int, int] | None, list[LoginStep], int]] = []
        rest: tuple[LoginStep, ...] = ()
        for _ in range(MOST_PARENTS):
            past, now = self._looked(who)
            start = now.start if now else past[0].start * TICKS // NS if past else 0
            # of the process itself all is asked once: its parents are kept
            key = (who.pid, start, past[0].since if past else 0) if found and start else None
            if key is not None and key in self._known:
                rest = self._known[key]
                break
            parent = _parent(past, now, start, ppid)
            own = self._own(who.pid, past, now, parent)
            found.append((key, own, parent.pid if parent else 0))
            ppid = 0
            if parent is None:
                break
            who = parent
        else:
            rest = (LoginStep("?", who.pid),)
        for key, own, made_by in reversed(found):
            if own and rest and rest[0].pid == made_by and own[-1].by == rest[0].by:
                # a fork of it: of sudo's the first was asked; sshd's last one has the connection
                own, rest = (own[:-1], rest) if own[-1].by in _ASKED else (own, rest[1:])
            rest = (*own, *rest)
            if key is not None:
                self._known.put(key, rest)
        return rest

    def _started(self, place: Cgroup, is_there: bool) -> Iterator[LoginStep]:
        """The places that it was started in; a unit may have been started anew without it."""
        if place.container is not None:
            yield LoginStep(CONTAINER, container=place.container)
        if place.unit is not None and place.unit.endswith(".service"):
            invocation = self._invocation(place.unit) if is_there else None
            yield LoginStep(SYSTEMD, unit=place.unit, invocation=invocation)

    def _invocation(self, unit: str) -> str | None:
        try:
            found = os.readlink(self._invocations + unit)
        except (OSError, ValueError):
            return None
        return found if _is_invocation(found) else None

    def _looked(self, who: _Parent) -> tuple[list[Was], _Is | None]:
        now = _look(who.pid, self._proc)
        if now is not None and who.before and now.start > who.before:
            now = None  # another one has its number
        past = self._past(who.pid, who.at)
        limit = (who.before + 1) * NS // TICKS if who.before else 0
        if now is not None:
            past = [
                was
                for was in past
                if not was.start or abs(was.start * TICKS // NS - now.start) <= 1
            ]
            if any(was.since > who.at for was in self._past(who.pid, None) if who.at is not None):
                now = now._replace(exe=None)  # it has become another program since
        elif limit:
            past = [was for was in past if was.start <= limit]
        # of one life
        first = past[0].start if past else 0
        return [was for was in past if abs(was.start - first) * TICKS <= 2 * NS], now

    def _own(
        self, pid: int, past: list[Was], now: _Is | None, parent: _Parent | None
    ) -> list[LoginStep]:
        """What a process is, and was before, of the programs that let somebody in."""
        ways: list[LoginStep] = []
        states = [*([(now.exe, now.uid, now.real_uid)] if now else []), *(was[3:] for was in past)]
        for exe, uid, real_uid in states:
            name = os.path.basename(exe or "")
            by = _PROGRAMS.get(name) or (DBUS if name == _SERVANT else None)
            if by is None or exe is None or any(way.by == by for way in ways):
                continue
            if uid != ROOT and by != DBUS:  # that runs as whoever has started it
                continue
            if not _is_roots(exe, f"{self._proc}/{pid}/root" if now else ""):
                continue
            if by == "sshd":
                ways.append(LoginStep(by, pid, peer=self._peer(pid) if now else None))
            elif by in _ASKED:
                told = next((was.real_uid for was in past if was.exe == exe and was.uid == 0), None)
                ways.append(self._asked(by, pid, told if told is not None else real_uid, parent))
            else:
                ways.append(LoginStep(by, pid))
        return ways

    def _asked(self, by: str, pid: int, uid: int | None, parent: _Parent | None) -> LoginStep:
        if not uid and parent is not None:  # sudo itself becomes root altogether
            before = _look(parent.pid, self._proc, always=True)
            is_it = before is not None and before.start <= parent.before
            uid = before.real_uid if before is not None and is_it else uid
        return LoginStep(by, pid, uid, None if uid is None else self._user(uid))


def _parent(past: list[Was], now: _Is | None, start: int, ppid: int) -> _Parent | None:
    # who forked it, before anybody else took it in
    made = next((was for was in reversed(past) if was.ppid), None)
    if made is not None:
        number, at = made.ppid, made.since
    else:
        number, at = (now.ppid if now else 0) or ppid, None
    return _Parent(number, at, start) if number > 1 else None


def _look(pid: int, proc: Path, *, always: bool = False) -> _Is | None:
    """Whose it is is read only of what may have let somebody in, or `always`."""
    try:
        with folder_of(pid, proc) as folder:
            stat, exe = parse_stat(read("stat", folder)), read_link("exe", folder)
            if not (always or os.path.basename(exe or "") in _PROGRAMS):
                return None if stat is None else _Is(stat.ppid, stat.start, exe, None, None)
            whose = uids(read("status", folder))
    except OSError:
        return None
    if stat is None or whose is None:
        return None
    return _Is(stat.ppid, stat.start, exe, whose.effective, whose.real)


def _is_roots(exe: str, root: str) -> bool:
    """Whether none but root can have put the program there: a link to any program of root's may
    have any name in a folder of somebody else's.
    """
    try:
        return is_only_of(ROOT, os.stat(root + exe)) and is_only_of(
            ROOT, os.stat(root + os.path.dirname(exe))
        )
    except OSError:
        return False


def find_peer(pid: int) -> str | None:
    """The address at the other end of the first connection of a process; None: not known. Its
    sockets are asked themselves: the tables of all connections may be long.
    """
    with contextlib.suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            for number in _sockets(pid):
                if peer := _peer(process, number):
                    return peer
        finally:
            os.close(process)
    return None


def _sockets(pid: int) -> Iterator[int]:
    folder = f"/proc/{pid}/fd"
    # the first: behind it are those that it forwards
    for number in sorted(map(int, os.listdir(folder)))[:MOST_FILES]:
        with contextlib.suppress(OSError):
            if os.readlink(f"{folder}/{number}").startswith("socket:"):
                yield number


def _peer(process: int, number: int) -> str | None:
    try:
        fd = syscall(_PIDFD_GETFD, *map(ctypes.c_long, (process, number, 0)))
    except OSError:
        return None
    with socket.socket(fileno=fd) as copy:
        if copy.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        try:
            address = str(copy.getpeername()[0])
            mapped = ipaddress.ip_address(address)
        except (OSError, ValueError):
            return None
    if isinstance(mapped, ipaddress.IPv6Address) and mapped.ipv4_mapped:
        return str(mapped.ipv4_mapped)
    return address
