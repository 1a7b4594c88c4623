# SPDX-License-Identifier: LGPL-2.1-or-later
"""The structs of trace.bpf.c are where the reader looks for them: a C compiler says where."""

import subprocess
from pathlib import Path

import pytest

from probes.kernel import records
from probes.kernel.program import SOURCE, TASKS_SOURCE, whole

PROGRAM = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
	typedef int32_t s32; typedef int64_t s64;
%s
int main(void) { %s return 0; }
"""
# C expression -> what the reader has
LAYOUT = {
    "sizeof(struct op)": records.OP.size,
    "sizeof(struct plan)": records.PLAN_SIZE,
    "offsetof(struct plan, ops)": records.PLAN_HEAD.size,
    "sizeof(struct settings)": records.SETTINGS.size,
    "sizeof(struct head)": records.HEAD.size,
    "offsetof(struct entry, sp)": records.ENTRY_SP,
    "offsetof(struct entry, args)": records.ENTRY_ARGS,
    "sizeof(struct entry)": records.ENTRY_FIXED,
    "offsetof(struct ret, entry_time)": records.RETURN_TIME,
    "offsetof(struct ret, value)": records.RETURN_VALUE,
    "offsetof(struct ret, args)": records.RETURN_ARGS,
    "offsetof(struct chunk, offset)": records.HEAD.size,
    "offsetof(struct chunk, text)": records.CHUNK_TEXT,
    "sizeof(((struct chunk *)0)->text)": records.CHUNK_BYTES,
    "offsetof(struct task_record, start)": records.HEAD.size,
    "offsetof(struct task_record, text)": records.TASK_TEXT,
    "sizeof(struct frame)": records.FRAME_SIZE,
    "sizeof(struct thread)": records.THREAD_SIZE,
    "sizeof(struct plain)": records.PLAIN.size,
    "CALLER_LEFT >> 56": records.CALLER_LEFT >> 56,
    "NEAR": records.NEAR,
    "MAX_OPS": records.MAX_OPS,
    "MAX_FRAMES": records.DEEPEST,
    "FIXED": records.FIXED,
    "RECORD": records.RECORD,
    "INLINE_MAX": records.INLINE_MAX,
    "LENGTH_LIMIT": records.LENGTH_LIMIT,
    "COUNTERS": len(records.COUNTERS),
    "OP_ONCE": records.OP_ONCE,
    "OP_PRODUCT": records.OP_PRODUCT,
    "OP_IF": records.OP_IF,
    "WALK_LAST": records.WALK_LAST,
    "WALK_PIECE": records.WALK_PIECE,
    "sizeof(struct item)": records.ITEM.size,
    "offsetof(struct item, count)": 4,
    "offsetof(struct item, address)": 8,
    "offsetof(struct plan, walk)": 11,
    "offsetof(struct ret, sp)": records.RETURN_SP,
    "sizeof(struct ret)": records.RETURN_FIXED_ARGS,
    "REC_TASK": records.REC_TASK,
    "PLAN_OPENS": records.PLAN_OPENS,
    "PLAN_NO_OBJECT": records.PLAN_NO_OBJECT,
    "REC_LONG": records.REC_LONG,
    "EQUALS": records.EQUALS,
    "(s32)STR_SAME": records.STR_SAME,
}
OF_TASKS = {
    "TASK_FORK": records.TASK_FORK,
    "TASK_OOM": records.TASK_OOM,
    "TASK_CUT": records.TASK_CUT,
    "offsetof(struct task_event, time)": records.RECORD_TIME,
    "offsetof(struct task_event, start)": 24,
    "sizeof(struct task_event)": records.LIFE.size,
    "offsetof(struct exec_event, inode)": 40,
    "offsetof(struct exec_event, loginuid)": 64,
    "offsetof(struct exec_event, comm)": records.LIFE.size + records.EXEC.size - 16,
    "offsetof(struct exec_event, text)": records.EXEC_TEXT,
    "ARGUMENTS": records.EXEC_ARGUMENTS,
    "PATH": records.EXEC_PATH,
    "sizeof(struct scratch)": records.TASKS_SCRATCH,
    "offsetof(struct signal_event, comm)": records.LIFE.size + records.SIGNAL.size - 16,
    "sizeof(struct signal_event)": records.LIFE.size + records.SIGNAL.size,
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layout")
    return {**_compiled(folder, SOURCE, LAYOUT), **_compiled(folder, TASKS_SOURCE, OF_TASKS)}


def _compiled(folder: Path, source: Path, layout: dict[str, int]) -> dict[str, int]:
    declarations = whole(source).partition("#define MAP(fd)")[0]
    prints = " ".join(f'printf("%lld\\n", (long long)({expression}));' for expression in layout)
    (folder / "layout.c").write_text(PROGRAM % (declarations, prints))
    subprocess.run(["gcc", "-w", "-o", folder / "layout", folder / "layout.c"], check=True)
    output = subprocess.check_output([folder / "layout"], text=True)
    return dict(zip(layout, map(int, output.split()), strict=True))


@pytest.mark.parametrize("expression", [*LAYOUT, *OF_TASKS])
def test_reader_and_program_agree(compiled, expression):
    assert compiled[expression] == {**LAYOUT, **OF_TASKS}[expression]
