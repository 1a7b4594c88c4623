# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which host and which boot a record is of."""

from __future__ import annotations


def boot_id() -> str | None:
    """The kernel's id of this boot."""
    return _line_of("/proc/sys/kernel/random/boot_id")


def machine_id() -> str | None:
    """systemd's id of this machine."""
    return _line_of("/etc/machine-id")


def _line_of(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip() or None
    except (OSError, ValueError):
        return None
