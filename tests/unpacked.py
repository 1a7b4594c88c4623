# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs of others that tests run: `make deps` unpacks their packages, which would start them
as services.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.needs import ROOT, lack

PROGRAMS = ROOT / ".cache" / "programs"
LIBRARIES = PROGRAMS / "usr/lib" / f"{os.uname().machine}-linux-gnu"


def unpacked(path: str, folder: str) -> str:
    """The program's path; the test of that folder is skipped where it is not there."""
    program = PROGRAMS / path
    if not program.exists():
        lack(folder, f"{Path(path).name} is not unpacked")
    return str(program)


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
