# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keeps compiled programs, as compiling takes longer than all the rest of a start, and what was
found out about the kernel and libraries: what they are made of comes in, bytes go out.

A file is believed if it and its folder are this user's (root's) alone; what is missing, damaged or
another's is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from log.trust import is_only_of

FOLDER = Path("/var/cache/libvirt-trace")
NOTES = Path("/sys/kernel/notes")  # of the kernel, from its linker
BUILD_ID = b"GNU\0"  # the name of the one that no two kernels share
MOST_FILES = 64  # that are kept
MOST_BYTES = 4 << 20  # of one


def key_of(sources: Iterable[Path], settings: object, code: bytes = b"") -> str | None:
    """A name for the result of compiling the sources with the settings, or of looking with them
    at a library's code; None where BCC is missing, which the compiler says better.
    """
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        return None
    status = os.stat(spec.origin)
    host = os.uname()  # BCC looks at the kernel that runs
    digest = hashlib.sha256(
        repr(
            (spec.origin, status.st_size, status.st_mtime_ns, host.release, host.machine, settings)
        ).encode()
    )
    for path in sources:
        content = path.read_bytes()
        digest.update(b"%d " % len(content) + content)
    digest.update(code)
    return digest.hexdigest()


def key_of_kernel(question: object, notes: Path = NOTES) -> str | None:
    """A name for the answer that this very kernel gives; None where it can't be told from
    others.
    """
    try:
        identity = notes.read_bytes()
    except OSError:
        return None
    if BUILD_ID not in identity:
        return None
    host = os.uname()
    about = identity, host.release, host.version, host.machine, question
    return hashlib.sha256(repr(about).encode()).hexdigest()


def read(key: str | None, folder: Path = FOLDER) -> dict[str, bytes] | None:
    """Bytes by their name, the program's for instance, if they are kept."""
    if key is None:
        return None
    try:
        with open(
            os.open(folder / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb"
        ) as file:
            if not all(
                is_only_of(os.geteuid(), status)
                for status in (os.stat(folder, follow_symlinks=False), os.fstat(file.fileno()))
            ):
                return None
            sum_of_it, _, content = file.read(MOST_BYTES).partition(b"\n")
    except OSError:
        return None
    if sum_of_it != _sum(content):  # damaged
        return None
    return {name: bytes.fromhex(code) for name, code in json.loads(content).items()}


def write(key: str | None, made: Mapping[str, bytes], folder: Path = FOLDER) -> None:
    """Keeps these bytes, and lets go of what was kept longest ago; where that is not possible,
    nothing is kept.
    """
    if key is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if not is_only_of(os.geteuid(), os.stat(folder, follow_symlinks=False)):
            return
        import tempfile  # seldom used, and long to import

        content = json.dumps({name: code.hex() for name, code in made.items()}).encode()
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            try:
                file.write(_sum(content) + b"\n" + content)
                file.flush()
                os.rename(file.name, folder / key)
            except BaseException:
                os.unlink(file.name)
                raise
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-MOST_FILES]:
            path.unlink()


def _sum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
