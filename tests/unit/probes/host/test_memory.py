# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a burst needed is given back, also where something that is used lies above it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from probes.host.memory import give_back, hold_little
from tests.needs import PYTHON, ROOT


def resident() -> int:
    """kB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found
    return int(found[1])


def burst() -> None:
    """Prints what it holds after it, and when that was given back (kB)."""
    before = resident()
    pieces = [bytes(4000) for _ in range(10_000)]
    kept = pieces[::200]
    del pieces
    held = resident() - before
    give_back()
    print(held, resident() - before, len(kept))


def bursts_of_large_pieces(*, holds_little: bool) -> None:
    """Prints what it holds after them (kB)."""
    if holds_little:
        hold_little()
    before = resident()
    bytes(20_000_000)
    pieces = [b"x" * 500_000 for _ in range(70)]
    last = b"x" * 500_000
    del pieces, last
    print(resident() - before)


def run(call: str) -> list[int]:
    """The numbers that it prints in a process of its own."""
    words = [PYTHON, "-c", f"from {__name__} import *; {call}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_no_more_is_held_for_a_large_piece_that_is_gone():
    (held,) = run("bursts_of_large_pieces(holds_little=False)")
    (little,) = run("bursts_of_large_pieces(holds_little=True)")
    assert held > 30_000 and little < 5_000, (held, little)


def test_memory_of_a_burst_is_given_back():
    held, left, _ = run("burst()")
    assert held > 30_000 and left < 5_000, (held, left)
