# SPDX-License-Identifier: LGPL-2.1-or-later
"""The structs of the BPF programs are where the reader looks for them: a C compiler says so."""

import struct
import subprocess

import pytest

from probes.kernel import contract, records
from probes.kernel.loading.compiling import CONTRACTS, SOURCE, TASKS_SOURCE, whole

TYPES = """
#include <stdint.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
typedef int32_t s32; typedef int64_t s64;
"""


def compiles(source, folder, old="", new=""):
    """Whether the declarations fit, after one replacement in them."""
    declarations = whole(source).partition("#define MAP(fd)")[0]
    assert old in declarations
    text = TYPES + declarations.replace(old, new) + CONTRACTS[source]
    (folder / "contract.c").write_text(text)
    command = ["gcc", "-w", "-fsyntax-only", folder / "contract.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "as Python has it" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("source", [SOURCE, TASKS_SOURCE])
def test_both_sides_agree(source, tmp_path):
    assert compiles(source, tmp_path)


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (SOURCE, "u8 then;", "u16 then;"),
        (SOURCE, "u32 tid;\t\t/* 24 */\n\tu32 seq;", "u32 seq;\t\tu32 tid;"),
        (SOURCE, "PLAN_SERVED = 1024", "PLAN_SERVED = 512"),
        (SOURCE, "enum record_kind { REC_ENTRY = 1", "enum record_kind { REC_ENTRY = 2"),
        (SOURCE, "#define CALLER_LEFT (1ULL << 63)", "#define CALLER_LEFT (1ULL << 62)"),
        (SOURCE, "#define STR_SAME -3", "#define STR_SAME -4"),
        (SOURCE, "#define MAX_FRAMES 64", "#define MAX_FRAMES 63"),
        (TASKS_SOURCE, "s32 code;", "s32 code, more;"),
        (TASKS_SOURCE, "TASK_CUT = 4", "TASK_CUT = 8"),
    ],
)
def test_what_differs_does_not_compile(source, old, new, tmp_path):
    assert not compiles(source, tmp_path, old, new)


def test_fields_are_where_their_format_has_them():
    shape = contract.Shape("x", struct.Struct("<B3xI2Q4s"), "a b c[2] d", 8)
    assert contract.offsets(shape) == {"a": 8, "b": 12, "c": 16, "d": 32}


@pytest.mark.parametrize("fields", ["a", "a b c[2] d e"])
def test_fields_and_format_are_equally_many(fields):
    with pytest.raises((ValueError, IndexError)):
        contract.offsets(contract.Shape("x", struct.Struct("<BBQQH"), fields))


def test_every_shared_number_is_compared():
    assert {"OP_PRODUCT", "REC_DENIED", "PLAN_PLUMBING", "STR_NULL", "WALK_LAST"} <= {
        *contract.TRACE_NUMBERS
    }
    assert contract.TRACE_NUMBERS["USER_OTHERS"] == records.USER_OTHERS


def test_what_is_kept_for_a_task_is_little_enough_for_kernels_to_come():
    """Since about Linux 6.19 what a program keeps for a task is from caches that have 8 KiB at
    most, the kernel's own 136 bytes of it included.
    """
    assert max(records.THREAD_SIZE, records.FRAMES_SIZE) <= 8192 - 136
