# SPDX-License-Identifier: LGPL-2.1-or-later
"""What pid namespaces call processes: what the kernel said of each that made a call comes in, their
numbers here go out, also of those that have gone.
"""

from __future__ import annotations

from log.recent import Recent
from probes.host.looking.proc import NEAR_NS

MOST = 16384
FIRST = 4026531836  # since Linux 3.8 (include/linux/proc_ns.h)


class InNamespaces:
    """Processes by the number that their own pid namespace has for them."""

    def __init__(self) -> None:
        self._processes: Recent[tuple[int, int], tuple[int, int]] = Recent(MOST)
        self._namespaces: Recent[int, int] = Recent(MOST)

    def note(self, pid: int, namespace: int, number: int, start_ns: int) -> None:
        """The process `pid` is `number` in its namespace (0: not known), and began then (ns,
        CLOCK_BOOTTIME).
        """
        if namespace not in (0, FIRST):
            self._processes.put((namespace, number), (pid, start_ns))
            self._namespaces.put(pid, namespace)

    def find(self, number: int, seen_by: int, start_ns: int | None) -> int | None:
        """The number here of the process that `seen_by`, in the same namespace, knows as that; it
        began then, as far as known. None: it has made no call.
        """
        namespace = self._namespaces.get(seen_by)
        found = None if namespace is None else self._processes.get((namespace, number))
        if found is None:
            return None
        pid, start = found
        return pid if start_ns is None or abs(start - start_ns) < NEAR_NS else None
