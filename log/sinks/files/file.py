# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file, pipe or terminal that gets the log: its path comes in; a descriptor that others have no
part in, or what is wrong with it, goes out; bytes go there whole.
"""

from __future__ import annotations

import errno
import os
import select
import stat

from log.errors import TraceError
from log.quote import name


def send(fd: int, data: bytes) -> tuple[int, OSError | None]:
    """Write all of `data`; returns the bytes that were taken and, where that is not all, why."""
    sent = 0
    while sent < len(data):
        try:
            sent += os.write(fd, data[sent:] if sent else data)
        except BlockingIOError:
            # another program that shares this pipe or terminal made it non-blocking
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except OSError as error:
            return sent, error
    return sent, None


def open_path(path: str, *, shared: bool) -> int:
    """What is there, or a new file of mode 0600, to append to; `shared`: others may own, read or
    write what is there. TraceError for symbolic links and for what should not get the log.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
    try:
        # non-blocking, since opening a pipe would wait for its reader
        fd = os.open(path, flags | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise TraceError(f"{name(path)}: is a symbolic link; name the file itself") from None
        if error.errno == errno.ENXIO:
            raise TraceError(f"{name(path)}: nobody reads it; start its reader first") from None
        raise TraceError(
            f"{name(path)}: can't write there: {os.strerror(error.errno or 0).lower()}"
        ) from None
    except ValueError:
        raise TraceError(f"{name(path)}: is not a file name") from None
    if reason := refused(os.fstat(fd), shared=shared):
        os.close(fd)
        raise TraceError(f"{name(path)}: {reason}")
    os.set_blocking(fd, True)
    return fd


def refused(status: os.stat_result, *, shared: bool) -> str | None:
    """Why it should not get the log."""
    mode = status.st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return "is neither a file nor a pipe nor a terminal; name another file"
    if shared or stat.S_ISCHR(mode):
        return None
    if status.st_uid != os.geteuid():
        return "belongs to somebody else; name another file, or give --shared-output"
    if stat.S_ISREG(mode) and mode & 0o077:
        return (
            "others may read or write it; chmod it to 600, name another file, or give "
            "--shared-output"
        )
    return None
