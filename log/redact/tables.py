# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the tables by which secrets are told from the rest, before any of them is needed: a service
goes on while an upgrade takes files away, or puts those of another version there.
"""

from __future__ import annotations

from log.redact import cmdline, json, messages, xml


def read_all() -> None:
    """All of them; each is read once."""
    cmdline.read_tables()
    json.known()
    xml.known()
    messages.read_tables()
