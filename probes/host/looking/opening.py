# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opens files that others choose: a mapping or a path comes in, the descriptor of a regular file
goes out, and nothing else was opened.

To open a device or a pipe has effects, so a file is looked at first (O_PATH), and then opened
through that very descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import stat
from collections.abc import Hashable, Iterator
from pathlib import Path

from probes.host.looking import maps
from probes.host.looking.held import HOLDS, LOOKING
from probes.kernel.libc import libc

# linux/magic.h, and those of file systems where looking at a file may wait for another machine or
# process: NFS, SMB, FUSE, 9p, Ceph, AFS
OVERLAYFS = 0x794C7630
REMOTE = (
    0x6969,
    0xFF534D42,
    0xFE534D42,
    0x517B,
    0x65735546,
    0x01021997,
    0x00C36400,
    0x5346414F,
    0x6B414653,
)
LOW = 1 << 16  # the lowest address that may be mapped; programs are above it
# major, minor, inode, as mappings name a file; on btrfs and overlays stat() tells another device
Place = tuple[int, int, int]

libc.mmap.argtypes = [*[ctypes.c_size_t] * 2, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mmap.restype = ctypes.c_void_p


def open_file(path: str, *, follow: bool = False) -> int:
    """The regular file of that path, for reading; OSError if it is none. `follow`: the last
    part may be a link.
    """
    look = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        if not stat.S_ISREG(os.fstat(look).st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        # not to wait for whoever holds a lease on it
        return os.open(
            f"/proc/self/fd/{look}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        )
    finally:
        os.close(look)


def open_mapped(mapping: maps.Mapping, proc: Path = Path("/proc")) -> int:
    """The file that is mapped there; once the process has gone, the same file by its path.
    OSError if neither can be had.
    """
    try:
        return _open_in_process(mapping, proc)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.EINVAL):
            raise
    return open_place(mapping.path, (mapping.major, mapping.minor, mapping.inode))


def open_place(path: str, place: Place) -> int:
    """The file of that path, if it is the one that mappings name so; OSError if it is not."""
    fd = open_file(path)
    try:
        status = os.fstat(fd)
        # most name it as stat() does
        found = (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
        found = found if found == place else place_of(fd)
    except BaseException:
        close(fd)
        raise
    if found != place:
        close(fd)
        raise OSError(errno.ESTALE, "it is another file by now")
    return fd


def place_of(fd: int) -> Place:
    """What mappings call the open file: it is mapped here for a moment."""
    if os.fstat(fd).st_size == 0:
        raise OSError(errno.ENODATA, "it is empty")
    address = libc.mmap(LOW, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(errno.ENODATA, "it can't be mapped")
    try:
        start = b"%x-" % address
        with open("/proc/self/maps", "rb", buffering=0) as file:
            # it is the first of them, if that address was free; all of them take a hundred times as
            # long
            for most in (mmap.PAGESIZE, -1):
                for line in (file.read(most) or b"").splitlines():
                    if (
                        line.lstrip(b"0").startswith(start)
                        and len(fields := line.split(None, 5)) > 4
                    ):
                        major, _, minor = fields[3].partition(b":")
                        return int(major, 16), int(minor, 16), int(fields[4])
    finally:
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE))
    raise OSError(errno.ENODATA, "it can't be mapped")


def close(fd: int) -> None:
    """It is closed in any case: that is also said to a file system, which may have gone."""
    with contextlib.suppress(OSError):
        os.close(fd)


def identities(fd: int, status: os.stat_result) -> tuple[list[Hashable], list[Hashable]]:
    """What to look an open file up by, and what to remember it by.

    A uprobe belongs to the inode beneath an overlay, which all overlays on it share. Nothing tells
    which inode that is, but number, size and times are its own; two images that were copied bit by
    bit may be taken for one.
    """
    place, beneath = ("place", status.st_dev, status.st_ino), fingerprint(status)
    if _file_system(fd) == OVERLAYFS:
        return [("overlay", beneath), ("beneath", beneath)], [("overlay", beneath)]
    return [place, ("overlay", beneath)], [place, ("beneath", beneath)]


def is_remote(fd: int) -> bool:
    """Whether to look at the file may take any time, or fail: its file system may have gone."""
    return _file_system(fd) in (*REMOTE, 0)


def only_name(fd: int) -> None:
    """The descriptor names the file from now on, and can't be read: to close one that can may
    take any time on such a file system.
    """
    name = os.open(f"/proc/self/fd/{fd}", os.O_PATH | os.O_CLOEXEC)
    os.dup2(name, fd, inheritable=False)
    os.close(name)


def _file_system(fd: int) -> int:
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with its type, a long
    return ctypes.c_long.from_buffer(buffer).value if libc.fstatfs(fd, buffer) == 0 else 0


def fingerprint(status: os.stat_result) -> tuple[int, int, int, int]:
    """What a file and the same file seen through an overlay have in common."""
    # an overlay may keep the number of its layer in the upper bits (xino)
    return status.st_ino & (1 << 56) - 1, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _open_in_process(mapping: maps.Mapping, proc: Path) -> int:
    folder = f"{proc}/{mapping.pid}/map_files"

    def look() -> int:
        with contextlib.suppress(FileNotFoundError):
            # a link of the kernel's, which leads to the mapped file itself and nowhere else
            return open_file(f"{folder}/{mapping.start:x}-{mapping.end:x}", follow=True)
        for start, end in _parts(mapping, proc):
            with contextlib.suppress(FileNotFoundError):
                return open_file(f"{folder}/{start:x}-{end:x}", follow=True)
        raise OSError(errno.ESRCH, "its process has ended")

    fd = LOOKING.ask(mapping.pid, look, -1, proc, drop=close)
    if fd < 0:
        raise OSError(errno.EBUSY, HOLDS)
    return fd


def _parts(mapping: maps.Mapping, proc: Path) -> Iterator[tuple[int, int]]:
    """The loader may map the whole file before it maps its parts, each with its own protection."""
    for entry in maps.read(mapping.pid, proc):
        if entry[3:] == mapping[3:]:
            yield entry.start, entry.end
