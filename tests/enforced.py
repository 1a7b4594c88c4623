# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs programs under the enforcer: a policy's text and a command come in, what the program did
goes out.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from enforcer.compiled.files import write_whole
from enforcer.compiled.writer import compile_policy
from enforcer.launch.library import library_path, table
from enforcer.policy.reading.reading import read_policy
from tests.needs import PATIENCE, PYTHON, ROOT

COMMAND = (PYTHON, "-E", "-s", str(ROOT / "tracer.py"))
DENIED = 88  # VIR_ERR_ACCESS_DENIED

KEEP_TEST = """
[[rule]]
name = "keep-test"
action = "deny"
function = ["virDomainSuspend", "virDomainDestroy*", "virDomainUndefine*"]
object = ["te*"]
message = "ask the on-call engineer"
"""


@cache
def library() -> Path:
    """The library, built from what is in the tree."""
    # one at a time: tests may run side by side
    subprocess.run(
        ["flock", "Makefile", "make", "--no-print-directory", "enforcer"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return library_path()


def compiled(text: str, origin: str = "policy.toml") -> bytes:
    """The compiled policy; it has no warnings."""
    policy = read_policy(text, origin, table())
    return compile_policy(policy, table())


def in_daemon(policy: Path) -> dict[str, str]:
    """What a daemon has in its environment that obeys the policy."""
    return {"LD_PRELOAD": str(library()), "LIBVIRT_TRACE_POLICY": str(policy)}


def put(path: Path, text: str) -> Path:
    """The policy, compiled and in place, as `policy apply` does it."""
    write_whole(path, compiled(text))
    return path


def enforced_environment(policy: Path | None, **more: str) -> dict[str, str]:
    """The environment of an enforced process."""
    plain = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("LD_PRELOAD", "LIBVIRT_TRACE_"))
    }
    named = {"LIBVIRT_TRACE_POLICY": str(policy)} if policy else {}
    return {
        **plain,
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "en",
        "LD_PRELOAD": str(library()),
        **named,
        **more,
    }


def run(command: list[Any], policy: Path | None, **more: str) -> subprocess.CompletedProcess[str]:
    """The command's end."""
    return subprocess.run(
        [str(word) for word in command],
        env=enforced_environment(policy, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )


def enforce(policy: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """`libvirt-trace enforce --policy FILE -- COMMAND`."""
    library()
    return subprocess.run(
        [*COMMAND, "enforce", "--policy", str(policy), "--", *map(str, command)],
        env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "en"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )
