# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody else on the host, without privileges: files of their own that they map, and programs
that they run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.needs import PYTHON

NOBODY = 65534
# maps each file for execution, as the loader does, and says so
HOLD = """
import mmap, os, sys
held = []
for path in sys.argv[1:]:
    fd = os.open(path, os.O_RDONLY)
    held.append(mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC))
    os.close(fd)
print("mapped", flush=True)
sys.stdin.read()
"""


def readable(path: Path) -> Path:
    """A file of the tests', for other users, too."""
    for part in (path, *path.parents):
        if part.stat().st_uid == os.geteuid() and part.stat().st_mode & 0o7777 == 0o700:
            part.chmod(0o755)
    return path


class Neighbour:
    """A user without rights, a folder of theirs, and what they run; all of it ends with the
    block.
    """

    def __init__(self, user: int = NOBODY) -> None:
        self.user = user
        self.folder = Path(tempfile.mkdtemp(prefix="neighbour-"))
        self.folder.chmod(0o755)
        os.chown(self.folder, user, user)
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Neighbour:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running:
            self.end(process)
        shutil.rmtree(self.folder)

    def file(self, name: str, content: bytes) -> Path:
        """A file of theirs."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.chown(path, self.user, self.user)
        path.chmod(0o755)
        return path

    def run(self, command: Sequence[str], word: str) -> subprocess.Popen[str]:
        """A process of theirs that prints the word when it is ready, and lives until its input
        is closed.
        """
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=self.user,
            group=self.user,
            extra_groups=[],
        )
        self._running.append(process)
        assert process.stdout and process.stdout.readline() == f"{word}\n"
        return process

    def map(self, *files: Path) -> subprocess.Popen[str]:
        """A process of theirs that has these files mapped."""
        return self.run([PYTHON, "-c", HOLD, *map(str, files)], "mapped")

    @staticmethod
    def end(process: subprocess.Popen[str]) -> None:
        """Lets it end."""
        for pipe in (process.stdin, process.stdout):
            if pipe and not pipe.closed:
                pipe.close()
        process.wait()


def made_up(
    folder: Path,
    functions: Sequence[str],
    code: str = (".byte 0xf3, 0x0f, 0x1e, 0xfa\n ret"),
    **special: str,
) -> bytes:
    """A libvirt.so.0 with these functions; `special` has the code of some."""
    source, script, output = folder / "made.s", folder / "made.map", folder / "made.so"
    parts = [
        (
            f" .globl {name}\n .type {name},@function\n{name}:\n {special.get(name, code)}\n .size "
            f"{name}, . - {name}\n"
        )
        for name in functions
    ]
    source.write_text("".join(parts))
    script.write_text("LIBVIRT_0.0.3 { global: *; };\n")
    subprocess.run(
        # without the flag the linker asks for a stack with code, which a newer loader refuses
        [
            "gcc",
            "-shared",
            "-nostdlib",
            "-Wl,-z,noexecstack,-soname,libvirt.so.0",
            f"-Wl,--version-script={script}",
            "-o",
            output,
            source,
        ],
        check=True,
    )
    return output.read_bytes()
