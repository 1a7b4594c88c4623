# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other Debian releases, each with its own libvirt, entered like a container."""

from __future__ import annotations

import subprocess
from functools import cached_property
from pathlib import Path

import pytest

from tests.needs import I386, OTHERS, PATIENCE, ROOT


class OtherRoot:
    """Runs commands in a root directory and mount namespace of their own; the host sees their
    processes as a container's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def entering(self) -> tuple[str, ...]:
        """What a command is preceded by that runs there."""
        return (str(ROOT / "tests" / "roots" / "enter.sh"), str(self.path))

    def start(self, *command: str) -> subprocess.Popen[str]:
        """The running command; its pid is the command's own."""
        return subprocess.Popen(
            [*self.entering, *command],
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


class Release(OtherRoot):
    """A release, and what it has of libvirt: virsh, libvirt-python, libvirtd."""

    @cached_property
    def version(self) -> str:
        """Of its libvirt: "11.3.0"."""
        return self.run("virsh", "--version").stdout.strip()

    @property
    def installed(self) -> Path:
        """The library."""
        (path,) = self.path.glob("usr/lib/*/libvirt.so.0")
        return path


@pytest.fixture(scope="session", params=OTHERS, ids=lambda path: path.name)
def release(request: pytest.FixtureRequest) -> Release:
    """Each of Debian 11 (libvirt 7.0), 13 (11.3) and the newest."""
    return Release(request.param)


@pytest.fixture
def i386() -> OtherRoot:
    """Debian 12 for 32-bit processors: virsh."""
    return OtherRoot(I386)
