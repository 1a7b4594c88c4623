# SPDX-License-Identifier: LGPL-2.1-or-later
"""A policy's file comes in; its text, and what it says, go out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import Policy
from log.errors import TraceError, say
from probes.api.table import ApiTable

TEXT_MAX = 16 << 20  # bytes of a policy's text


def read_text(path: Path) -> str:
    """What is in the file, which may be a pipe."""
    try:
        with path.open("rb") as file:
            data = file.read(TEXT_MAX + 1)
    except OSError as error:
        raise TraceError(f"can't read {path}: {error.strerror}") from error
    if len(data) > TEXT_MAX:
        raise TraceError(f"{path} is larger than {TEXT_MAX >> 20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise TraceError(f"{path} is not UTF-8") from None


def parse(text: str, path: Path, table: ApiTable) -> Policy:
    """The policy that was read from there; warnings are said."""
    policy = dataclasses.replace(read_policy(text, str(path), table), origin=os.path.abspath(path))
    for warning in policy.warnings:
        say(f"{warning} (warning)")
    return policy


def load(path: Path, table: ApiTable) -> Policy:
    """The policy in the file."""
    return parse(read_text(path), path, table)
