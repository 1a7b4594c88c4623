# SPDX-License-Identifier: LGPL-2.1-or-later
"""What C and Python must agree on: layouts and numbers of records.py come in; C's static asserts go
out, which stand behind the sources, so that what differs does not compile.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from probes.kernel import records


class Shape(NamedTuple):
    """A struct of C, or the part of it from byte `at` on, that Python reads by a format.

    `fields`: their names in C, in order; "name[n]" takes n of the format.
    """

    struct: str
    format: struct.Struct
    fields: str
    at: int = 0


def asserts(shapes: Iterable[Shape], numbers: Mapping[str, int]) -> str:
    """A line for each field, and for each C expression that must have this value."""
    lines = [
        *(
            f"__builtin_offsetof(struct {shape.struct}, {name}) == {offset}"
            for shape in shapes
            for name, offset in offsets(shape).items()
        ),
        *(f"({name}) == {_literal(value)}" for name, value in numbers.items()),
    ]
    return "".join(f'_Static_assert({line}, "as Python has it");\n' for line in lines)


def offsets(shape: Shape) -> dict[str, int]:
    """Where the format has each field, in bytes from the struct's beginning."""
    items = [
        kind
        for count, kind in re.findall(r"(\d*)([a-zA-Z])", shape.format.format)
        for kind in ([f"{count}{kind}"] if kind in "sx" else [kind] * int(count or 1))
    ]
    found, at, place = {}, shape.at, 0
    for field in shape.fields.split():
        while items[place].endswith("x"):
            at += struct.calcsize(f"<{items[place]}")
            place += 1
        name, _, count = field.partition("[")
        found[name] = at
        for _ in range(int(count.rstrip("]") or 1)):
            at += struct.calcsize(f"<{items[place]}")
            place += 1
    if any(not item.endswith("x") for item in items[place:]):
        raise ValueError(f"struct {shape.struct} has more fields than {shape.fields}")
    return found


def _literal(value: int) -> str:
    return f"{value}ULL" if value >> 31 > 0 else str(value)


VERDICT = Shape(
    "verdict", records.VERDICT, "args[6] sp number action function rule message note result more[2]"
)
TRACE_SHAPES = (
    Shape("op", records.OP, "kind then src dst len off keep"),
    Shape(
        "plan",
        records.PLAN_HEAD,
        "flags fixed condition condition_arg walk condition_bits objects counts fails",
    ),
    Shape(
        "settings",
        records.SETTINGS,
        "ready self nested pids uids comms tree object writes spare glob_start glob_stay glob_char "
        "glob_end generation losses clock clock_set",
    ),
    Shape("head", records.HEAD, "kind depth flags row time task tid seq bad tgid"),
    Shape("chunk", records.CHUNK, "offset got", records.HEAD.size),
    Shape(
        "task_record",
        records.TASK,
        "start cgroup ppid uid gid loginuid ns_pid cmdline real_uid pid_ns comm",
        records.HEAD.size,
    ),
    Shape("item", records.ITEM, "got count address"),
    Shape("counts", records.COUNTS, "total max failed left"),
    Shape("begun", records.BEGUN, "tid time place"),
    Shape("plain", records.PLAIN, "start code"),
    Shape("user", records.USER, "uid lost[16]"),
    VERDICT,
)
# names that are the same in both; and what has another name, or none, in C
_SAME = re.compile(
    r"(OP|REC|PLAN|STR|WALK|USER|VERDICT|FAILS|COUNT)_[A-Z0-9_]+|NEAR|FIXED|RECORD|MAX_.*"
)
_PYTHON_ONLY = frozenset(
    {"PLAN_SIZE", "PLAN_HEAD", "REC_LEVELS", "VERDICT_AT", "VERDICT_ALLOW", "VERDICT_AUDIT"}
    | {"MAX_PLANS", "MAX_VERDICT_ROWS", "MAX_COUNTS", "VERDICT_FUNCTION"}
)
TRACE_NUMBERS = {
    **{
        name: value
        for name, value in vars(records).items()
        if _SAME.fullmatch(name) and name not in _PYTHON_ONLY
    },
    **{name: getattr(records, name) for name in ("ALWAYS_SO", "ANY_BIT", "EQUALS")},
    **{name: getattr(records, name) for name in ("INLINE_MAX", "LENGTH_LIMIT")},
    **{name: getattr(records, name) for name in ("CALLER_LEFT", "CALLER_CONFINED")},
    "MAX_FRAMES": records.DEEPEST,
    "CHUNK": records.CHUNK_BYTES,
    "COUNTERS": len(records.COUNTERS),
    "sizeof(struct op)": records.OP.size,
    "sizeof(struct plan)": records.PLAN_SIZE,
    "sizeof(struct settings)": records.SETTINGS.size,
    "sizeof(struct head)": records.HEAD.size,
    "sizeof(struct entry)": records.ENTRY_FIXED,
    "sizeof(struct ret)": records.RETURN_FIXED_ARGS,
    "sizeof(struct item)": records.ITEM.size,
    "sizeof(struct counts)": records.COUNTS_SIZE,
    "__builtin_offsetof(struct counts, calls)": records.COUNTS.size,
    "sizeof(struct begun)": records.BEGUN.size,
    "sizeof(struct plain)": records.PLAIN.size,
    "sizeof(struct user)": records.USER.size,
    "sizeof(struct verdict)": records.VERDICT.size,
    "sizeof(struct frame)": records.FRAME_SIZE,
    "sizeof(struct thread)": records.THREAD_SIZE,
    "sizeof(struct frames)": records.FRAMES_SIZE,
    "__builtin_offsetof(struct plan, ops)": records.PLAN_HEAD.size,
    "__builtin_offsetof(struct head, time)": records.RECORD_TIME,
    "__builtin_offsetof(struct entry, sp)": records.ENTRY_SP,
    "__builtin_offsetof(struct entry, args)": records.ENTRY_ARGS,
    "__builtin_offsetof(struct entry, caller)": records.ENTRY_CALLER,
    "__builtin_offsetof(struct ret, entry_time)": records.RETURN_TIME,
    "__builtin_offsetof(struct ret, value)": records.RETURN_VALUE,
    "__builtin_offsetof(struct ret, args)": records.RETURN_ARGS,
    "__builtin_offsetof(struct ret, sp)": records.RETURN_SP,
    "__builtin_offsetof(struct chunk, text)": records.CHUNK_TEXT,
    "__builtin_offsetof(struct task_record, text)": records.TASK_TEXT,
    "__builtin_offsetof(struct settings, losses)": records.LOSSES,
    "__builtin_offsetof(struct settings, clock)": records.CLOCK_AT,
    "__builtin_offsetof(struct settings, clock_set)": records.CLOCK_SET_AT,
    "__builtin_offsetof(struct settings, spare)": records.SPARE.start,
}
TASKS_SHAPES = (
    Shape("task_event", records.LIFE, "kind flags pid time tid ppid start"),
    Shape(
        "exec_event",
        records.EXEC,
        "cgroup inode device uid gid real_uid loginuid path arguments comm",
        records.LIFE.size,
    ),
    Shape("signal_event", records.SIGNAL, "signal code uid comm", records.LIFE.size),
)
TASKS_NUMBERS = {
    **{name: value for name, value in vars(records).items() if re.match("TASK_[A-Z]+$", name)},
    "ARGUMENTS": records.EXEC_ARGUMENTS,
    "PATH": records.EXEC_PATH,
    "__builtin_offsetof(struct task_event, time)": records.RECORD_TIME,
    "__builtin_offsetof(struct exec_event, text)": records.EXEC_TEXT,
    "sizeof(struct task_event)": records.LIFE.size,
    "sizeof(struct signal_event)": records.LIFE.size + records.SIGNAL.size,
    "sizeof(struct scratch)": records.TASKS_SCRATCH,
}
del TASKS_NUMBERS["TASK_TEXT"]  # of a record of trace.bpf.c
