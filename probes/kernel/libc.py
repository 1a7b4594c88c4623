# SPDX-License-Identifier: LGPL-2.1-or-later
"""The C library that Python runs on, for what Python has no function for. A caller gives each
argument's C type; errno is as ctypes.get_errno() says.
"""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def syscall(
    number: int, *args: ctypes.c_long | ctypes.c_ulong | ctypes.Array[ctypes.c_char]
) -> int:
    """The result of a system call; OSError with its errno when it failed."""
    result = int(libc.syscall(ctypes.c_long(number), *args))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
