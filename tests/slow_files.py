# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file system with one file, which answers as long as it is asked to: a folder and a file
come in; run as a program it serves it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# linux/fuse.h: opcodes, and struct fuse_in_header, fuse_attr
LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, BATCH_FORGET = (
    1,
    2,
    3,
    14,
    15,
    17,
    18,
    25,
    26,
    27,
    42,
)
HEAD = struct.Struct("<IIQQIIII")
ATTR = struct.Struct("<6Q10I")
NAME, ROOT, FILE = b"libvirt.so.0", 1, 2
ENOENT, ENOSYS = -2, -38


def attributes(node: int, size: int) -> bytes:
    """What stat() says of the folder or the file."""
    mode, links, length = (0o40755, 2, 0) if node == ROOT else (0o100755, 1, size)
    return ATTR.pack(
        node, length, (length + 511) // 512, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0
    )


def answer(opcode: int, node: int, body: bytes, data: bytes) -> bytes | int:
    """What is sent back, or a negative error number."""
    if opcode == INIT:
        return struct.pack(
            "<IIIIHHIIHHIIIIII", 7, 31, 65536, 0, 16, 12, 65536, 1, 16, 0, 0, 0, 0, 0, 0, 0
        )
    if opcode == LOOKUP:
        # never kept for longer than this: whoever looks has to ask again
        return (
            struct.pack("<4QII", FILE, 0, 0, 0, 0, 0) + attributes(FILE, len(data))
            if body.rstrip(b"\0") == NAME
            else ENOENT
        )
    if opcode == GETATTR:
        return struct.pack("<QII", 0, 0, 0) + attributes(node, len(data))
    if opcode in (OPEN, OPENDIR):
        return struct.pack("<QII", 0, 2, 0)  # its pages are kept
    if opcode == READ:
        _, at, length = struct.unpack_from("<QQI", body)
        return data[at : at + length]
    if opcode == STATFS:
        return struct.pack("<5Q4I24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0)
    return b"" if opcode in (RELEASE, FLUSH) else ENOSYS


def main(folder: str, path: str) -> None:
    """Serves the file in the folder until that is unmounted."""
    with open(path, "rb") as file:
        data = file.read()
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"slow", folder.encode(), b"fuse", 6, options.encode()):  # nosuid, nodev
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    while True:
        try:
            request = os.read(fd, 1 << 20)
        except FileNotFoundError:  # interrupted
            continue
        except OSError:
            return  # unmounted
        _, opcode, unique, node, *_ = HEAD.unpack_from(request)
        if opcode in (FORGET, BATCH_FORGET):
            continue
        reply = answer(opcode, node, request[HEAD.size :], data)
        error, content = (reply, b"") if isinstance(reply, int) else (0, reply)
        os.write(fd, struct.pack("<IiQ", 16 + len(content), error, unique) + content)


if __name__ == "__main__":
    main(*sys.argv[1:])
