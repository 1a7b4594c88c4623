# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where compiled policies are kept: bytes come in; a file that is there whole or not at all
goes out.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from enforcer.compiled.summary import read_summary, without_time
from log.errors import TraceError
from log.trust import is_only_of

FINAL = 0o444  # of a policy that will not change: the library doesn't look at it again
SYSTEM_FOLDER = Path("/etc/libvirt-trace")
SYSTEM_POLICY = SYSTEM_FOLDER / "policy.bin"
MEMORY_FILE = "libvirt-trace-policy"  # in which a process has a policy that is in force
COUNTS_FILE = "libvirt-trace-counts"  # beside it: what its rules have decided there
RUN_FOLDER = Path("/run/libvirt-trace")


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replaces the file; whoever reads it sees the old or the new content."""
    import tempfile  # seldom used, and long to import

    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.rename(name, path)
        except BaseException:
            os.unlink(name)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise TraceError(f"can't write {path}: {error.strerror}") from error


def keep_for_command(data: bytes) -> Path:
    """A file with that policy, for a command and its descendants; it may outlive them. One
    policy has one file, however often.
    """
    if os.geteuid() == 0:
        folder = RUN_FOLDER
    elif runtime := os.environ.get("XDG_RUNTIME_DIR"):
        folder = Path(runtime) / "libvirt-trace"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "libvirt-trace"
    path = folder / f"{hashlib.sha256(without_time(data)).hexdigest()[:32]}.bin"
    try:
        kept = path.read_bytes()
        is_same = read_summary(kept) is not None and without_time(kept) == without_time(data)
        if is_same and is_only_of(os.geteuid(), path.stat()):
            return path
    except OSError:
        pass
    write_whole(path, data, FINAL)
    return path
