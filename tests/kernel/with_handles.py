# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run as a program: calls every public function that takes a handle 23 times with one of libvirt's
test driver; many succeed.

Prints its process id, then a line per function: its name and how many calls were made.
"""

import ctypes
import os
from collections.abc import Iterator

from probes.api.load import load_api
from probes.api.table import SCALAR_KINDS, Function, Param

TIMES = 23
# these end what the others need, or trust pointers that are not NULL
UNFIT = ("Free", "Close", "SetIdentity", "FDAssociate")
DOMAIN = (
    b"<domain type='test'><name>web1</name><memory>1024</memory><os><type>hvm</type></os></domain>"
)
VOLUME = b"<volume><name>disk1</name><capacity>1024</capacity></volume>"
# object -> how one is had: function, arguments; "name" stands for the handle of that object
MADE: dict[str, tuple[str, tuple[str | bytes | int, ...]]] = {
    "connect": ("virConnectOpen", (b"test:///default",)),
    "domain": ("virDomainDefineXML", ("connect", DOMAIN)),
    "network": ("virNetworkLookupByName", ("connect", b"default")),
    "pool": ("virStoragePoolLookupByName", ("connect", b"default-pool")),
    "volume": ("virStorageVolCreateXML", ("pool", VOLUME, 0)),
    "interface": ("virInterfaceLookupByName", ("connect", b"eth1")),
    "nodedevice": ("virNodeDeviceLookupByName", ("connect", b"computer")),
    "snapshot": ("virDomainSnapshotCreateXML", ("domain", b"<domainsnapshot/>", 0)),
}
HANDLERS = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
BUFFER = ctypes.create_string_buffer(1 << 16)


def argument(param: Param, handles: dict[str, int]) -> object:
    """Something of the parameter's type."""
    if param.kind == "handle":
        return ctypes.c_void_p(handles.get(param.object or ""))
    if param.kind in SCALAR_KINDS:
        return ctypes.c_uint64(0)
    if param.kind == "xml":
        return DOMAIN
    if param.kind == "string":
        return b"x"
    return BUFFER if param.kind == "pointer" else None


def make_handles(library: ctypes.CDLL) -> dict[str, int]:
    """An object of each kind, by its kind: its address."""
    handles: dict[str, int] = {}
    for kind, (name, values) in MADE.items():
        make = getattr(library, name)
        make.restype = ctypes.c_void_p
        handles[kind] = make(
            *(
                ctypes.c_void_p(handles[value]) if isinstance(value, str) else value
                for value in values
            )
        )
        assert handles[kind], name
    return handles


def taking(handles: dict[str, int], library: ctypes.CDLL) -> Iterator[Function]:
    """The library's functions whose first argument is such an object, and that do no harm."""
    for function in load_api().functions:
        first = function.params[0] if function.params else None
        if function.access == "plumbing" or function.library != "libvirt.so.0":
            continue
        if first is None or first.kind != "handle" or first.object not in handles:
            continue
        if not any(word in function.name for word in UNFIT) and hasattr(library, function.name):
            yield function


def main() -> None:
    """Makes the calls."""
    library = ctypes.CDLL("libvirt.so.0")
    quiet = HANDLERS(lambda data, error: None)
    library.virSetErrorFunc(None, quiet)
    handles = make_handles(library)
    print(os.getpid())
    for function in taking(handles, library):
        call = getattr(library, function.name)
        call.restype = ctypes.c_void_p
        for _ in range(TIMES):
            ctypes.memset(BUFFER, 0, len(BUFFER))
            call(*(argument(param, handles) for param in function.params))
        print(function.name, TIMES)


if __name__ == "__main__":
    main()
