# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles and loads trace.bpf.c: settings come in; loaded programs, their maps and rings go
out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import re
import signal
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from log.errors import TraceError, explain
from probes.kernel import abi, bpf, contract, records
from probes.kernel.loading import kept, offsets
from probes.kernel.loading.bytecode import with_jumps_back, with_maps
from probes.kernel.rings.ring import Ring, RingMemory
from probes.kernel.rings.spill import Spill
from probes.kernel.rings.tracepoints import TRACEPOINTS, Tracepoints

# how it is learnt what calls returned: a program that decides whether there is a return probe,
# return probes everywhere, probes on the instructions that return; not at all
SESSION, PAIR, RETS, NONE = "session", "pair", "rets", "none"
# in the environment: as before Linux 6.13, and as where return probes kill tasks under seccomp
TWO_LINKS, CONFINED = "LIBVIRT_TRACE_TWO_LINKS", "LIBVIRT_TRACE_CONFINED"
KERNEL = Path(__file__).parents[1]
FOLDER = KERNEL / "trace"
SOURCE, TASKS_SOURCE = FOLDER / "trace.bpf.c", FOLDER / "tasks.bpf.c"
STUBS = FOLDER / "kernel" / "include"
# what the bytecode depends on, with all in FOLDER
SOURCES = tuple(
    KERNEL / name
    for name in ("loading/program.py", "loading/bytecode.py", "contract.py", "records.py")
)
MAY_GOTO = struct.pack(
    "<BBhiBBhiBBhiBBhi", 0xB7, 0, 0, 0, 0xE5, 0, 1, 0, 0x05, 0, -2, 0, 0x95, 0, 0, 0
)
TAI_NS = struct.pack("<BBhiBBhi", 0x85, 0, 0, 208, 0x95, 0, 0, 0)
RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
TASK_RING_BYTES = 2 << 20  # at least
RINGS = ("read", "write", "task", "users_read", "users_write", "users_task")
# in our own memory, of writes and tasks: times a ring's size, and bytes, unless the ring is larger;
# of reads as much as a ring
BACKLOG, BACKLOG_BYTES = 8, 64 << 20
MOST_STRIPES = 4  # of what is counted
LATER = 5  # how much nicer than we is who loads what may not be needed


CONTRACTS = {
    SOURCE: contract.asserts(contract.TRACE_SHAPES, contract.TRACE_NUMBERS),
    TASKS_SOURCE: contract.asserts(contract.TASKS_SHAPES, contract.TASKS_NUMBERS),
}


def has_uprobe_multi() -> bool:
    """Whether one link can attach a program to many functions (Linux 6.6)."""
    return _can_link("try_multi", session=False)


def has_session() -> bool:
    """Whether one program can be at entries and returns, and decide at an entry whether there
    is a return (Linux 6.13).
    """
    return (
        not os.environ.get(TWO_LINKS)
        and offsets.has(offsets.ARMED)
        and _can_link("try_session", session=True)
    )


def has_sleepable() -> bool:
    """Whether a uprobe program may fault pages in (Linux 6.0)."""
    return _can_load(RETURN_0, "try_sleep", sleepable=True)


def has_may_goto() -> bool:
    """Whether there is the instruction that bounds loops (Linux 6.9)."""
    return _can_load(MAY_GOTO, "try_loop", sleepable=False)


def has_tai() -> bool:
    """Whether programs are told the time of day, by CLOCK_TAI (Linux 6.1)."""
    return _can_load(TAI_NS, "try_tai", sleepable=False)


def _can_link(name: str, *, session: bool) -> bool:
    """Tried on a path that the kernel must refuse as no file."""
    program = -1
    try:
        program = bpf.load_program(RETURN_0, name, sleepable=False, multi=True, session=session)
        os.close(bpf.link_uprobes(program, "/", [0], [0], at_return=False, session=session))
    except OSError as error:
        return error.errno == errno.EBADF
    finally:
        if program >= 0:
            os.close(program)
    return True


def _can_load(code: bytes, name: str, *, sleepable: bool) -> bool:
    try:
        os.close(bpf.load_program(code, name, sleepable=sleepable, multi=False))
    except OSError:
        return False
    return True


class Program:
    """The programs and everything they share with the reader; they are compiled and loaded while
    the caller goes on.

    `ring_bytes`: size of each of the call rings, a power of two. `way`: SESSION, PAIR or RETS.
    `counts`: calls that only read are counted in the kernel, where that is possible.
    """

    def __init__(
        self, ring_bytes: int, way: str | None = None, *, counts: bool = False, spill: int = 0
    ) -> None:
        self._fds: list[int] = []
        self._threads: list[threading.Thread] = []
        self._failed: Exception | None = None
        self._rings_put, self._rings_are_put = threading.Event(), False
        self.multi = has_uprobe_multi()
        self.way = way or (SESSION if has_session() else PAIR)
        self.session = self.way == SESSION
        # of each function that is counted, and calls under way of these
        self.counts: mmap.mmap | None = None
        self.begun: mmap.mmap | None = None
        processors = os.cpu_count() or 1
        self.stripes = min(1 << (processors - 1).bit_length(), MOST_STRIPES)
        self.sleepable = has_sleepable()
        self.rings: dict[str, Ring] = {}
        self.wakers: list[int] = []  # descriptors that can be read when something has come
        self._memory: list[RingMemory] = []
        self._spills: list[Spill] = []
        self.tasks = Tracepoints()
        try:
            self.tasks.create_maps()
            self.wakers += self.tasks.wakers
            first_ring = self._create_maps(ring_bytes)
            # a pair of return probes tells of calls inside of others, too
            if counts and self.way in (SESSION, RETS):
                self._create_counts()
        except OSError as error:
            self.close()
            raise _refused(error) from error
        able = {name: 1 for name, has in (("MAY_GOTO", has_may_goto), ("TAI", has_tai)) if has()}
        if self.counts:
            able |= {"COUNTING": 1, "STRIPES": self.stripes}
        kind = PAIR if self.way == NONE else self.way
        places = offsets.defines({**offsets.MEMBERS, **(offsets.ARMED if self.session else {})})
        self._maps.update(self.tasks.maps)
        # a descriptor's number is another one each time: the program has its place among all
        maps = {name: place for place, name in enumerate(self._maps)}
        self._compilation = Compilation(
            {**maps, **places, **able, kind.upper(): 1}, sleepable=self.sleepable
        )
        self._names = _names(self.session)
        self._code: dict[str, bytes] = {}
        self._loaded: dict[str, int] = {}
        # all but verdicts, of which there may be none
        self._ready, self._is_loaded = threading.Event(), False
        # the verifier takes a quarter of a second, and a processor of its own where there is one
        self._start(self._load_all)
        try:
            self._create_rings(ring_bytes, spill, first_ring)  # their pages take time, too
        except OSError as error:
            self.close()
            raise _refused(error) from error

    def load(self) -> None:
        """Waits for the compiler and the kernel's verifier: from then on calls can be traced, and
        `tasks` tells.
        """
        self._ready.wait()
        self._rings_put.wait()
        if not (self._is_loaded and self._rings_are_put):
            self._raise_what_failed()

    def of(self, what: str) -> int:
        """The program that is for this; it is waited for."""
        name = self._names[what]
        if name not in self._loaded:
            self._join()
            self._raise_what_failed()
        return self._loaded[name]

    def _raise_what_failed(self) -> None:
        if isinstance(self._failed, OSError):
            raise _refused(self._failed) from self._failed
        if self._failed:
            raise self._failed

    def _load_all(self) -> None:
        maps = [*self._maps.values()]
        try:
            for name, code in self._compilation.result().items():
                self._code[name] = with_maps(code, maps)
            *first, verdicts = dict.fromkeys(self._names.values())
            self._start(lambda: self._load_later(verdicts))
            for name in first:
                self._loaded[name] = self._load_one(self._code[name], name)
            self.tasks.attach(self._code)
            self._is_loaded = True
        except Exception as error:  # whatever it is, who waits is told
            self._failed = error
        finally:
            self._ready.set()

    def _load_later(self, name: str) -> None:
        """On a processor that is idle, if there is one."""
        try:
            os.nice(LATER)  # of this thread
            self._loaded[name] = self._load_one(self._code[name], name)
        except Exception as error:
            self._failed = error

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="load", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _join(self) -> None:
        """Waits for all of them; one of them starts another."""
        for thread in self._threads:
            thread.join()

    def _map(
        self, kind: int, key_size: int, value_size: int, entries: int, flags: int = 0, *, name: str
    ) -> int:
        fd = bpf.create_map(kind, key_size, value_size, entries, flags, name)
        self._fds.append(fd)
        return fd

    def _array(self, value_size: int, entries: int, name: str) -> int:
        return self._map(bpf.MAP_ARRAY, 4, value_size, entries, bpf.F_MMAPABLE, name=name)

    def _create_maps(self, ring_bytes: int) -> int:
        """All that the programs name; the first of the rings comes out."""
        settings = self._array(records.SETTINGS.size, 1, "settings")
        entry_plans = self._array(records.PLAN_SIZE, records.MAX_PLANS, "entry_plans")
        return_plans = self._array(records.PLAN_SIZE, records.MAX_PLANS, "return_plans")
        users = self._array(records.USER.size, records.MAX_USERS, "users")
        glob = self._array(8, 256, "glob")
        verdict_rows = self._array(8, records.MAX_VERDICT_ROWS, "verdict_rows")
        self.verdict_rows = bpf.map_array(verdict_rows, 8 * records.MAX_VERDICT_ROWS)
        self.verdict_rows[:] = b"\xff" * (8 * records.MAX_VERDICT_ROWS)
        self.settings = bpf.map_array(settings, records.SETTINGS.size)
        self.entry_plans = bpf.map_array(entry_plans, records.PLAN_SIZE * records.MAX_PLANS)
        self.return_plans = bpf.map_array(return_plans, records.PLAN_SIZE * records.MAX_PLANS)
        self.users = bpf.map_array(users, records.USER.size * records.MAX_USERS)
        self.glob = bpf.map_array(glob, 8 * 256)
        self.filters = {
            "pids": self._map(bpf.MAP_HASH, 4, 1, 4096, name="pids"),
            "uids": self._map(bpf.MAP_HASH, 4, 1, 4096, name="uids"),
            "comms": self._map(bpf.MAP_HASH, 16, 1, 4096, name="comms"),
        }
        self._plain = self._map(bpf.MAP_LRU_HASH, 4, records.PLAIN.size, 4096, name="plain")
        first_ring = self._map(bpf.MAP_RINGBUF, 0, 0, ring_bytes, name="read")
        self._ring_map = bpf.create_map_of_maps(len(RINGS), first_ring, name="rings")
        self._fds.append(self._ring_map)
        threads = bpf.create_task_storage(records.THREAD_SIZE, "threads")
        self._fds.append(threads)
        frames = bpf.create_task_storage(records.FRAMES_SIZE, "frames")
        self._fds.append(frames)
        self._maps = {
            "FD_SETTINGS": settings,
            "FD_ENTRY_PLANS": entry_plans,
            "FD_RETURN_PLANS": return_plans,
            "FD_USERS": users,
            "FD_GLOB": glob,
            "FD_RINGS": self._ring_map,
            "FD_VERDICT_ROWS": verdict_rows,
            "FD_THREADS": threads,
            "FD_FRAMES": frames,
            "FD_PIDS": self.filters["pids"],
            "FD_UIDS": self.filters["uids"],
            "FD_COMMS": self.filters["comms"],
            "FD_PLAIN": self._plain,
        }
        return first_ring

    def _create_counts(self) -> None:
        size, entries = records.COUNTS_SIZE, records.MAX_COUNTS * self.stripes
        counts = self._array(size, entries, "counts")
        begun = self._array(records.BEGUN.size, records.MAX_BEGUN, "begun")
        self.counts = bpf.map_array(counts, size * entries)
        self.begun = bpf.map_array(begun, records.BEGUN.size * records.MAX_BEGUN)
        self._maps |= {"FD_COUNTS": counts, "FD_BEGUN": begun}

    def _create_rings(self, ring_bytes: int, spill: int, first: int) -> None:
        """Those of root, and in the same order those of all others."""
        self._spills = [Spill(spill // 2), Spill(spill // 2)] if spill else []
        fds: list[int] = []
        for name in RINGS:
            size = max(TASK_RING_BYTES, ring_bytes) if name.endswith("task") else ring_bytes
            fd = self._map(bpf.MAP_RINGBUF, 0, 0, size, name=name) if fds else first
            fds.append(fd)
            self._memory.append(memory := RingMemory(fd, size))
            self.wakers.append(fd)
            self.rings[name] = Ring(
                memory,
                size,
                max(size, min(BACKLOG * size, BACKLOG_BYTES))
                if not name.endswith("read")
                else size,
                self._spills[name.startswith("users_")]
                if spill and not name.endswith("task")
                else None,
            )
        self._start(lambda: self._put(fds))

    def _put(self, fds: list[int]) -> None:
        """Has them in the map, for each of which the kernel waits for all programs on all
        processors.
        """
        try:
            for index, fd in enumerate(fds):
                bpf.update_map(
                    self._ring_map, index.to_bytes(4, "little"), fd.to_bytes(4, "little")
                )
            self._rings_are_put = True
        except Exception as error:
            self._failed = error
        finally:
            self._rings_put.set()

    def _load_one(self, code: bytes, name: str) -> int:
        kind = {
            "sleepable": self.sleepable,
            "multi": self.multi,
            "session": name == "on_call",
        }
        try:
            fd = bpf.load_program(code, name, **kind)
        except OSError:
            fd = bpf.load_program(code, name, **kind, log_size=1 << 20)
        self._fds.append(fd)
        return fd

    def allow(self, kind: str, keys: Iterable[bytes]) -> None:
        """Only processes with one of these keys; `kind`: pids, uids, comms."""
        for key in keys:
            bpf.update_map(self.filters[kind], key, b"\1")

    def copies_no_stacks(self, pid: int, start: int, pages: int) -> None:
        """So does the process that began then (ticks), while it has so many executable pages:
        what it has left is left for good.
        """
        bpf.update_map(self._plain, pid.to_bytes(4, "little"), records.PLAIN.pack(start, pages))

    def close(self) -> None:
        """Gives everything back; links must be gone first."""
        self._join()
        self.tasks.close()
        for memory in self._memory:
            memory.close()
        for spill in self._spills:
            spill.close()
        self._memory.clear()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


def _names(session: bool) -> dict[str, str]:
    """What is compiled, by what it is for; verdicts are last."""
    entry, ret = ("on_call", "on_call") if session else ("on_entry", "on_return")
    return {"on_entry": entry, "on_return": ret, "on_verdict": "on_verdict"}


def _refused(error: OSError) -> TraceError:
    if error.errno == errno.EPERM:
        return TraceError(
            "not allowed to load BPF programs: it takes root with CAP_BPF and CAP_PERFMON (in a "
            "container: --privileged), and no lockdown"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return TraceError(explain(error))
    why = (error.strerror or "").strip().splitlines()[-2:]  # of the verifier's log, if there is one
    return TraceError(
        f"the kernel refused the BPF program ({'; '.join(why)}): Linux 5.15 or newer "
        "with BTF is needed"
    )


@contextlib.contextmanager
def stub_headers() -> Iterator[None]:
    """BCC looks for kernel headers in the folder that BCC_KERNEL_SOURCE names: there it finds
    our stubs. Nothing is written for it: a service may have nowhere to.
    """
    old = os.environ.get("BCC_KERNEL_SOURCE")
    os.environ["BCC_KERNEL_SOURCE"] = str(STUBS.parent)
    try:
        yield
    finally:
        if old is None:
            del os.environ["BCC_KERNEL_SOURCE"]
        else:
            os.environ["BCC_KERNEL_SOURCE"] = old


class Compilation:
    """The compiler at work in a child process, so that the tracer stays small and does other
    things meanwhile; or what it made before.
    """

    def __init__(self, defines: dict[str, int], *, sleepable: bool) -> None:
        sources = sorted(path for path in FOLDER.rglob("*.[ch]") if path.is_file())
        self._key = kept.key_of([*SOURCES, *sources], (sorted(defines.items()), sleepable))
        self._kept = kept.read(self._key)
        if self._kept is not None:
            return
        receiving, sending = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(receiving)
            try:
                answer: dict[str, str] | str
                try:
                    code = _compile(defines, sleepable)
                    answer = {name: one.hex() for name, one in code.items()}
                except TraceError as error:
                    answer = str(error)
                except Exception as error:  # whatever it is, who waits is told
                    answer = f"the BPF compiler failed: {type(error).__name__}: {error}"
                with os.fdopen(sending, "w") as pipe:
                    json.dump(answer, pipe)
            finally:
                os._exit(0)
        os.close(sending)
        self._receiving = receiving

    def result(self) -> dict[str, bytes]:
        """Bytecode by program name; waits for it."""
        if self._kept is not None:
            return self._kept
        with os.fdopen(self._receiving, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(self._child, 0)
        try:
            answer: dict[str, str] | str = json.loads(data)
        except ValueError as error:
            raise TraceError(_ending(status)) from error
        if isinstance(answer, str):
            raise TraceError(answer)
        code = {name: bytes.fromhex(one) for name, one in answer.items()}
        kept.write(self._key, code)
        return code


def _ending(status: int) -> str:
    """Why the compiler has said nothing."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        memory = ": is there enough memory?" if number == signal.SIGKILL else ""
        return (
            f"the BPF compiler was killed by signal {number} ({signal.strsignal(number)}){memory}"
        )
    return "the BPF compiler died: is the package python3-bpfcc complete?"


def whole(source: Path) -> str:
    """The program with this machine's numbers and our headers in it, as BCC compiles a text, which
    is nowhere; and with what its layouts must be.
    """
    text = re.sub(
        r'^#include "(.+)"$',
        lambda line: (source.parent / line[1].replace("MACHINE", abi.HERE.name)).read_text(),
        source.read_text(),
        flags=re.M,
    )
    return f"#define REGISTERS {abi.HERE.registers}\n{text}\n{CONTRACTS[source]}"


def _compile(defines: dict[str, int], sleepable: bool) -> dict[str, bytes]:
    try:
        import bcc
    except ImportError as error:
        raise TraceError(
            "BCC's Python module is missing: install the package python3-bpfcc"
        ) from error
    flags = [f"-D{name}={value}" for name, value in defines.items()]
    if sleepable:
        flags.append("-DSLEEPABLE")
    names = {
        SOURCE: set(_names("SESSION" in defines).values()),
        TASKS_SOURCE: set(TRACEPOINTS),
    }
    code: dict[str, bytes] = {}
    with stub_headers():
        for source, programs in names.items():
            try:
                module = bcc.BPF(text=whole(source), cflags=[f"-I{STUBS}", "-Wno-unused", *flags])
            except Exception as error:  # BCC raises this class itself
                raise TraceError(f"BCC could not compile {source.name}: {error}") from error
            code.update((name, with_jumps_back(module.dump_func(name))) for name in programs)
    return code
