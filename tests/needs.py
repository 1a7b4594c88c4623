# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a folder of tests needs of the machine: where it is missing, its tests are skipped, or
fail when they are required.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "/usr/bin/python3"
# with libvirts older and newer than this machine's, and a 32-bit one
OTHERS = [ROOT / ".cache" / name for name in ("bullseye", "trixie", "sid")]
I386 = ROOT / ".cache" / "i386"
# libvirt's modular daemons, as `make check-modular` builds them
MODULAR = Path(os.environ.get("LIBVIRT_TRACE_MODULAR", "/var/cache/libvirt-trace-ci/modular"))
MACHINE = Path(os.environ.get("LIBVIRT_TRACE_MACHINE", "/var/cache/libvirt-trace-ci/machine"))
REQUIRED = frozenset(filter(None, os.environ.get("LIBVIRT_TRACE_REQUIRE", "").split(",")))
# emulated kernels are slow: every time limit of the tests is multiplied by this
PATIENCE = float(os.environ.get("LIBVIRT_TRACE_PATIENCE", "1"))
# more rounds than a test has otherwise: `make check-stacks`
ROUNDS = int(os.environ.get("LIBVIRT_TRACE_ROUNDS", "0"))


def rounds(usual: int) -> int:
    """How many a test has."""
    return max(usual, ROUNDS)


def lack(folder: str, what: str) -> NoReturn:
    """Skip the running test because `what` is missing; fail it where LIBVIRT_TRACE_REQUIRE
    names its folder.
    """
    if folder in REQUIRED:
        pytest.fail(f"{what}, and LIBVIRT_TRACE_REQUIRE has {folder}", pytrace=False)
    pytest.skip(
        f"{what} (`make deps` installs what is missing; LIBVIRT_TRACE_REQUIRE={folder} "
        "makes this a failure)"
    )


def program(name: str) -> Callable[[], str | None]:
    """A check that says that the program is missing, or None."""
    return lambda: None if shutil.which(name) else f"{name} is not installed"


def root() -> str | None:
    """Why tests that need root can't run, or None."""
    return None if os.geteuid() == 0 else "not root"


@cache
def bpf() -> str | None:
    """Why BPF can't be used, or None: a map is made to find out."""
    from probes.kernel.bpf import MAP_ARRAY, create_map

    try:
        os.close(create_map(MAP_ARRAY, 4, 4, 1))
    except OSError as error:
        return f"no BPF: {error.strerror}"
    return None if Path("/sys/kernel/btf/vmlinux").exists() else "no BPF: the kernel has no BTF"


def roots() -> str | None:
    """Why the other Debian roots can't be used, or None."""
    missing = [root.name for root in (*OTHERS, I386) if not (root / "complete").exists()]
    return f"no root {' or '.join(missing)}: `make check-libvirts` makes it" if missing else None


def i386() -> str | None:
    """Why no 32-bit program can be built, or None."""
    if (I386 / "complete").exists():
        return None
    return "no root i386: `make check-stacks` makes it"


def machine() -> str | None:
    """Why there is no Debian 13 to start, or None."""
    if (MACHINE / "complete").exists():
        return None
    return "no image of a machine: `make check-machine` makes it"


def modular() -> str | None:
    """Why the modular daemons can't be used, or None."""
    if (MODULAR / "complete").exists():
        return None
    return f"no {MODULAR}: `make check-modular` builds libvirt's modular daemons there"


def own_kernel() -> str | None:
    """Why this kernel's clock and CPUs may not be touched, or None."""
    if os.environ.get("LIBVIRT_TRACE_OWN_KERNEL"):
        return None
    return "others use this kernel: `make check-kernels` emulates one"


def module(name: str) -> Callable[[], str | None]:
    """A need: the module of Python's can be imported."""
    return lambda: None if importlib.util.find_spec(name) else f"no module {name}"


NEEDS: dict[str, tuple[Callable[[], str | None], ...]] = {
    "unit": (),
    "preload": (program("gcc"), program("virsh")),
    "kernel": (root, bpf, program("gcc"), program("virsh")),
    "system": (
        root,
        bpf,
        program("gcc"),
        program("virsh"),
        program("libvirtd"),
        program("qemu-system-x86_64"),
    ),
    "libvirts": (root, bpf, roots),
    "machine": (program("qemu-system-x86_64"), program("ssh"), machine),
    "stacks": (root, bpf, program("gcc"), program("go"), i386),
    "kernels": (own_kernel,),
    "integrations": tuple(map(module, ("chdb", "duckdb", "ocsf_json_schema"))),
    "modular": (root, bpf, modular, program("qemu-system-x86_64"), program("qemu-img")),
    "bench": (
        root,
        bpf,
        program("gcc"),
        program("bpftrace"),
        program("ltrace"),
        program("libvirtd"),
        program("jq"),
        program("zstdgrep"),
    ),
}


def check(folder: str) -> None:
    """Skip or fail the running test if its folder's needs are not met."""
    for need in NEEDS.get(folder, ()):
        if missing := need():
            lack(folder, missing)
