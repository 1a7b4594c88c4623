# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bpf() system call: maps, programs and links come out as file descriptors.

BCC's loader has no flags argument (sleepable programs) and no cookies; its maps can't be
memory-mapped. Structures are those of union bpf_attr in linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct

from probes.kernel import abi
from probes.kernel.libc import syscall

MAP_CREATE, MAP_UPDATE, MAP_DELETE, PROG_LOAD, RAW_TRACEPOINT_OPEN, BTF_LOAD, LINK_CREATE = (
    0,
    2,
    3,
    5,
    17,
    18,
    28,
)
(
    MAP_HASH,
    MAP_ARRAY,
    MAP_PERCPU_ARRAY,
    MAP_LRU_HASH,
    MAP_ARRAY_OF_MAPS,
    MAP_RINGBUF,
    MAP_TASK_STORAGE,
) = 1, 2, 6, 9, 12, 27, 29
F_NO_PREALLOC, F_MMAPABLE = 1, 1 << 10
PROG_KPROBE, PROG_RAW_TRACEPOINT = 2, 17
F_SLEEPABLE = 1 << 4
TRACE_UPROBE_MULTI, TRACE_UPROBE_SESSION = 48, 57
PERF_EVENT = 41
MULTI_RETURN = 1


def bpf(command: int, attributes: bytes) -> int:
    """One bpf() call with the given start of union bpf_attr, the rest zero."""
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    while True:
        try:
            return syscall(abi.HERE.bpf, ctypes.c_long(command), buffer, ctypes.c_ulong(128))
        except OSError as error:
            if error.errno not in (errno.EINTR, errno.EAGAIN):
                raise


def _close_on_exec(fd: int) -> int:
    os.set_inheritable(fd, False)
    return fd


def create_map(
    kind: int, key_size: int, value_size: int, entries: int, flags: int = 0, name: str = ""
) -> int:
    """A new map's descriptor."""
    return _close_on_exec(
        bpf(
            MAP_CREATE,
            struct.pack(
                "<IIIIIII16s", kind, key_size, value_size, entries, flags, 0, 0, name.encode()[:15]
            ),
        )
    )


def create_map_of_maps(entries: int, like: int, name: str = "") -> int:
    """An array whose values are maps of the kind and size of the map `like`."""
    return _close_on_exec(
        bpf(
            MAP_CREATE,
            struct.pack(
                "<IIIIIII16s", MAP_ARRAY_OF_MAPS, 4, 4, entries, 0, like, 0, name.encode()[:15]
            ),
        )
    )


def create_task_storage(value_size: int, name: str) -> int:
    """A task storage map: a zeroed value of `value_size` bytes per thread, freed with it.

    The kernel wants its key and value described: an int and an array of bytes.
    """
    strings = b"\0int\0char\0"
    kind_int, kind_array = 1 << 24, 3 << 24
    types = struct.pack("<IIII", 1, kind_int, 4, (1 << 24) | 32)  # 1: int, signed, 32 bits
    types += struct.pack("<IIII", 5, kind_int, 1, 8)  # 2: char
    types += struct.pack("<IIIIII", 0, kind_array, 0, 2, 1, value_size)  # 3: char[value_size]
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    blob = ctypes.create_string_buffer(header + types + strings)
    btf = bpf(BTF_LOAD, struct.pack("<QQIIII", ctypes.addressof(blob), 0, len(blob) - 1, 0, 0, 0))
    try:
        attributes = struct.pack(
            "<IIIIIII16sIIII",
            MAP_TASK_STORAGE,
            4,
            value_size,
            0,
            F_NO_PREALLOC,
            0,
            0,
            name.encode()[:15],
            0,
            btf,
            1,
            3,
        )
        return _close_on_exec(bpf(MAP_CREATE, attributes))
    finally:
        os.close(btf)


def update_map(fd: int, key: bytes, value: bytes) -> None:
    """Sets one entry."""
    k, v = ctypes.create_string_buffer(key), ctypes.create_string_buffer(value)
    bpf(MAP_UPDATE, struct.pack("<IIQQQ", fd, 0, ctypes.addressof(k), ctypes.addressof(v), 0))


def load_program(
    code: bytes,
    name: str,
    *,
    sleepable: bool,
    multi: bool,
    session: bool = False,
    log_size: int = 0,
) -> int:
    """Loads a uprobe program; OSError carries the end of the verifier's log when `log_size`
    bytes were given for it.
    """
    attach_type = TRACE_UPROBE_SESSION if session else TRACE_UPROBE_MULTI if multi else 0
    return _load(PROG_KPROBE, code, name, F_SLEEPABLE if sleepable else 0, attach_type, log_size)


def load_tracepoint(code: bytes, name: str, log_size: int = 0) -> int:
    """Loads a program for raw tracepoints; as above."""
    return _load(PROG_RAW_TRACEPOINT, code, name, 0, 0, log_size)


def _load(kind: int, code: bytes, name: str, flags: int, attach_type: int, log_size: int) -> int:
    insns = ctypes.create_string_buffer(code)
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(log_size) if log_size else None
    attributes = struct.pack(
        "<IIQQIIQII16sII",
        kind,
        len(code) // 8,
        ctypes.addressof(insns),
        ctypes.addressof(licence),
        1 if log else 0,
        log_size,
        ctypes.addressof(log) if log else 0,
        0,
        flags,
        name.encode()[:15],
        0,
        attach_type,
    )
    try:
        return _close_on_exec(bpf(PROG_LOAD, attributes))
    except OSError as error:
        if log:
            raise OSError(error.errno, log.value.decode(errors="replace")[-4000:]) from error
        raise


def attach_tracepoint(program: int, name: str) -> int:
    """Has the program run at a tracepoint of the kernel, until what comes out is closed;
    FileNotFoundError where there is none.
    """
    where = ctypes.create_string_buffer(name.encode())
    return _close_on_exec(
        bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QII", ctypes.addressof(where), program, 0))
    )


def link_uprobes(
    program: int,
    path: str,
    offsets: list[int],
    cookies: list[int],
    *,
    at_return: bool,
    session: bool = False,
) -> int:
    """One uprobe_multi link: `program` at each file offset of `path`, each with its cookie;
    `session`: at entries and returns.
    """
    where = ctypes.create_string_buffer(os.fsencode(path))
    offset_array = (ctypes.c_uint64 * len(offsets))(*offsets)
    cookie_array = (ctypes.c_uint64 * len(cookies))(*cookies)
    attributes = struct.pack(
        "<IIIIQQQQIII",
        program,
        0,
        TRACE_UPROBE_SESSION if session else TRACE_UPROBE_MULTI,
        0,
        ctypes.addressof(where),
        ctypes.addressof(offset_array),
        0,
        ctypes.addressof(cookie_array),
        len(offsets),
        MULTI_RETURN if at_return else 0,
        0,
    )
    return _close_on_exec(bpf(LINK_CREATE, attributes))


def link_perf_event(program: int, event: int, cookie: int) -> int:
    """Joins a program to a perf event."""
    return _close_on_exec(
        bpf(LINK_CREATE, struct.pack("<IIIIQ", program, event, PERF_EVENT, 0, cookie))
    )


def open_perf_uprobe(kind: int, path: str, offset: int, *, at_return: bool, pid: int = -1) -> int:
    """A uprobe as a perf event of PMU type `kind` (/sys/bus/event_source/devices/uprobe/type),
    for one or (-1) every process.
    """
    where = ctypes.create_string_buffer(os.fsencode(path))
    # struct perf_event_attr: type, size, config (bit 0: at return), sample_period, sample_type,
    # read_format, flags, wakeup_events, bp_type, config1 = uprobe_path, config2 = probe_offset
    attributes = struct.pack(
        "<IIQQQQQIIQQ",
        kind,
        112,
        1 if at_return else 0,
        0,
        0,
        0,
        0,
        0,
        0,
        ctypes.addressof(where),
        offset,
    )
    buffer = ctypes.create_string_buffer(attributes.ljust(112, b"\0"), 112)
    cloexec = 8
    cpu = 0 if pid < 0 else -1
    return syscall(
        abi.HERE.perf_event_open,
        buffer,
        ctypes.c_long(pid),
        ctypes.c_long(cpu),
        ctypes.c_long(-1),
        ctypes.c_ulong(cloexec),
    )


def map_array(fd: int, size: int) -> mmap.mmap:
    """The values of an F_MMAPABLE array as memory; each value is padded to 8 bytes."""
    return mmap.mmap(fd, (size + mmap.PAGESIZE - 1) & -mmap.PAGESIZE)
