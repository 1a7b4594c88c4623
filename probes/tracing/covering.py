# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tracer wants to know of policies: handed to it from above, since it knows none
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from probes.host.daemons.programs import Daemons


class Covering(Protocol):
    """Which functions policies cover in each process, as of the last refresh()."""

    @property
    def covers(self) -> bool:
        """Whether there may be a policy anywhere."""

    def covered_for(self, pid: int) -> frozenset[int]:
        """Numbers of the functions that a policy covers for this process; NO_STUB: those that
        have none, too.
        """

    def own_for(self, pid: int) -> frozenset[int]:
        """The same of its own policies, about which no daemon is asked instead."""

    def loaded(self, pid: int) -> None:
        """It has loaded libvirt."""

    def enforced(self, pid: int) -> None:
        """It has loaded the enforcer."""

    def forked(self, pid: int, parent: int) -> None:
        """It is a copy of its parent."""

    def replaced(self, pid: int) -> None:
        """It became another program."""

    def forget(self, pid: int) -> None:
        """It has ended."""

    def refresh(self) -> None:
        """Looks whether policies have changed."""


# of a process: origin, mode, age_s, digest; rules: rule, action, calls, or None
Policies = Callable[[int, Path], Iterable[Mapping[str, object]]]


class Guard(NamedTuple):
    """What there is of an enforcer on this host."""

    covering: Callable[[Daemons], Covering]
    libraries: Callable[[], Sequence[Path]]  # the host's own files of its library
    policies: Policies  # in force in a process, by what /proc is
    meant: Callable[[int, Path], str | None]  # path of a policy that a process was started with
