# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one call begins and another ends, as a table.

Snapshots and checkpoints without a delete are none of these: they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

FROZEN, PAUSED, BLOCK_JOB, STREAM = "frozen", "paused", "block job", "stream"
INTERFACES, CONNECTION, BOUND = "interface change", "connection", "bound to its connection"
DOMAIN, DISK, HOST = "domain", "disk", "host"


class Pair(NamedTuple):
    """How it begins and ends."""

    what: str
    about: str  # what there can be one of at a time: of a domain, a disk, a stream, ...
    # functions that begin it, and flags of which one has to be given; none: always
    begins: Mapping[str, tuple[str, ...]]
    ends: frozenset[str]  # functions
    changes: frozenset[str] = frozenset()  # of its domain, that end it
    outlives: bool = True  # whether it goes on when the process that began it has ended
    # whether it is known only where what gives up references is traced, too
    needs_all: bool = False


_CREATE = (
    "virDomainCreateWithFlags",
    "virDomainCreateWithFiles",
    "virDomainCreateXML",
    "virDomainCreateXMLWithFiles",
)
_STOPS = frozenset({"stopped", "crashed"})
PAIRS = (
    Pair(
        FROZEN,
        DOMAIN,
        {"virDomainFSFreeze": ()},
        frozenset({"virDomainFSThaw", "virDomainReset"}),
        _STOPS,
    ),
    Pair(
        PAUSED,
        DOMAIN,
        {
            "virDomainSuspend": (),
            "virDomainRestoreFlags": ("VIR_DOMAIN_SAVE_PAUSED",),
            "virDomainRestoreParams": ("VIR_DOMAIN_SAVE_PAUSED",),
            **dict.fromkeys(_CREATE, ("VIR_DOMAIN_START_PAUSED",)),
        },
        frozenset({"virDomainResume"}),
        frozenset({"resumed"}) | _STOPS,
    ),
    Pair(  # others end by themselves
        BLOCK_JOB,
        DISK,
        {
            "virDomainBlockCopy": (),
            "virDomainBlockRebase": ("VIR_DOMAIN_BLOCK_REBASE_COPY",),
            "virDomainBlockCommit": ("VIR_DOMAIN_BLOCK_COMMIT_ACTIVE",),
        },
        frozenset({"virDomainBlockJobAbort"}),
        _STOPS,
    ),
    Pair(
        STREAM,
        STREAM,
        dict.fromkeys(
            (
                "virDomainOpenChannel",
                "virDomainOpenConsole",
                "virDomainScreenshot",
                "virStorageVolDownload",
                "virStorageVolUpload",
            ),
            (),
        ),
        frozenset({"virStreamAbort", "virStreamFinish", "virStreamFree"}),
        outlives=False,
    ),
    Pair(
        INTERFACES,
        HOST,
        {"virInterfaceChangeBegin": ()},
        frozenset({"virInterfaceChangeCommit", "virInterfaceChangeRollback"}),
    ),
    Pair(  # begins where it returns more than 0, ends as it returns 0, or with the last reference
        CONNECTION,
        CONNECTION,
        {"virConnectClose": ()},
        frozenset({"virConnectClose"}),
        outlives=False,
        needs_all=True,
    ),
    Pair(
        BOUND,
        DOMAIN,
        dict.fromkeys(_CREATE, ("VIR_DOMAIN_START_AUTODESTROY",)),
        frozenset(),
        _STOPS,
        outlives=False,
    ),
)
# these are not always traced, and what they end is ended by others, too
_PLUMBING = frozenset({"virStreamFree"})
FUNCTIONS = frozenset(name for pair in PAIRS for name in (*pair.begins, *pair.ends))


def followed(is_traced: Callable[[str], bool], *, plumbing: bool) -> tuple[Pair, ...]:
    """The pairs of which all is seen. `is_traced`: whether calls of a function are; `plumbing`:
    whether those that give up references are.
    """
    return tuple(
        pair
        for pair in PAIRS
        if all(map(is_traced, {*pair.begins, *pair.ends} - _PLUMBING))
        and (plumbing or not pair.needs_all)
    )
