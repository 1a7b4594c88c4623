# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a burst needed is given back, also where something that is used lies above it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from probes.host.memory import give_back
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


def test_memory_of_a_burst_is_given_back():
    words = [PYTHON, "-c", f"from {__name__} import burst; burst()"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    held, left, _ = map(int, done.stdout.split())
    assert held > 30_000 and left < 5_000, (held, left)
