# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the command to trace: it is started stopped, so that its first call is seen, and waited
for.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Sequence

from log.errors import TraceError
from probes.kernel.libc import libc

PR_SET_CHILD_SUBREAPER = 36
CANNOT_START = 125


class Launched:
    """A child process that waits until it may become COMMAND."""

    def __init__(self, argv: Sequence[str]) -> None:
        # its orphaned descendants become ours, so that they can be told from other processes
        libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
        waiting, self._go = os.pipe()
        self._failed, failed = os.pipe()
        self.started = False
        self.status: int | None = None
        self._name = argv[0]
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            os.close(self._failed)
            self._become(list(argv), waiting, failed)
        os.close(waiting)
        os.close(failed)

    @staticmethod
    def _become(argv: list[str], waiting: int, failed: int) -> None:
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            if os.read(waiting, 1):
                os.execvp(argv[0], argv)
        except OSError as error:
            os.write(failed, os.strerror(error.errno or 0).encode())
        finally:
            os._exit(CANNOT_START)

    def go(self) -> None:
        """Lets it start. TraceError: it could not."""
        self.started = True
        os.write(self._go, b"\1")
        os.close(self._go)
        why = os.read(self._failed, 4096)  # ends when the exec closes the other side
        os.close(self._failed)
        if why:
            self.reap()
            raise TraceError(f"can't start {self._name}: {why.decode().lower()}")

    def reap(self) -> None:
        """Collects what has exited: COMMAND, whose exit status is kept, and orphans that came
        to us.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self._ended(status)

    def _ended(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.status = code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Asks it to end."""
        if self.status is None:
            os.kill(self.pid, signal.SIGTERM)
