# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where libvirt keeps what a call that hangs is about: the code of a library comes in, distances
in its private structs go out.

What the code does not prove is left out. src/conf/virdomainjob.h (the same in 9.0 and 11.3): a
domain's jobs, each with what it is, the thread that has it, the name of what that thread does, and
since when (ms since the epoch). src/rpc/virnetserverclient.c: a client's identity.
how many of its calls are taken at a time (4 bytes).
src/qemu/qemu_monitor.c: the message that a monitor has not answered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from probes.internals.flow import Flow
from probes.internals.private import BEGINS_JOB, ENDS_JOB, MONITOR
from probes.kernel.abi import HERE

JOB, AGENT_JOB, LONG_JOB = "job", "agent", "async"
_IDENTITY = "virNetServerClientGetIdentity"
# writes all down that a client has; the only number without a sign (object, name, number) is that
_WRITES, _NUMBER = "virNetServerClientPreExecRestart", "virJSONValueObjectAppendNumberUint"
_ENDS = next(iter(ENDS_JOB))


class JobPlace(NamedTuple):
    """Where one of a domain's jobs is told."""

    active: int  # an int; 0: nobody has it
    owner: int  # number of its thread
    name: int  # of what that does, a string
    since: int


JOBS = {
    JOB: JobPlace(56, 64, 72, 80),
    AGENT_JOB: JobPlace(88, 96, 104, 112),
    LONG_JOB: JobPlace(168, 176, 184, 192),
}
PATIENCE_MS = 30_000  # as long a job is waited for
# what is known of a library
DOMAIN_JOB, DEFINITION, HAS_JOBS, PATIENCE, CLIENT_IDENTITY, CLIENT_REQUESTS, MESSAGE = (
    "a domain's jobs",
    "its definition",
    "jobs as above",
    "patience as above",
    "a client's identity",
    "a client's calls at a time",
    "a monitor's message",
)


def places(
    has: Callable[[str], bool],
    flow: Callable[[str], Flow],
    code: Callable[[str], bytes],
    sites: Callable[[str], Collection[int]],
) -> Mapping[str, int]:
    """`has`: whether the library has a function of that name; its flow, its machine code, and the
    offsets behind all calls of it.
    """
    found: dict[str, int] = {}
    if has(BEGINS_JOB) and has(_ENDS):
        begins, ends = flow(BEGINS_JOB), flow(_ENDS)
        of_domain = {at for argument, at in begins.loads if argument == 0}
        read = {at for argument, at in ends.loads if argument == 0}
        _only(found, DOMAIN_JOB, read - of_domain)
        _only(found, DEFINITION, read & of_domain)
        words = {at for argument, at in begins.loads if argument == 1}
        numbers = HERE.displacements(code(BEGINS_JOB))
        if all(set(job[1:]) <= words and job.active in numbers for job in JOBS.values()):
            found[HAS_JOBS] = 1
        if PATIENCE_MS.to_bytes(4, "little") in code(BEGINS_JOB):
            found[PATIENCE] = PATIENCE_MS
    if has(_IDENTITY):
        _only(
            found,
            CLIENT_IDENTITY,
            {at for argument, at, _ in flow(_IDENTITY).stores if not argument},
        )
    if has(_WRITES):
        passes, behind = flow(_WRITES).passes, sites(_NUMBER)
        counts = {passes[at, 2] for at in behind if (at, 2) in passes}
        _only(found, CLIENT_REQUESTS, {at for argument, at in counts if not argument})
    if has(MONITOR):
        _only(found, MESSAGE, {at for to, at, what in flow(MONITOR).stores if (to, what) == (0, 1)})
    return found


def _only(found: dict[str, int], name: str, candidates: set[int]) -> None:
    if len(candidates) == 1:
        found[name] = candidates.pop()
