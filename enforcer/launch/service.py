# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts a daemon under the enforcer: a unit's name and a policy come in, a systemd drop-in goes out.

What a unit is, systemd says: it knows aliases, templates, generators and every drop-in. Where it
doesn't run, the files are read.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from enforcer.compiled.files import FINAL, SYSTEM_FOLDER, write_whole
from enforcer.launch.command import check_library, check_program
from enforcer.launch.library import library_path
from enforcer.policy.rules import nearest
from log.errors import TraceError
from log.quote import quote

UNIT_FOLDERS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
DROP_IN = "libvirt-trace.conf"
MONOLITHIC = "libvirtd.service"  # has all drivers, where they do not have daemons of their own
SPLIT_DAEMONS = {
    f"virt{driver}d.service"
    for driver in (
        "bhyve",
        "ch",
        "interface",
        "lxc",
        "network",
        "nodedev",
        "nwfilter",
        "proxy",
        "qemu",
        "secret",
        "storage",
        "vbox",
        "vz",
        "xen",
    )
}
BOOTED = Path("/run/systemd/system")  # is there if systemd is the init system
_ASKED = ("Id", "LoadState", "ExecStart", "Environment", "EnvironmentFiles", "UnsetEnvironment")
_PRELOADS = re.compile(r"(?:^|[\s\"'])LD_PRELOAD=([^\s\"']*)", re.M)
_SETS = re.compile(r"^\s*(?:export\s+)?LD_PRELOAD=", re.M)


class Unit(NamedTuple):
    """A service, as far as the enforcer is concerned."""

    name: str
    program: str  # the path; "" if it can't be told
    preloads: tuple[str, ...]  # what LD_PRELOAD is set to, in order
    files: tuple[str, ...]  # more of its environment is in these
    unsets: bool  # it takes LD_PRELOAD out of the environment


def unit_name(word: str) -> str:
    """The unit's full name; TraceError for one that could not be a unit's."""
    name = word if word.endswith(".service") else f"{word}.service"
    if not re.fullmatch(r"[A-Za-z0-9:_.@\\-]+\.service", name):
        raise TraceError(f"{quote(word)} is no name of a service")
    return name


def enforce(word: str, data: bytes | None, on_error: str, root: Path = Path("/")) -> list[str]:
    """Writes the drop-in (and the policy); what to say about it."""
    unit = find_unit(word, root)
    name, library = unit.name, library_path()
    check_library(library)
    if unit.program and (program := root / unit.program.lstrip("/")).exists():
        check_program(program, library)
    _check_environment(unit, library, root)
    lines = [
        "# Written by libvirt-trace enforce; libvirt-trace enforce --remove takes it away.",
        "[Service]",
        f"Environment=LD_PRELOAD={library}",
    ]
    if data is not None:
        policy = root / SYSTEM_FOLDER.relative_to("/") / f"{name}.bin"
        write_whole(policy, data, FINAL)
        lines.append(f"Environment=LIBVIRT_TRACE_POLICY={SYSTEM_FOLDER / policy.name}")
    lines.append(f"Environment=LIBVIRT_TRACE_ON_ERROR={on_error}")
    write_whole(_drop_in(name, root), "".join(f"{line}\n" for line in lines).encode())
    return [
        *_confinement(unit.program, library, root),
        *_others(name, root),
        f"{name} is enforced after: systemctl daemon-reload && systemctl restart {name}",
    ]


def _others(name: str, root: Path) -> list[str]:
    """A line on libvirt's other daemons here that are not enforced."""
    free = sorted(
        other
        for other in SPLIT_DAEMONS - {name}
        if any((root / folder / other).is_file() for folder in UNIT_FOLDERS)
        and not _drop_in(other, root).exists()
    )
    if name not in SPLIT_DAEMONS or not free:
        return []
    which = ", ".join(free)
    return [f"not enforced, and so for whom they ask {name} can't be told: {which}"]


def remove(word: str, root: Path = Path("/")) -> list[str]:
    """Takes the drop-in away; what to say about it."""
    name = unit_name(word)
    if not _drop_in(name, root).exists():
        with contextlib.suppress(TraceError):  # the name may be an alias, and the unit may be gone
            name = find_unit(word, root).name
    path = _drop_in(name, root)
    try:
        path.unlink()
        (root / SYSTEM_FOLDER.relative_to("/") / f"{name}.bin").unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    except FileNotFoundError:
        raise TraceError(f"{name} is not enforced: there is no {path}") from None
    except OSError as error:
        raise TraceError(f"can't remove {path}: {error.strerror}") from error
    return [
        (
            f"{name} is not enforced any more after: systemctl daemon-reload && systemctl restart "
            f"{name}"
        )
    ]


def _drop_in(name: str, root: Path) -> Path:
    return root / "etc/systemd/system" / f"{name}.d" / DROP_IN


def find_unit(word: str, root: Path = Path("/")) -> Unit:
    """The service; TraceError when there is none of that name, or it can't be started."""
    name = unit_name(word)
    said = _ask_systemd(name) if root == Path("/") else None
    if said is None:
        return _of_settings(name, _read_unit(name, root))
    state = said.get("LoadState", [""])[-1]
    if state == "not-found":
        raise _no_unit(name, root)
    if state != "loaded":
        raise TraceError(f"{name} can't be started: systemd says that it is {state or 'unknown'}")
    return _of_settings(said.get("Id", [name])[-1], said)


def _no_unit(name: str, root: Path) -> TraceError:
    folders = [root / folder for folder in UNIT_FOLDERS]
    known = [
        path.name for folder in folders if folder.is_dir() for path in folder.glob("*.service")
    ]
    if name in SPLIT_DAEMONS and MONOLITHIC in known:
        return TraceError(f"there is no unit {name}: here {MONOLITHIC} does its work")
    return TraceError(f"there is no unit {name}{nearest(name, known)}")


def _ask_systemd(name: str) -> dict[str, list[str]] | None:
    """What systemd has of it: property -> its lines; None: it doesn't run here, or says nothing."""
    if not BOOTED.is_dir():
        return None
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(_ASKED)}", "--", name]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _settings(done.stdout.splitlines()) if done.returncode == 0 and done.stdout else None


def _read_unit(name: str, root: Path) -> dict[str, list[str]]:
    """The same from the unit's file and its other drop-ins."""
    folders = [root / folder for folder in UNIT_FOLDERS]
    files = [path for folder in folders if (path := folder / name).is_file()][:1]
    if not files:
        raise _no_unit(name, root)
    for folder in folders:
        files += sorted(
            path for path in (folder / f"{name}.d").glob("*.conf") if path.name != DROP_IN
        )
    try:
        text = "\n".join(path.read_text(errors="replace") for path in files)
    except OSError as error:
        raise TraceError(f"can't read {error.filename}: {error.strerror}") from error
    return _settings(text.replace("\\\n", " ").splitlines())


def _settings(lines: Iterable[str]) -> dict[str, list[str]]:
    """Name -> its values; an empty one takes those before it away."""
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.strip().partition("=")
        name = {"EnvironmentFile": "EnvironmentFiles"}.get(name, name)
        found[name] = [*found.get(name, []), value] if value else []
    return found


def _of_settings(name: str, said: dict[str, list[str]]) -> Unit:
    starts = "\n".join(said.get("ExecStart", []))
    # as systemctl shows it, and as it is in the file, with what its prefixes mean
    programs = re.findall(
        r"^\{ "
        r"path=(/\S+)",
        starts,
        re.M,
    ) or re.findall(r"^[-@:+!]*(/\S+)", starts, re.M)
    preloads = [found for line in said.get("Environment", []) for found in _PRELOADS.findall(line)]
    files = [
        re.sub(
            r" "
            r"\(ignore_errors=\w+\)$",
            "",
            line,
        ).removeprefix("-")
        for line in said.get("EnvironmentFiles", [])
    ]
    unsets = any(
        re.search(r"(?:^|\s)LD_PRELOAD(?:=|\s|$)", line)
        for line in said.get("UnsetEnvironment", [])
    )
    return Unit(name, programs[-1] if programs else "", tuple(preloads), tuple(files), unsets)


def _check_environment(unit: Unit, library: Path, root: Path) -> None:
    """TraceError when the service's own environment would win, or would lose what it needs."""
    if any(value != str(library) for value in unit.preloads):
        raise TraceError(
            f"{unit.name} already preloads a library: its LD_PRELOAD would be replaced"
        )
    if unit.unsets:
        raise TraceError(
            f"{unit.name} has UnsetEnvironment=LD_PRELOAD, so that nothing can be preloaded into it"
        )
    for name in unit.files:
        for path in sorted(root.glob(name.lstrip("/"))) if name.startswith("/") else ():
            with contextlib.suppress(OSError):
                if path.is_file() and _SETS.search(path.read_text(errors="replace")):
                    raise TraceError(
                        f"{unit.name} sets LD_PRELOAD in {path}, which goes before "
                        "the drop-in: take it out there"
                    )


def _confinement(program: str, library: Path, root: Path) -> list[str]:
    """What might keep the loader from the library."""
    said = []
    profile = root / "etc/apparmor.d" / program.strip("/").replace("/", ".")
    if program and profile.is_file() and (root / "sys/kernel/security/apparmor").is_dir():
        text = profile.read_text(errors="replace")
        if str(library) not in text and not re.search(r"^\s*/\*\*\s+\w*m\w*", text, re.M):
            said.append(
                f"AppArmor confines {program}: its profile {profile} must allow {library} "
                f"mr, and {SYSTEM_FOLDER}/* r"
            )
    try:
        if (root / "sys/fs/selinux/enforce").read_text().strip() == "1":
            said.append(
                "SELinux clears LD_PRELOAD when systemd starts a confined daemon, unless "
                "its domain may noatsecure"
            )
    except OSError:
        pass
    return said
