# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes that may leave libvirt's calls on one stack and make others on another: what they have mapped comes in, their names go out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from probes.host import maps

_LIBRARY = re.compile(rb"/[^/\n]*(?:greenlet|gevent|eventlet|fiber|coro(?!sync)|boost_context|libpth\b)[^/\n]*$", re.M | re.I)
_LOADED = re.compile(rb"/Coro/[^\n]*\.so$", re.M)  # Perl's


def uses_coroutines(mapped: bytes) -> bool:
    """Whether a process with these mappings, as /proc has them, has a library for coroutines."""
    return bool(_LIBRARY.search(mapped) or _LOADED.search(mapped))


def find(pids: Iterable[int], proc: Path = Path("/proc")) -> list[int]:
    """Those of the processes that have a library for coroutines."""
    return [pid for pid in pids if uses_coroutines(maps.text(pid, proc, maps.MOST_TEXT))]
