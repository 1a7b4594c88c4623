# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds out who a process is: what the kernel captured, /proc and the watch come in, a Caller comes
out.

A process may have ended, its number may be another's, or it may have become another program before
anyone looks. So programs are what the kernel said at their exec; /proc is looked at once, at the
start, for those that were there before, and later for the rest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from log.events import Caller
from log.recent import Recent
from log.redact.cmdline import CUT, redact_cmdline
from probes.host.looking import maps
from probes.host.looking.held import LOOKING
from probes.host.looking.proc import (
    NEAR_NS,
    NS,
    TICKS,
    began,
    folder_of,
    parse_stat,
    read,
    read_link,
    uids,
)
from probes.host.processes import cgroups
from probes.host.processes.lives import NO_ID, Exec, Forked, Missed
from probes.host.processes.logins import Logins, Was
from probes.host.processes.users import find_user

CMDLINE_CAPTURED = 1024  # of trace.bpf.c and tasks.bpf.c: a longer one is cut there
CMDLINE_MOST = 16384  # bytes of a command line that are kept
MOST_PROCESSES, MOST_IMAGES, MOST_USERS, MOST_CGROUPS = 16384, 4, 4096, 4096
MOST_CMDLINES = 1024  # of which it is remembered what may be shown


class Captured(NamedTuple):
    """What the kernel says of the process that made a call, at the call."""

    pid: int
    ppid: int
    uid: int
    gid: int
    loginuid: int | None
    cgroup_id: int  # of its cgroup in version 2; 0: not known
    start_ns: int  # when it began, on CLOCK_BOOTTIME; 0: not known
    cmdline: bytes | None  # words that end with NUL; its first 1024 bytes
    comm: str
    exe: str | None
    real_uid: int | None = None  # None: as `uid`


class _Image(NamedTuple):
    """What a process is since a time (CLOCK_MONOTONIC, ns), as the kernel said then."""

    since: int
    what: Captured


class _Shown(NamedTuple):
    """What /proc shows of a process; None: it does not."""

    exe: str | None
    cmdline: bytes | None
    uid: int | None
    loginuid: int | None
    cgroup: str | None


_NOTHING = _Shown(None, None, None, None, None)


class Processes:
    """Who processes are, including those that have just ended."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        numbers: cgroups.Numbers | None = None,
        user_name: Callable[[int], str | None] | None = None,
        *,
        full_cmdlines: bool = False,
    ) -> None:
        """`user_name`: names a user; if not given, what this host says is waited for."""
        self._proc = proc
        self._show_cmdline: Callable[[tuple[str, ...]], tuple[str, ...]] = (
            tuple if full_cmdlines else lru_cache(maxsize=MOST_CMDLINES)(redact_cmdline)
        )
        self._numbers = numbers or cgroups.Numbers()
        self._images: Recent[int, tuple[_Image, ...]] = Recent(MOST_PROCESSES)
        # by number, start in ticks and the exec that made it what it was
        self._captured: Recent[tuple[int, int, int], Captured] = Recent(MOST_PROCESSES)
        self._callers: Recent[tuple[Captured, int, str | None], Caller] = Recent(MOST_PROCESSES)
        self._users: Recent[int, str | None] = Recent(MOST_USERS)
        self._user_name = user_name
        self._paths: Recent[int, str] = Recent(MOST_CGROUPS)
        # numbers of processes that are not forgotten yet, and when these ended
        self._ended: deque[tuple[int, int]] = deque(maxlen=MOST_PROCESSES)
        self._logins = Logins(self._past, self.user, proc)

    def look_around(self) -> None:
        """Notes what there is: what happens to these processes from now on is noticed."""
        for pid in maps.pids(self._proc):
            now = time.monotonic_ns()
            start = began(pid, self._proc)
            exe = read_link(f"{self._proc}/{pid}/exe")
            if start is not None and exe is not None:
                self._note(
                    pid,
                    _Image(
                        now,
                        Captured(
                            pid, 0, NO_ID, NO_ID, None, 0, start, _cmdline(pid, self._proc), "", exe
                        ),
                    ),
                )

    def noticed(self, record: Exec | Forked | Missed) -> None:
        """Notes that a process becomes another program, or that a child runs what its parent
        runs.
        """
        if isinstance(record, Missed):  # any of them may have become another program unseen
            self._images.clear()
            self._callers.clear()
            self._logins.forget()
        elif isinstance(record, Exec):
            pid, who = record.pid, (record.uid, record.gid, record.loginuid, record.cgroup_id)
            real_uid = None if record.real_uid == record.uid else record.real_uid
            what = Captured(
                pid,
                record.ppid,
                *who,
                record.start,
                record.cmdline,
                record.comm,
                record.exe,
                real_uid,
            )
            self._note(pid, _Image(record.time, what))
        else:
            parent = self._image(record.ppid, record.time)
            exe, cmdline = (parent.exe, parent.cmdline) if parent else (None, None)
            # it may change who it is without becoming another program
            what = Captured(
                record.pid, record.ppid, NO_ID, NO_ID, None, 0, record.start, cmdline, "", exe
            )
            self._note(record.pid, _Image(record.time, what))

    def caller(self, captured: Captured, at: int) -> Caller:
        """The caller at the time `at` (ns, CLOCK_MONOTONIC): one for all threads of a process,
        and all names that they give themselves.
        """
        pid, start = captured.pid, captured.start_ns
        image = self._image(pid, at, start)
        key = captured._replace(comm="", ppid=0), self.since(pid, at), image.exe if image else None
        return self._callers.learn(key, lambda _: self.lookup(pid, start, captured, at))

    def ended(self, pid: int, at: int) -> None:
        """Notes that the process of that number has ended (ns, CLOCK_MONOTONIC)."""
        self._ended.append((pid, at))

    def forget_ended(self, before: int) -> None:
        """Forgets processes that ended before this time (ns, CLOCK_MONOTONIC); not those that have
        their numbers now, nor those by whose children it is told how these came in.
        """
        parents = {image.what.ppid for _, images in self._images.items() for image in images}
        gone: dict[int, int] = {}
        kept: list[tuple[int, int]] = []
        while self._ended and self._ended[0][1] < before:
            pid, at = self._ended.popleft()
            if pid in parents:
                kept.append((pid, at))
                continue
            gone[pid] = at
            images = self._images.pop(pid, ()) or ()
            if later := tuple(image for image in images if image.since > at):
                self._images.put(pid, later)
        self._ended.extendleft(reversed(kept))
        for key in list(self._captured):
            if key[2] <= gone.get(key[0], -1):
                self._captured.pop(key)
        for who in list(self._callers):
            if who[1] <= gone.get(who[0].pid, -1):
                self._callers.pop(who)

    def name(self, names: Mapping[int, str]) -> dict[int, Caller]:
        """Names of users that are known only now; callers that have one by that, by the
        identity of those without.
        """
        named: dict[int, Caller] = {}
        for key, caller in self._callers.items():
            user = names.get(caller.uid) if caller.user is None else caller.user
            session = caller.session and caller.session.named(names)
            if user != caller.user or session is not caller.session:
                known = caller._replace(user=user, session=session)
                self._callers[key] = named[id(caller)] = known
        return named

    def lookup(
        self,
        pid: int,
        start_time: int | None = None,
        captured: Captured | None = None,
        at: int | None = None,
    ) -> Caller:
        """The caller: `start_time` is on CLOCK_BOOTTIME, `at` (when it called) on
        CLOCK_MONOTONIC, both in ns.
        """
        start = start_time or (captured.start_ns if captured else 0)
        shown, was = self._show(pid, start), self._image(pid, at, start)
        is_there = shown is not _NOTHING
        if at is not None:
            if captured:
                self._captured.put((pid, start * TICKS // NS, self.since(pid, at)), captured)
            else:
                captured = self._captured.get((pid, start * TICKS // NS, self.since(pid, at)))
            if self.since(pid) > at:  # /proc shows what it became later
                shown = shown._replace(exe=None, cmdline=None)
        if captured is None:
            uid = NO_ID if shown.uid is None else shown.uid
            known = was or Captured(pid, 0, NO_ID, NO_ID, None, 0, 0, None, "", None)
            captured = known._replace(
                uid=uid, real_uid=None, loginuid=shown.loginuid if is_there else known.loginuid
            )
        cmdline = captured.cmdline or (was.cmdline if was else None)
        if cmdline is None or (shown.cmdline and shown.cmdline.startswith(cmdline)):
            cmdline = shown.cmdline  # all of it
        exe = was.exe if was and was.exe else None
        exe = exe or captured.exe or shown.exe
        place = self._place(shown.cgroup, captured.cgroup_id)
        return Caller(
            pid=pid,
            exe=exe,
            cmdline=None if cmdline is None else self._show_cmdline(split_cmdline(cmdline)),
            uid=captured.uid,
            user=self.user(captured.uid),
            loginuid=captured.loginuid,
            unit=place.unit,
            container=place.container,
            real_uid=None if captured.real_uid == captured.uid else captured.real_uid,
            ppid=(was.ppid if was else 0) or captured.ppid or None,
            session=self._logins.of(
                pid, start, captured.loginuid, at, captured.ppid, place, is_there=is_there
            ),
        )

    def since(self, pid: int, at: int | None = None) -> int:
        """Since when (ns, CLOCK_MONOTONIC) the process of that number is what it is, or was
        then; 0: since before anybody looked.
        """
        return max(
            (image.since for image in self._images.get(pid, ()) if at is None or image.since <= at),
            default=0,
        )

    def user(self, uid: int) -> str | None:
        """The name of the user on this host."""
        return self._user_name(uid) if self._user_name else self._users.learn(uid, find_user)

    def _note(self, pid: int, image: _Image) -> None:
        # behind what had its number before: of that, calls may still be to come
        before = self._images.get(pid, ())
        if not before or before[-1].since < image.since:  # else it was seen when we looked around
            self._images.put(pid, (*before, image)[-MOST_IMAGES:])

    def _image(self, pid: int, at: int | None, start_ns: int = 0) -> Captured | None:
        """What the process was then, if it is the one that began at that time (CLOCK_BOOTTIME;
        0: whichever had the number then).
        """
        for image in reversed(self._images.get(pid, ())):
            if at is None or image.since <= at:
                born = image.what.start_ns
                if not start_ns or not born or abs(born - start_ns) < NEAR_NS:
                    return image.what
        return None

    def _past(self, pid: int, at: int | None) -> list[Was]:
        """What the process of that number was up to then, the latest first."""
        found = []
        for since, what in reversed(self._images.get(pid, ())):
            if at is None or since <= at:
                uid = None if what.uid == NO_ID else what.uid
                real_uid = uid if what.real_uid is None else what.real_uid
                found.append(Was(since, what.start_ns, what.ppid, what.exe, uid, real_uid))
        return found

    def _place(self, shown: str | None, number: int) -> cgroups.Cgroup:
        if shown is not None:
            return cgroups.parse(shown, self._numbers.vouched)
        # kept when it has gone: its last process may be the one that is asked for
        path = self._numbers.path(number) if number else None
        if path is not None:
            path = self._paths.put(number, self._numbers.vouched("", path))
        return cgroups.place_of(path or self._paths.get(number) or "")

    def _show(self, pid: int, start_ns: int) -> _Shown:
        """What /proc shows, if it is the process that began then (0: whichever it is)."""
        try:
            with folder_of(pid, self._proc) as folder:
                return self._show_of(folder, pid, start_ns)
        except (OSError, ValueError):
            return _NOTHING

    def _show_of(self, folder: int, pid: int, start_ns: int) -> _Shown:
        stat = parse_stat(read("stat", folder, 4096))
        if (
            stat is None
            or stat.state in (b"Z", b"X")
            or (start_ns and abs(stat.start - start_ns * TICKS // NS) > 1)
        ):
            return _NOTHING
        cgroup = read("cgroup", folder, 65536)
        loginuid = read("loginuid", folder, 32)
        whose = uids(read("status", folder))
        return _Shown(
            exe=read_link("exe", folder),
            cmdline=LOOKING.ask(
                pid,
                lambda: read("cmdline", folder, CMDLINE_MOST),
                None,
                self._proc,
                only_reads=True,
            ),
            uid=None if whose is None else whose.effective,
            loginuid=None if loginuid is None or int(loginuid) == NO_ID else int(loginuid),
            cgroup=None if cgroup is None else cgroup.decode(errors="surrogateescape"),
        )


def split_cmdline(data: bytes) -> tuple[str, ...]:
    """The words of a command line. One that was cut loses its last word: half a URI does not
    show that it holds a password.
    """
    is_cut = len(data) >= CMDLINE_MOST or (
        len(data) >= CMDLINE_CAPTURED and not data.endswith(b"\0")
    )
    words = data.removesuffix(b"\0").split(b"\0") if data else []
    if is_cut:
        words = [*words[:-1], CUT.encode()]
    return tuple(word.decode(errors="surrogateescape") for word in words)


def _cmdline(pid: int, proc: Path) -> bytes | None:
    def look() -> bytes | None:
        try:
            with open(f"{proc}/{pid}/cmdline", "rb", buffering=0) as file:
                return file.read(CMDLINE_CAPTURED) or None
        except OSError:
            return None

    return LOOKING.ask(pid, look, None, proc, only_reads=True)
