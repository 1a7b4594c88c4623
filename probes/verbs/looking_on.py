# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session for verbs that look on for a while and then say what they have seen."""

from __future__ import annotations

import time
from collections.abc import Callable

from log import VERSION
from log.events import Event
from probes.plans.meaning.captured import Limits
from probes.tracing.covering import Guard
from probes.tracing.filters import Filters
from probes.tracing.loading import Loading
from probes.tracing.session import Options, Session

LOOK = 0.05  # s between two looks at the rings
STRING = 256  # bytes of a string that are kept


def begin(
    guard: Guard,
    loading: Loading | None = None,
    *,
    filters: Filters | None = None,
    string: int = STRING,
) -> Session:
    """A session that is still to be started; all calls, if no filters are given."""
    options = Options(filters or Filters(), Limits(string, True), (), VERSION)
    return Session(options, guard, loading or Loading())


def look_on(
    session: Session, seconds: float, take: Callable[[list[Event]], object] = lambda events: None
) -> None:
    """Hands over what comes within that time, of which nothing is kept here."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        take(session.poll())
        time.sleep(LOOK)
