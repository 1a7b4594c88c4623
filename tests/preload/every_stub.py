# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run as a program: calls every function that takes an object of the test driver once, as a linked
program would find it.

Prints a line per function: its name, whether its address is libvirt's own, what it returned and
which error it raised.
"""

import ctypes
import os
import re
from pathlib import Path

from tests.kernel.with_handles import BUFFER, HANDLERS, argument, make_handles, taking


def libvirts() -> list[range]:
    """The addresses of libvirt's code."""
    lines = re.findall(
        r"^(\w+)-(\w+) r-xp "
        r".*/libvirt\.so\.0",
        Path("/proc/self/maps").read_text(),
        re.M,
    )
    return [range(int(start, 16), int(end, 16)) for start, end in lines]


def main() -> None:
    """Makes the calls."""
    own = ctypes.CDLL("libvirt.so.0", mode=os.RTLD_GLOBAL)
    found, code = ctypes.CDLL(None), libvirts()
    quiet = HANDLERS(lambda data, error: None)
    own.virSetErrorFunc(None, quiet)
    handles = make_handles(own)
    for function in taking(handles, own):
        call = getattr(found, function.name)
        is_own = any(ctypes.cast(call, ctypes.c_void_p).value in addresses for addresses in code)
        is_pointer = function.result.kind in ("handle", "pointer", "string")
        call.restype = (
            ctypes.c_void_p
            if is_pointer
            else ctypes.c_int64
            if function.result.kind in ("i64", "u64")
            else ctypes.c_int
        )
        ctypes.memset(BUFFER, 0, len(BUFFER))
        own.virResetLastError()
        result = call(*(argument(param, handles) for param in function.params))
        shown = ("pointer" if result else "NULL") if is_pointer else result
        print(function.name, "libvirt" if is_own else "stub", shown, own.virGetLastErrorCode())


if __name__ == "__main__":
    main()
