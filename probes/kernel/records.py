# SPDX-License-Identifier: LGPL-2.1-or-later
"""The layouts that trace.bpf.c, tasks.bpf.c and the reader share: structs of records, plans and
settings, as struct formats. contract.py has the compiler look whether C's are the same.
"""

from __future__ import annotations

import struct

from probes.kernel import abi

MAX_PLANS = 8192
MAX_OPS = 32
MAX_VERDICT_ROWS = 1024  # functions of the bundled table
FIXED = 512
RECORD = 6656
INLINE_MAX = 1024
DEEPEST = 64

OP_END, OP_BLOCK, OP_STRING, OP_ONCE, OP_LIST, OP_ELEMENT, OP_ARRAY, OP_LEAVE, OP_PRODUCT = range(9)
OP_IF = 128  # with OP_STRING in a walk
REC_ENTRY, REC_RETURN, REC_CHUNK, REC_TASK, REC_VERDICT, REC_DENIED = range(1, 7)

(
    PLAN_WRITE_RING,
    PLAN_WANTED,
    PLAN_PRIVATE,
    PLAN_NO_RETURN,
    PLAN_JUMPS,
    PLAN_KEEP_ARGS,
    PLAN_NO_OBJECT,
    PLAN_OPENS,
) = (1 << i for i in range(8))
PLAN_32BIT, PLAN_SERVES, PLAN_SERVED, PLAN_ALWAYS, PLAN_PLUMBING, PLAN_AFTER = (
    1 << i for i in range(8, 14)
)
(
    REC_WRITE_RING,
    REC_ENTRY_LOST,
    REC_LONG,
    REC_TRUNCATED,
    REC_ONCE,
    REC_SERVING,
    REC_CALLER,
    REC_INNER_LOST,
) = (1 << i for i in range(8))
REC_UNARMED = REC_ENTRY_LOST  # on entry: has no return probe
# an entry's flags >> REC_LEVEL & REC_LEVELS: calls around it that were probed
REC_LEVEL, REC_LEVELS = 8, 127
REC_WANTED = 1 << 15

COUNTERS = ("entry", "return", "both", "chunk", "private", "thread", "task", "")

MAX_USERS = 4096
USER_ROOT, USER_SERVED, USER_FIRST, USER_OTHERS = 0, 1, 2, MAX_USERS - 1
USER = struct.Struct("<I4x16Q96x")  # effective uid; of reads and of writes, COUNTERS; flows

OP = struct.Struct("<BBHHHiI")  # kind, then, src, dst, len, off, keep
# flags, fixed, condition, its argument, first operation of the walk, condition's bits, objects,
# place in the counts, FAILS_*
PLAN_HEAD = struct.Struct("<IIHBBIQII")
FAILS_NEVER, FAILS_NEGATIVE, FAILS_MINUS_ONE, FAILS_ZERO = range(4)
ALWAYS_SO, ANY_BIT, EQUALS = range(3)
PLAN_SIZE = PLAN_HEAD.size + MAX_OPS * OP.size
# ready, self, nested, pids, uids, comms, tree, object, writes, spare, glob start, stay, char,
# end, generation of connections, losses, clock, when it was set
SETTINGS = struct.Struct("<10I6QqQ")
SPARE = slice(36, 40)  # in the settings: no return probes in tasks under seccomp
LOSSES = 80  # in the settings: how often anything was counted as lost
CLOCK = struct.Struct("<qQ")  # in the settings at CLOCK_AT: from CLOCK_MONOTONIC to CLOCK_TAI (ns)
CLOCK_AT, CLOCK_SET_AT = 88, 96  # as the reader knows it; when it was found to be another

HEAD = struct.Struct("<BBHIQQIIII")  # kind, depth, flags, row, time, task, tid, seq, bad, tgid
RECORD_TIME = 8
RECORD_FLAGS = 2  # the low byte of REC_* flags
BAD = slice(32, 36)
ENTRY_SP = 40  # PLAN_SERVES: id of the thread's own REC_TASK
ENTRY_ARGS = 48
REGISTERS = abi.HERE.registers
ENTRY_CALLER = ENTRY_ARGS + 8 * REGISTERS
# in the same, with REC_UNARMED: another call may have been left for good; the task is confined
CALLER_LEFT, CALLER_CONFINED = 1 << 63, 1 << 62
ENTRY_FIXED = ENTRY_CALLER + 8
RETURN_TIME = 40  # of the entry
RETURN_VALUE = 48
TIMES = struct.Struct("<8xQ24xQ")  # of a return record: its own, the entry's
RETURN_ARGS = 56
RETURN_FIXED = 56
RETURN_SP = RETURN_ARGS + 8 * REGISTERS
RETURN_FIXED_ARGS = RETURN_SP + 8  # with PLAN_KEEP_ARGS
CHUNK = struct.Struct("<Ii")  # at 40: offset, bytes read with their NUL
CHUNK_TEXT = 48
# at 40: start, cgroup, ppid, effective uid and gid, loginuid, pid in its namespace, command line's
# bytes, real uid, that namespace, comm
TASK = struct.Struct("<QQIIIIIIII16s")
TASK_TEXT = 104

# args, sp, number, action, function, rule, message, note, result, more args
VERDICT = struct.Struct("<6QQIIQQQQQ2Q")
VERDICT_AT = ENTRY_FIXED  # of its copy in a REC_VERDICT
VERDICT_ALLOW, VERDICT_AUDIT, VERDICT_DENY, VERDICT_LOOKING = range(1, 5)

COUNT_STEPS, COUNT_BUCKETS = 6, 2368  # as log/sinks/screen/summary.py has them
COUNTS = struct.Struct("<QQQQ")  # total, max (ns), failed, left; buckets follow
COUNTS_SIZE = COUNTS.size + 8 * COUNT_BUCKETS
MAX_COUNTS, MAX_BEGUN = 320, 4096  # functions; calls under way
BEGUN = struct.Struct("<QQI4x")  # tid, time (ns), place

PLAIN = struct.Struct("<QQ")  # of a process that copies no stacks: start in ticks, executable pages

NEAR = 1 << 17  # bytes of stack between a call and one inside of it, at most

STR_UNREADABLE, STR_NO_ROOM, STR_SAME, STR_NULL = -1, -2, -3, -4
ITEM = struct.Struct("<iIQ")  # of a walk: bytes or elements, elements in all, address
WALK_MORE, WALK_LAST = MAX_OPS, MAX_OPS + 1  # in place of an operation
WALK_PIECE = 2032
CHUNK_BYTES = 4088
LENGTH_LIMIT = 1 << 20

FRAME_SIZE = 32 + 8 * REGISTERS
FRAMES_SIZE = (DEEPEST + 1) * FRAME_SIZE
THREAD_SIZE = 168 + 40 + 40 + 16 + MAX_OPS + 32 + RECORD + INLINE_MAX + 16

# tasks.bpf.c; the time is at RECORD_TIME, too
TASK_FORK, TASK_EXEC, TASK_EXIT, TASK_SIGNAL, TASK_OOM = range(1, 6)
TASK_LAST, TASK_DELETED, TASK_CUT = 1, 2, 4
LIFE = struct.Struct("<BB2xIQIIQ")  # kind, flags, pid, time, tid, ppid, start
# at 32: cgroup, inode, device, uid, gid, real uid, loginuid, bytes of path, of arguments, comm
EXEC = struct.Struct("<QQIIIIIHH16s")
EXEC_TEXT = 88
EXEC_ARGUMENTS, EXEC_PATH = 1024, 1024  # bytes at most
SIGNAL = struct.Struct("<IiI4x16s")  # at 32: signal, code, uid and comm of who sent it
TASKS_SCRATCH = EXEC_TEXT + 2 * EXEC_PATH + EXEC_ARGUMENTS + 8

# of the enforcer's library: the probe on it tells verdicts
VERDICT_FUNCTION = "libvirt_trace_verdict"
