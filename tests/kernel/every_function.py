# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run as a program: calls every public function that takes a handle 23 times without one, which
libvirt refuses politely.

Prints its process id, then a line per function: its name and how many calls were made.
"""

import ctypes
import os

from probes.api.load import load_api
from probes.api.table import SCALAR_KINDS

TIMES = 23
# these look at other arguments before the handle, and crash without them
UNFIT = {
    "virConnectSetIdentity",
    "virDomainFDAssociate",
    "virDomainGetLaunchSecurityInfo",
    "virDomainSetLaunchSecurityState",
    "virDomainLxcEnterNamespace",
}


def main() -> None:
    """Makes the calls."""
    ctypes.CDLL("libvirt.so.0").virInitialize()
    libraries: dict[str, ctypes.CDLL] = {}
    print(os.getpid())
    for function in load_api().functions:
        if (
            function.access == "plumbing"
            or function.name in UNFIT
            or not function.params
            or function.params[0].kind != "handle"
        ):
            continue
        library = libraries.setdefault(function.library, ctypes.CDLL(function.library))
        try:
            call = getattr(library, function.name)
        except AttributeError:
            continue  # newer than this libvirt
        call.restype = ctypes.c_void_p
        arguments = [
            ctypes.c_uint64(0) if param.kind in SCALAR_KINDS else None for param in function.params
        ]
        for _ in range(TIMES):
            call(*arguments)
        print(function.name, TIMES)


if __name__ == "__main__":
    main()
