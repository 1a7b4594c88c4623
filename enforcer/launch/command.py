# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a command under the enforcer: a policy and an argument vector come in; the process
becomes that command, or says why not.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import NoReturn

from enforcer.compiled.files import keep_for_command
from enforcer.launch.library import library_path, open_elf
from log.errors import TraceError

SCRIPTS_DEEP = 4  # the kernel follows as many #! lines


def environment(library: Path, policy: Path | None, on_error: str) -> dict[str, str]:
    """What a process needs to be enforced; other preloaded libraries stay."""
    others = [
        word
        for word in os.environ.get("LD_PRELOAD", "").replace(" ", ":").split(":")
        if word and word != str(library)
    ]
    found = {"LD_PRELOAD": ":".join([str(library), *others])}
    if policy:
        found["LIBVIRT_TRACE_POLICY"] = str(policy)
    found["LIBVIRT_TRACE_ON_ERROR"] = on_error
    return found


def run(argv: list[str], data: bytes | None, on_error: str) -> NoReturn:
    """Becomes the command; TraceError when it can't be enforced or started. `data`: a compiled
    policy.
    """
    program = shutil.which(argv[0])
    if program is None:
        raise TraceError(f"can't start {argv[0]}: {os.strerror(errno.ENOENT)}")
    library = library_path()
    check_program(Path(program), library)
    check_library(library)
    policy = keep_for_command(data) if data is not None else None
    try:
        os.execve(program, argv, {**os.environ, **environment(library, policy, on_error)})
    except OSError as error:
        raise TraceError(f"can't start {argv[0]}: {error.strerror}") from error


def check_program(path: Path, library: Path, depth: int = 0) -> None:
    """TraceError when the dynamic loader won't preload the library into the program."""
    try:
        status = path.stat()
        with path.open("rb") as file:
            begin = file.read(256)
    except OSError as error:
        raise TraceError(f"can't start {path}: {error.strerror}") from error
    if begin[:2] == b"#!" and depth < SCRIPTS_DEEP:
        words = begin[2:].split(b"\n")[0].split()
        if words:
            check_program(Path(os.fsdecode(words[0])), library, depth + 1)
        return
    if begin[:4] != b"\x7fELF":
        return  # the shell runs it
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID) and status.st_mode & 0o111:
        raise TraceError(
            f"{path} can't be enforced: it is set-uid or set-gid, and preloading is "
            "off for such programs"
        )
    if has_capabilities(path):
        raise TraceError(
            f"{path} can't be enforced: it has file capabilities, and preloading is "
            "off for such programs"
        )
    elf, own = open_elf(path), open_elf(library)
    if (elf.machine, elf.bits) != (own.machine, own.bits):
        raise TraceError(
            f"{path} can't be enforced: it is a {elf.bits}-bit program for "
            f"{elf.machine}, the library is for {own.machine}"
        )
    if not elf.is_dynamic:
        raise TraceError(
            f"{path} can't be enforced: it is static, so no library is preloaded into it"
        )


def check_library(library: Path) -> None:
    """TraceError when the dynamic loader of this host refuses the library: it would only say so
    and go on without it.
    """
    environment = {"LD_PRELOAD": str(library), "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    try:
        said = subprocess.run(
            ["true"], env=environment, capture_output=True, text=True, timeout=10
        ).stderr.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise TraceError(f"can't try the library {library}: {error}") from error
    if said:
        raise TraceError(f"the library can't be preloaded here: {said.splitlines()[0]}")


def has_capabilities(path: Path) -> bool:
    """Whether it gains privileges when it is started."""
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False
