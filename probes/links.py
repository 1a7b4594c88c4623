# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attaches the programs to functions of a library: offsets and cookies come in, something to close comes out."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from pathlib import Path
from typing import NamedTuple

from log.errors import TraceError
from probes import bpf

UPROBE_PMU = Path("/sys/bus/event_source/devices/uprobe/type")


class Probe(NamedTuple):
    """One function to probe: where it is in its file, in bytes; what the programs are told of it; which of them."""

    offset: int
    cookie: int
    at_return: bool  # a return probe too


class Links:
    """The links of one library file. Closing them detaches; so does the end of the process that holds them."""

    def __init__(self, path: str, probes: list[Probe], entry: int, ret: int, *, multi: bool) -> None:
        self.fds: list[int] = []
        self.kind = "uprobe_multi" if multi else "perf_event"
        try:
            # return probes first: an entry that was seen must not miss its return
            for program, at_return in ((ret, True), (entry, False)):
                chosen = [probe for probe in probes if probe.at_return or not at_return]
                if chosen and multi:
                    self._link_multi(path, chosen, program, at_return)
                elif chosen:
                    self._link_events(path, chosen, program, at_return)
        except OSError as error:
            self.close()
            raise TraceError(f"can't attach to {path}: {error.strerror}") from error

    def _link_multi(self, path: str, probes: list[Probe], program: int, at_return: bool) -> None:
        offsets, cookies = [probe.offset for probe in probes], [probe.cookie for probe in probes]
        self.fds.append(bpf.link_uprobes(program, path, offsets, cookies, at_return=at_return))

    def _link_events(self, path: str, probes: list[Probe], program: int, at_return: bool) -> None:
        kind = int(UPROBE_PMU.read_text())
        _allow_files(2 * len(probes))
        links = []
        try:
            for probe in probes:
                event = bpf.open_perf_uprobe(kind, path, probe.offset, at_return=at_return)
                self.fds.append(event)
                links.append(bpf.link_perf_event(program, event, probe.cookie))
        finally:
            self.fds.extend(links)

    def close(self) -> None:
        """Detaches; of perf events the last goes when a process of its own has let go of them, which nobody waits for."""
        if self.kind == "perf_event" and self.fds:
            # the kernel waits up to 0.1 s for each, inside of close() or exit()
            with contextlib.suppress(OSError):
                subprocess.Popen(
                    ["libvirt-trace-detach"],
                    executable="/bin/true",
                    pass_fds=self.fds,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


def _allow_files(more: int) -> None:
    """Room for that many more descriptors: without uprobe_multi every probe takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(os.listdir("/proc/self/fd")) + more + 256
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, soft), max(wanted, hard)))
