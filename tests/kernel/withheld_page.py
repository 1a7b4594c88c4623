# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run as a program, by any user: MOUNTPOINT becomes a file system of its own (FUSE) with one file
that is never read to its end, and a child calls libvirt with a page of that file as its document.

Prints the child's process id, waits for a line before the call, and prints "asked" once somebody
waits for the page. When this process ends, so does the waiting.

With LIBRARY the child maps that for execution instead, and has its own memory locked from the line
on: the page's first reads fail, for which the lock is let go, until one is waited for with the lock
held; and a thread asks for the lock for itself, which shuts others out who only want to read.
"""

import ctypes
import mmap
import os
import select
import struct
import sys
import threading

NEWNS, NEWUSER, NOSUID_NODEV = 0x20000, 0x10000000, 6
LOOKUP, GETATTR, OPEN, READ, INIT = 1, 3, 14, 15, 26  # linux/fuse.h
NO_ANSWER = (2, 36, 42, READ)  # FORGET, INTERRUPT, BATCH_FORGET
LONG = 2  # s
EIO, ENOSYS = 5, 38
SIZE = 1 << 16
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p


def check(result: int) -> None:
    """Raise the error of a C function that failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def attributes(node: int) -> bytes:
    """struct fuse_attr."""
    mode = 0o40755 if node == 1 else 0o100644
    return struct.pack(
        "<6Q10I", node, SIZE, SIZE // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0
    )


def answer(code: int, node: int) -> bytes | None:
    """What there is to say to a question; None: nothing is known of such."""
    if code == INIT:
        return struct.pack("<4I2H2I2HI28x", 7, 31, 0, 0, 12, 9, 4096, 1, 1, 0, 0)  # page by page
    if code == LOOKUP:
        return struct.pack("<4Q2I", 2, 0, 1000, 1000, 0, 0) + attributes(2)
    if code == GETATTR:
        return struct.pack("<Q2I", 1000, 0, 0) + attributes(node)
    return struct.pack("<Q2I", 1, 0, 0) if code == OPEN else None


def serve(fuse: int, begins: int, asks: int) -> None:
    """Answers everything but reads. `begins`, if it is none: has the other thread ask for the lock;
    `asks`: it has got it.
    """
    while True:
        _, code, unique, node = struct.unpack_from("<2I2Q", os.read(fuse, (1 << 17) + 4096))
        if code == READ and begins >= 0:
            os.write(begins, b"!")
            if select.select([asks], [], [], LONG)[0]:
                os.read(asks, 1)
                os.write(fuse, struct.pack("<IiQ", 16, -EIO, unique))
                continue
        if code == READ:
            print("asked", flush=True)
        if code not in NO_ANSWER:
            said = answer(code, node)
            os.write(
                fuse,
                struct.pack("<IiQ", 16 + len(said or b""), 0 if said else -ENOSYS, unique)
                + (said or b""),
            )


def call(path: str) -> None:
    """Defines a domain from a document that is not there yet."""
    import libvirt  # type: ignore[import-not-found,unused-ignore]  # noqa: F401 - so that it is loaded when the tracer starts

    library = ctypes.CDLL("libvirt.so.0")
    library.virConnectOpen.restype = ctypes.c_void_p
    with open(path, "rb") as file:
        page = mmap.mmap(file.fileno(), SIZE, mmap.MAP_PRIVATE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    conn = library.virConnectOpen(b"test:///default")
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    library.virDomainDefineXML(ctypes.c_void_p(conn), ctypes.c_void_p(address))


def lock(path: str, library: str, begins: int, asks: int) -> None:
    """Has the memory locked for as long as the page does not come."""
    with open(path, "rb") as file, open(library, "rb") as code:
        page = mmap.mmap(file.fileno(), SIZE, mmap.MAP_PRIVATE)
        held = mmap.mmap(code.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    # of C: it waits without Python's own lock
    look = (ctypes.c_void_p(address), b"x", ctypes.c_size_t(1))
    threading.Thread(target=libc.memcmp, args=look, daemon=True).start()
    while os.read(begins, 1):
        libc.mmap(None, ctypes.c_size_t(SIZE), 1, 0x22, -1, 0)
        os.write(asks, b"!")
    held.close()


def main(mountpoint: str, library: str | None = None) -> None:
    """Mounts, and does both."""
    uid, gid = os.getuid(), os.getgid()
    check(libc.unshare(NEWUSER | NEWNS))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    fuse = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
    check(libc.mount(b"withheld", mountpoint.encode(), b"fuse", NOSUID_NODEV, options.encode()))
    (to_begin, begins), (asks, to_ask) = os.pipe(), os.pipe()
    if os.fork():
        serve(fuse, begins if library else -1, asks)
    os.close(fuse)
    if library:
        lock(f"{mountpoint}/page", library, to_begin, to_ask)
    else:
        call(f"{mountpoint}/page")


if __name__ == "__main__":
    main(*sys.argv[1:])
