# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pieces of a ring that there is no memory for come in; they are kept in a file without a name, up
to a limit, and go out again.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from log.errors import TraceError, explain

FOLDER = "/var/tmp"  # on a disk, unlike /tmp
OF_SERVICE = (
    "CACHE_DIRECTORY"  # where systemd tells a service what it may write to, which is little
)


class Spilled(NamedTuple):
    """Where in the file a piece is, in bytes."""

    at: int
    size: int


class Spill:
    """The file, which only root can read and which is gone with the process. Its room is used once,
    until all pieces are out.
    """

    def __init__(self, most: int, folder: str | None = None) -> None:
        """`most`: bytes of the file. TraceError where it can't be made."""
        import tempfile  # what few ask for need not be there at every start

        folder = folder or os.environ.get(OF_SERVICE, "").partition(":")[0] or FOLDER
        self._most, self._end, self._pieces = most, 0, 0
        try:
            self._file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - see close()
        except OSError as error:
            raise TraceError(f"--spill: can't make a file in {folder}: {explain(error)}") from error

    def put(self, data: bytes) -> Spilled | None:
        """Keeps a piece; None: there is no room for it, here or on the disk."""
        if self._end + len(data) > self._most:
            return None
        try:
            if os.pwrite(self._file.fileno(), data, self._end) < len(data):
                return None
        except OSError:  # disk full
            return None
        place = Spilled(self._end, len(data))
        self._end += len(data)
        self._pieces += 1
        return place

    def take(self, place: Spilled) -> bytes:
        """The piece, which is kept no longer."""
        data = os.pread(self._file.fileno(), place.size, place.at)
        if len(data) < place.size:
            raise TraceError("--spill: what was written to the file can't be read")
        self._pieces -= 1
        if not self._pieces:
            self._end = 0
            self._file.truncate(0)
        return data

    def close(self) -> None:
        """The file is gone."""
        self._file.close()
