# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose a file is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from log.trust import is_only_of


@pytest.mark.parametrize(
    ("mode", "is_mine"),
    [(0o644, True), (0o755, True), (0o600, True), (0o664, False), (0o646, False), (0o777, False)],
)
def test_who_can_write(tmp_path: Path, mode: int, is_mine: bool) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    assert is_only_of(os.geteuid(), path.stat()) is is_mine
    assert not is_only_of(os.geteuid() + 1, path.stat())
