# SPDX-License-Identifier: LGPL-2.1-or-later
"""Another Debian release, with its own libvirt, entered like a container."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.needs import I386, PATIENCE, ROOT, TRIXIE


class OtherRoot:
    """Runs commands in a root directory and mount namespace of their own; the host sees their
    processes as a container's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, *command: str) -> subprocess.Popen[str]:
        """The running command; its pid is the command's own."""
        enter = str(ROOT / "tests" / "roots" / "enter.sh")
        return subprocess.Popen(
            [enter, str(self.path), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """The finished command, whatever its exit status."""
        process = self.start(*command)
        try:
            output, errors = process.communicate(timeout=seconds * PATIENCE)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


@pytest.fixture
def trixie() -> OtherRoot:
    """Debian 13 with libvirt 11.3: virsh and libvirt-python."""
    return OtherRoot(TRIXIE)


@pytest.fixture
def i386() -> OtherRoot:
    """Debian 12 for 32-bit processors: virsh."""
    return OtherRoot(I386)
