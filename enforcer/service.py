# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts a daemon under the enforcer: a unit's name and a policy come in, a systemd drop-in goes out."""

from __future__ import annotations

import re
from pathlib import Path

from enforcer.files import FINAL, SYSTEM_FOLDER, write_whole
from enforcer.launch import check_library, check_program
from enforcer.library import library_path
from enforcer.rules import nearest
from log.errors import TraceError
from log.quote import quote

UNIT_FOLDERS = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
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
_STARTS = re.compile(r"^ExecStart=[-@:+!]*(/\S+)", re.M)
_PRELOADS = re.compile(r"^Environment=.*\bLD_PRELOAD=", re.M)


def unit_name(word: str) -> str:
    """The unit's full name; TraceError for one that could not be a unit's."""
    name = word if word.endswith(".service") else f"{word}.service"
    if not re.fullmatch(r"[A-Za-z0-9:_.@\\-]+\.service", name):
        raise TraceError(f"{quote(word)} is no name of a service")
    return name


def enforce(word: str, data: bytes | None, on_error: str, root: Path = Path("/")) -> list[str]:
    """Writes the drop-in (and the policy); what to say about it."""
    name = unit_name(word)
    text = _unit_text(name, root)
    library = library_path()
    check_library(library)
    if (starts := _STARTS.findall(text)) and (program := root / starts[-1].lstrip("/")).exists():
        check_program(program, library)
    if _PRELOADS.search(text):
        raise TraceError(f"{name} already preloads a library: its LD_PRELOAD would be replaced")
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
        *_confinement(starts[-1] if starts else "", library, root),
        f"{name} is enforced after: systemctl daemon-reload && systemctl restart {name}",
    ]


def remove(word: str, root: Path = Path("/")) -> list[str]:
    """Takes the drop-in away; what to say about it."""
    name = unit_name(word)
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
    return [f"{name} is not enforced any more after: systemctl daemon-reload && systemctl restart {name}"]


def _drop_in(name: str, root: Path) -> Path:
    return root / "etc/systemd/system" / f"{name}.d" / DROP_IN


def _unit_text(name: str, root: Path) -> str:
    """The unit and its other drop-ins."""
    folders = [root / folder for folder in UNIT_FOLDERS]
    files = [path for folder in folders if (path := folder / name).is_file()][:1]
    if not files:
        known = [path.name for folder in folders if folder.is_dir() for path in folder.glob("*.service")]
        if name in SPLIT_DAEMONS and MONOLITHIC in known:
            raise TraceError(f"there is no unit {name}: here {MONOLITHIC} does its work")
        raise TraceError(f"there is no unit {name}{nearest(name, known)}")
    for folder in folders:
        files += sorted(path for path in (folder / f"{name}.d").glob("*.conf") if path.name != DROP_IN)
    try:
        return "\n".join(path.read_text(errors="replace") for path in files)
    except OSError as error:
        raise TraceError(f"can't read {error.filename}: {error.strerror}") from error


def _confinement(program: str, library: Path, root: Path) -> list[str]:
    """What might keep the loader from the library."""
    said = []
    profile = root / "etc/apparmor.d" / program.strip("/").replace("/", ".")
    if program and profile.is_file() and (root / "sys/kernel/security/apparmor").is_dir():
        text = profile.read_text(errors="replace")
        if str(library) not in text and not re.search(r"^\s*/\*\*\s+\w*m\w*", text, re.M):
            said.append(f"AppArmor confines {program}: its profile {profile} must allow {library} mr, and /etc/libvirt-trace/* r")
    try:
        if (root / "sys/fs/selinux/enforce").read_text().strip() == "1":
            said.append("SELinux clears LD_PRELOAD when systemd starts a confined daemon, unless its domain may noatsecure")
    except OSError:
        pass
    return said
