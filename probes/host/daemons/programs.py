# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells libvirt's daemons from other programs: a process comes in; whether its program is a daemon
goes out.

A daemon makes itself a server with virNetDaemonNew, which its program imports; the enforcer asks
the same. Its name is another one after an upgrade ("libvirtd (deleted)"), and drivers as modules
are in every program that uses an embedded driver, too. Anybody can make such a program.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from log.errors import TraceError
from log.recent import Recent
from probes.host.looking.opening import open_file
from probes.internals.elf import imports

MAKES_A_SERVER = b"virNetDaemonNew"  # or virNetDaemonNewPostExecRestart
MOST_FILES = 4096


class Daemons:
    """Which processes are daemons. Each program file is read once."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._files: Recent[tuple[int, ...], bool] = Recent(MOST_FILES)

    def is_daemon(self, pid: int) -> bool:
        """Whether the process is one; False for one that has gone."""
        path = f"{self._proc}/{pid}/exe"  # leads to the file itself, whatever its path shows by now
        try:
            status = os.stat(path)
            key = (
                status.st_dev,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
            return self._files.learn(key, lambda _: _is_program_of_daemon(path))
        except OSError:
            return False

    def is_roots(self, pid: int) -> bool:
        """Whether none but root can have changed the program that the process runs; False for
        one that has gone.
        """
        try:
            status = os.stat(f"{self._proc}/{pid}/exe")
        except OSError:
            return False
        return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_program_of_daemon(path: str) -> bool:
    fd = open_file(path, follow=True)
    try:
        return imports(fd, path, MAKES_A_SERVER)
    except TraceError:
        return False
    finally:
        os.close(fd)
