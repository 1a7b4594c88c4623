# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles trace.bpf.c and tasks.bpf.c: numbers that they are made with come in, bytecode by its
name goes out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

from log.errors import TraceError
from probes.kernel import abi, contract
from probes.kernel.loading import kept
from probes.kernel.loading.bytecode import with_jumps_back
from probes.kernel.rings.tracepoints import TRACEPOINTS

KERNEL = Path(__file__).parents[1]
FOLDER = KERNEL / "trace"
SOURCE, TASKS_SOURCE = FOLDER / "trace.bpf.c", FOLDER / "tasks.bpf.c"
STUBS = FOLDER / "kernel" / "include"
# what the bytecode depends on, with all in FOLDER
SOURCES = tuple(
    KERNEL / name
    for name in ("loading/compiling.py", "loading/bytecode.py", "contract.py", "records.py")
)

CONTRACTS = {
    SOURCE: contract.asserts(contract.TRACE_SHAPES, contract.TRACE_NUMBERS),
    TASKS_SOURCE: contract.asserts(contract.TASKS_SHAPES, contract.TASKS_NUMBERS),
}


def program_names(session: bool) -> dict[str, str]:
    """What is compiled, by what it is for; verdicts are last."""
    entry, ret = ("on_call", "on_call") if session else ("on_entry", "on_return")
    return {"on_entry": entry, "on_return": ret, "on_verdict": "on_verdict"}


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
        SOURCE: set(program_names("SESSION" in defines).values()),
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
