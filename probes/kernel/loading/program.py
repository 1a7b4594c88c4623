# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loads trace.bpf.c: settings come in; loaded programs, and what they share with the reader, go
out.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from log.errors import TraceError, explain
from probes.kernel import bpf
from probes.kernel.loading import offsets
from probes.kernel.loading.bytecode import with_maps
from probes.kernel.loading.compiling import Compilation, program_names
from probes.kernel.loading.features import (
    NONE,
    PAIR,
    RETS,
    SESSION,
    has_may_goto,
    has_session,
    has_sleepable,
    has_tai,
    has_uprobe_multi,
)
from probes.kernel.loading.shared import Shared
from probes.kernel.rings.tracepoints import Tracepoints

LATER = 5  # how much nicer than we is who loads what may not be needed


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
        self.sleepable = has_sleepable()
        self.wakers: list[int] = []  # descriptors that can be read when something has come
        self.tasks, self.shared = Tracepoints(), Shared()
        try:
            self.tasks.create_maps()
            self.wakers += self.tasks.wakers
            self.shared.create_maps(ring_bytes)
            # a pair of return probes tells of calls inside of others, too
            if counts and self.way in (SESSION, RETS):
                self.shared.create_counts()
        except OSError as error:
            self.close()
            raise _refused(error) from error
        able = {name: 1 for name, has in (("MAY_GOTO", has_may_goto), ("TAI", has_tai)) if has()}
        if self.shared.counts:
            able |= {"COUNTING": 1, "STRIPES": self.shared.stripes}
        kind = PAIR if self.way == NONE else self.way
        places = offsets.defines({**offsets.MEMBERS, **(offsets.ARMED if self.session else {})})
        self._maps = {**self.shared.maps, **self.tasks.maps}
        # a descriptor's number is another one each time: the program has its place among all
        maps = {name: place for place, name in enumerate(self._maps)}
        self._compilation = Compilation(
            {**maps, **places, **able, kind.upper(): 1}, sleepable=self.sleepable
        )
        self._names = program_names(self.session)
        self._code: dict[str, bytes] = {}
        self._loaded: dict[str, int] = {}
        # all but verdicts, of which there may be none
        self._ready, self._is_loaded = threading.Event(), False
        # the verifier takes a quarter of a second, and a processor of its own where there is one
        self._start(self._load_all)
        try:
            self.wakers += self.shared.create_rings(ring_bytes, spill)  # their pages take time, too
        except OSError as error:
            self.close()
            raise _refused(error) from error
        self._start(self._put_rings)

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

    def _put_rings(self) -> None:
        try:
            self.shared.put_rings()
            self._rings_are_put = True
        except Exception as error:
            self._failed = error
        finally:
            self._rings_put.set()

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

    def close(self) -> None:
        """Gives everything back; links must be gone first."""
        self._join()
        self.tasks.close()
        self.shared.close()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


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
