# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which code is libvirt's own: a process and an address in it come in; whether a library or
driver of libvirt's is there comes out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from log.recent import Recent
from log.trust import ROOT, is_only_of
from probes.host.looking import maps, slow
from probes.host.looking.held import LOOKING

# libvirt's libraries, the drivers and the storage and lock modules of its daemons
_NAME = re.compile(
    rb"/(?:libvirt(?:-qemu|-lxc|-admin)?\.so\.0|libvirt_(?:driver|storage_backend|storage_file)_\w+\.so|lockd\.so|sanlock\.so)[^/\n]*$",
    re.M,
)
_CODE = re.compile(rb"([0-9a-f]+-[0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) ")
MOST_PROCESSES = 1024
MOST_BYTES = 1 << 20  # of a process's mappings


class Modules:
    """Where processes have libvirt's code; of files of root's alone, since others may be called
    anything.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._ranges: Recent[int, tuple[range, ...]] = Recent(MOST_PROCESSES)

    def has(self, pid: int, address: int) -> bool:
        """Whether the code there is libvirt's; False for a process that has ended, too."""
        ranges = self._ranges.learn(pid, self._read)
        return any(address in code for code in ranges)

    def changed(self, pid: int) -> None:
        """The process has mapped or replaced code."""
        self._ranges.pop(pid, None)

    def refresh(self) -> None:
        """Forgets all: what unmaps code is not told."""
        self._ranges = Recent(MOST_PROCESSES)

    def _read(self, pid: int) -> tuple[range, ...]:
        text = maps.text(pid, self._proc, MOST_BYTES)
        # by their names first: a pattern for whole lines takes time that whoever chooses names can
        # make long
        lines = (
            _CODE.match(text, text.rfind(b"\n", 0, name.start()) + 1)
            for name in _NAME.finditer(text)
        )
        return tuple(
            code
            for line in lines
            if line
            and not slow.is_served(pid, int(line[2], 16), int(line[3], 16), self._proc)
            and (code := self._of_root(pid, line[1].decode()))
        )

    def _of_root(self, pid: int, place: str) -> range | None:
        try:
            # this very file, whatever its path leads to; nothing is opened
            path = f"{self._proc}/{pid}/map_files/{place}"
            status = LOOKING.ask(pid, lambda: os.stat(path), None, self._proc)
        except OSError:
            return None
        if status is None or not is_only_of(ROOT, status):
            return None
        start, _, end = place.partition("-")
        return range(int(start, 16), int(end, 16))
