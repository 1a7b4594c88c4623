# SPDX-License-Identifier: LGPL-2.1-or-later
"""The preloaded library as a file: where it is, and which functions of the host's libvirt it
has no stub for.
"""

from __future__ import annotations

import fnmatch
import functools
import os
from collections.abc import Iterable
from pathlib import Path

from enforcer.policy.rules import Policy
from log.errors import TraceError
from log.quote import quote
from probes.api.load import stub_table
from probes.api.table import ApiTable
from probes.host.libraries.targets import Targets
from probes.host.looking.maps import ENFORCER
from probes.internals.elf import Elf, read_elf

FOLDER = Path(__file__).resolve().parent.parent


@functools.cache
def table() -> ApiTable:
    """The table that the library was made for: the bundled one, whatever else the host knows of."""
    return stub_table()


def library_path() -> Path:
    """The library, as installed or as built; TraceError when there is none or it can't be
    preloaded.
    """
    found = next(
        (path for path in (FOLDER / ENFORCER, FOLDER / "build" / ENFORCER) if path.exists()), None
    )
    if found is None:
        raise TraceError(f"the library {ENFORCER} is not there: build it with make enforcer")
    if any(letter in str(found) for letter in ": \t\n"):
        raise TraceError(f"the path {found} can't be preloaded: it has a blank or a colon in it")
    return found


def open_elf(path: Path) -> Elf:
    """What the file is; TraceError when it can't be read or is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise TraceError(f"can't read {path}: {error.strerror}") from error
    try:
        return read_elf(fd, str(path))
    finally:
        os.close(fd)


def uncovered(
    known: Iterable[str], libraries: Iterable[Iterable[str]] | None = None
) -> tuple[str, ...]:
    """Public functions of the host's libvirt (or of `libraries`) that are not known."""
    if libraries is None:
        targets = Targets()
        libraries = [[name for name, _ in target.functions] for target in targets.host()]
        targets.close()
    names = set(known)
    return tuple(sorted({name for functions in libraries for name in functions} - names))


def uncovered_rules(policy: Policy, missing: Iterable[str]) -> list[str]:
    """A line for each rule that is meant to cover functions that have no stub."""
    names = list(missing)
    lines = []
    for rule in policy.rules:
        hit = (
            [
                name
                for name in names
                if rule.access or any(fnmatch.fnmatchcase(name, glob) for glob in rule.globs)
            ]
            if rule.wide
            else []
        )
        if hit:
            lines.append(
                f"{policy.origin}:{rule.line}: rule {quote(rule.name)} can't cover "
                f"{', '.join(hit)}: such calls are not judged"
            )
    return lines
