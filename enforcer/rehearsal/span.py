# SPDX-License-Identifier: LGPL-2.1-or-later
"""Of which time a record is read."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """A time, in ns; None: there is no end of it."""

    since: int | None = None
    until: int | None = None

    def holds(self, first: int, last: int) -> bool:
        """Whether some of what happened from then to then is in it."""
        return (self.since is None or last >= self.since) and (
            self.until is None or first <= self.until
        )
