# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records that the real command makes, asked by it and by programs that know nothing of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.needs import PATIENCE, PYTHON, ROOT

TRACER = (PYTHON, "-E", "-s", str(ROOT / "tracer.py"))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The record's lines, as zstdcat has them."""
    done = subprocess.run(
        ["zstdcat", *sorted(folder.glob("*.zst"))], check=True, capture_output=True
    )
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def run_record(
    folder: Path, *words: object, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """libvirt-trace record FOLDER WORD..., to its end."""
    argv = [*TRACER, "record", str(folder), *map(str, words)]
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds * PATIENCE
    )


def ask(
    verb: str, folder: Path | str, *words: str, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """libvirt-trace log or verify, to its end."""
    argv = [*TRACER, verb, os.fspath(folder), *words]
    return subprocess.run(argv, input=stdin or b"", capture_output=True, timeout=60 * PATIENCE)
