# SPDX-License-Identifier: LGPL-2.1-or-later
"""A service that goes on while its files are replaced reads none of them later."""

from __future__ import annotations

from pathlib import Path

import pytest

from log.redact import cmdline, json, messages, xml
from log.redact.tables import read_all


def test_what_was_read_at_the_start_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = (cmdline.commands, json.known, xml.known, messages.words, messages.translated)
    for table in tables:
        table.cache_clear()
    read_all()

    def gone(self: Path, *words: object) -> None:
        raise FileNotFoundError(self)

    for reads in ("open", "read_text", "read_bytes"):
        monkeypatch.setattr(Path, reads, gone)
    for table in tables:
        table()
    words = ["virsh", "-c", "test:///default", "define", "web1.xml"]
    assert cmdline.redact_cmdline(words)[0] == "virsh"
    assert "web1" in messages.redact_error(42, "Domain not found: no domain with name 'web1'")
