# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that only ask are told from those that do something, and from what can't be told."""

from __future__ import annotations

import pytest

from log.filters.asking import command_name, only_asks
from log.values import CutText, Unreadable, Value


@pytest.mark.parametrize(
    ("text", "name", "asks"),
    [
        ('{"execute":"query-block"}', "query-block", True),
        (CutText('{"execute": "qom-list-types", "arg', 99), "qom-list-types", True),
        ("guest-ping", "guest-ping", True),
        ('{"execute":"quit"}', "quit", False),
        ('{"execute":"query-block","x":{"execute":"quit"}}', None, False),
        ('{"execute":"query-\\u0062"}', None, False),
        ('{"execute":"guest-set-user-password"}', "guest-set-user-password", False),
        (Unreadable(16), None, False),
        (None, None, False),
    ],
)  # fmt: skip
def test_only_what_is_known_to_ask_asks(text: Value, name: str | None, asks: bool) -> None:
    assert (command_name(text), only_asks(text)) == (name, asks)
