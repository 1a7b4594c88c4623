# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file that names this process, so that one tracer can be told from others: a path comes
in, something to close comes out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from log.errors import TraceError
from log.quote import name


class PidFile:
    """Locked while the tracer runs, and gone afterwards."""

    def __init__(self, path: Path) -> None:
        """TraceError: it can't be written, or another tracer has it."""
        self._path = path
        label = name(os.fspath(path))
        try:
            self._fd = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise TraceError(
                f"can't write the pid file {label}: {os.strerror(error.errno or 0).lower()}"
            ) from None
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise TraceError(f"the pid file {label} is not a file of yours: name another one")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TraceError(
                f"the pid file {label} belongs to process "
                f"{os.read(self._fd, 20).decode(errors='replace').strip()}"
            ) from None
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def __enter__(self) -> None:
        """It is there."""

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._fd), os.lstat(self._path)):
                os.unlink(self._path)
        os.close(self._fd)
