# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is kept of a frame, to look through it again where it is damaged, has a limit."""

from __future__ import annotations

import io
import random

import pytest

from log.recording import frames as module
from log.recording.format import compress
from log.recording.frames import Content, Fault, Input, frames

MOST, ONE_READ, BLOCK = 1 << 18, 1 << 12, 1 << 17  # bytes
LONG = random.Random(1).randbytes(8 * BLOCK)  # nothing makes that shorter


@pytest.fixture
def kept(monkeypatch) -> list[int]:
    """How many bytes were kept, each time that some were taken."""
    sizes: list[int] = []

    class Watched(Input):
        def take(self, count: int) -> bytes:
            taken = super().take(count)
            sizes.append(len(self._kept))
            return taken

    monkeypatch.setattr(module, "Input", Watched)
    monkeypatch.setattr(module, "_MOST_KEPT", MOST)
    monkeypatch.setattr(module, "_READ", ONE_READ)
    return sizes


def test_of_a_long_frame_so_much_is_kept(kept: list[int]) -> None:
    found = list(frames(io.BytesIO(compress(LONG)).read))
    contents = [one.data for one in found if isinstance(one, Content)]
    assert b"".join(contents) == LONG and len(contents) == len(found)
    assert BLOCK < max(kept) <= MOST + BLOCK + 2 * ONE_READ


@pytest.mark.parametrize(("length", "is_looked_through"), [(BLOCK, True), (len(LONG), False)])
def test_what_is_not_kept_is_not_looked_through(kept, length: int, is_looked_through: bool) -> None:
    """The end of what is damaged is known to be the begin of the next frame, or nothing is."""
    cut, whole = compress(LONG[:length])[:-9], compress(b"next")
    fault, *rest = frames(io.BytesIO(cut + whole).read)
    assert isinstance(fault, Fault) and fault.offset == 0
    assert [one.data for one in rest if isinstance(one, Content)] == [b"next"] * is_looked_through
    assert fault.size == len(cut) + (0 if is_looked_through else len(whole))
