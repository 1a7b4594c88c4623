# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attaches the programs to functions of a library: offsets and cookies come in, something to
close comes out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from log.errors import TraceError
from probes.kernel import bpf

if TYPE_CHECKING:
    import subprocess

UPROBE_PMU = Path("/sys/bus/event_source/devices/uprobe/type")
# of one function: a breakpoint or no instruction is there, or the file ends before it. 524: the
# kernel's own ENOTSUPP
NOT_THERE = (524, errno.EINVAL, errno.ENOEXEC, errno.EOPNOTSUPP)
QUICK = 0.3  # s, for attaching
MOST_TOGETHER = 16  # that are closed at once
MOST_TRIES, LONGEST = 32, 5.0  # to find these: links of a part of the functions, and s


class Probe(NamedTuple):
    """One function to probe: where it is in its file, in bytes; what the programs are told of
    it; which of them.
    """

    offset: int
    cookie: int
    at_return: bool  # a return probe too
    rets: tuple[int, ...] = ()  # instead: where the instructions are that return


class Links:
    """The links of one library file. Closing them detaches; so does the end of the process that
    holds them.

    A function that the kernel refuses to probe is left out. Raises TraceError when none can be
    probed. `session`: `entry` is the program of returns as well, and decides whether there is one.

    They are for every process that has the file mapped, whoever is wanted. The kernel could have
    breakpoints in one process alone (`pid` of the link), but its forks have copies of them, of
    which it asks no program: each call there would get a return probe, which kills where stacks
    are switched.
    """

    def __init__(
        self,
        path: str,
        probes: list[Probe],
        entry: int,
        ret: int,
        *,
        multi: bool,
        session: bool = False,
    ) -> None:
        self.fds: list[int] = []
        self._session = session
        self.left_out: list[Probe] = []  # and why, of the last
        self.reason = ""
        self._waits = False  # whether detaching takes long
        self._path, self._entry, self._ret = path, entry, ret
        began = time.monotonic()
        self._tries, self._until = MOST_TRIES, began + LONGEST
        try:
            if multi:
                self._link_multi(probes)
            else:
                self._link_events(probes)
        except OSError as error:
            self.close()
            raise TraceError(why(error)) from error
        if probes and len(self.left_out) == len(probes):
            self.close()
            raise TraceError(self.reason)
        self._waits = not multi or time.monotonic() - began > QUICK

    def _parts(self, probes: list[Probe]) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
        """Programs, whether at the return, and where: offsets and cookies."""
        entries = [(probe.offset, probe.cookie) for probe in probes]
        if self._session:
            yield self._entry, False, entries
            return
        # returns first: an entry that was seen must not miss its return
        if rets := [(at, probe.cookie) for probe in probes for at in probe.rets]:
            yield self._ret, False, rets
        if chosen := [(probe.offset, probe.cookie) for probe in probes if probe.at_return]:
            yield self._ret, True, chosen
        yield self._entry, False, entries

    def _link_multi(self, probes: list[Probe]) -> None:
        fds: list[int] = []
        self._tries -= 1
        try:
            for program, at_return, chosen in self._parts(probes):
                fds.append(
                    bpf.link_uprobes(
                        program,
                        self._path,
                        [offset for offset, _ in chosen],
                        [cookie for _, cookie in chosen],
                        at_return=at_return,
                        session=self._session,
                    )
                )
        except OSError as error:
            for fd in fds:
                os.close(fd)
            if error.errno not in NOT_THERE:
                raise
            self.reason = why(error)
            if len(probes) == 1 or self._tries <= 0 or time.monotonic() > self._until:
                self.left_out += probes
                return
            half = len(probes) // 2
            self._link_multi(probes[:half])
            self._link_multi(probes[half:])
        else:
            self.fds += fds

    def _link_events(self, probes: list[Probe]) -> None:
        kind = uprobe_pmu()
        for probe in probes:
            fds: list[int] = []
            try:
                for program, at_return, chosen in self._parts([probe]):
                    for offset, cookie in chosen:
                        fds.append(
                            bpf.open_perf_uprobe(kind, self._path, offset, at_return=at_return)
                        )
                        fds.append(bpf.link_perf_event(program, fds[-1], cookie))
            except OSError as error:
                self.fds += fds
                if error.errno not in NOT_THERE:
                    raise
                self.reason = why(error)
                self.left_out.append(probe)
            else:
                self.fds += fds

    def close(self) -> None:
        """Detaches; what takes long goes when a process of its own has let go of it, which
        nobody waits for.
        """
        other: subprocess.Popen[bytes] | None = None
        if self._waits and self.fds:
            # inside of close() or exit() the kernel waits up to 0.1 s for each perf event, and
            # visits each process that has the file mapped
            with contextlib.suppress(OSError):
                import subprocess  # seldom used, and long to import

                other = subprocess.Popen(
                    ["libvirt-trace-detach", "-c", "read end"],
                    executable="/bin/sh",
                    pass_fds=self.fds,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()
        if other and other.stdin:
            other.stdin.close()  # only now may it end: whoever is the last to close has to wait


def close_together(closes: Iterable[Callable[[], None]]) -> None:
    """Closes all of these at once, as the kernel lets each wait for all processors; one after the
    other where there is no room for threads.
    """
    left = deque(closes)

    def work() -> None:
        while True:
            try:
                close = left.popleft()
            except IndexError:
                return
            close()

    threads: list[threading.Thread] = []
    with contextlib.suppress(RuntimeError):
        for _ in range(min(len(left), MOST_TOGETHER) - 1):
            thread = threading.Thread(target=work, name="close")
            thread.start()
            threads.append(thread)
    work()
    for thread in threads:
        thread.join()


def why(error: OSError) -> str:
    """What the kernel means."""
    if error.errno in NOT_THERE:
        return "the kernel can't probe the instruction there"
    if error.errno == errno.EIO:
        return "its file system can't have probes"
    return f"the kernel refuses to probe it: {error.strerror}"


def uprobe_pmu() -> int:
    """What the kernel calls uprobes among perf events; TraceError where it has none."""
    try:
        return int(UPROBE_PMU.read_text())
    except (OSError, ValueError) as error:
        raise TraceError(
            "this kernel has no uprobes (CONFIG_UPROBE_EVENTS): tracing needs them"
        ) from error


def allow_files() -> None:
    """As many descriptors as we may have: each library file takes three, and without
    uprobe_multi each of its functions four.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        most = int(Path("/proc/sys/fs/nr_open").read_text())
    except (OSError, ValueError):
        most = hard
    for wanted in (most, hard):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            return
