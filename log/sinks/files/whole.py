# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file's content comes in, a part at a time; the file is there when all of it is, and until
then what was there before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable

from log.errors import TraceError
from log.quote import name
from log.sinks.files.file import refused, send


def write_whole(path: str, parts: Iterable[str], mode: int = 0o600) -> None:
    """Write it with that mode; what is there already is replaced if it is as a file of `-o` has
    to be. A pipe or a terminal takes it as it comes. TraceError where it can't be written.
    """
    try:
        if _is_stream(path, shared=mode != 0o600):
            # non-blocking, since opening a pipe would wait for its reader
            flags = os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(path, flags)
            try:
                os.set_blocking(fd, True)
                _write(fd, parts)
            finally:
                os.close(fd)
        else:
            _replace(path, parts, mode)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise TraceError(f"{name(path)}: nobody reads it; start its reader first") from None
        reason = (error.strerror or str(error)).lower()
        raise TraceError(f"{name(path)}: can't write there: {reason}") from None
    except ValueError:
        raise TraceError(f"{name(path)}: is not a file name") from None


def _is_stream(path: str, *, shared: bool) -> bool:
    """Whether it is no file; TraceError for what should not be written to."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(status.st_mode):
        raise TraceError(f"{name(path)}: is a symbolic link; name the file itself")
    if reason := refused(status, shared=shared):
        raise TraceError(f"{name(path)}: {reason.removesuffix(', or give --shared-output')}")
    return not stat.S_ISREG(status.st_mode)


def _replace(path: str, parts: Iterable[str], mode: int) -> None:
    folder = os.path.dirname(path)
    made = os.path.join(folder, f".{os.path.basename(path)[:200]}.{secrets.token_hex(8)}")
    fd = os.open(
        made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode=0o600
    )
    try:
        try:
            _write(fd, parts)
            os.fchmod(fd, mode)  # whatever the umask
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(made, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(made)
        raise


def _write(fd: int, parts: Iterable[str]) -> None:
    for part in parts:
        _, error = send(fd, part.encode())
        if error:
            raise error
