# SPDX-License-Identifier: LGPL-2.1-or-later
"""Begins with what takes the longest, while the rest of the tracer is imported: how calls are to be
traced comes in, the program that the kernel looks at meanwhile goes out.

So little is imported here, and what went wrong is told when the program is wanted.
"""

from __future__ import annotations

from log.errors import TraceError
from probes.host.allowed import check_tracing
from probes.kernel import abi
from probes.kernel.links import allow_files
from probes.kernel.loading.program import Program
from probes.tracing import AUTO, ways

RING_BYTES = 8 << 20  # where the user does not say


class Loading:
    """A program on its way into the kernel. TraceError where no tracing is possible.

    `returns`: how it is learnt what calls returned, AUTO or what the user insists on; `counts`:
    whether reads are only counted, where the kernel can do that; `spill`: bytes of records that may
    wait in a file.
    """

    def __init__(
        self,
        ring_bytes: int = RING_BYTES,
        returns: str = AUTO,
        *,
        counts: bool = False,
        spill: int = 0,
    ) -> None:
        check_tracing()
        self._failed: TraceError | OSError | None = None
        try:
            abi.check_machine()
            allow_files()
            self._way = ways.choose(returns)
            self._program = Program(ring_bytes, self._way.name, counts=counts, spill=spill)
        except (TraceError, OSError) as error:
            self._failed = error

    def take(self) -> tuple[Program, ways.Way]:
        """The program, which is loaded when its load() says so, and how it learns of returns."""
        if self._failed:
            raise self._failed
        return self._program, self._way
