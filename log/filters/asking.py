# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which commands to a monitor or to an agent in the guest only ask: a command comes in, yes or
no goes out.
"""

from __future__ import annotations

import re

from log.values import CutText, Value

_EXECUTE = re.compile(r'"execute"\s*:\s*"([^"\\]+)"')
_ASKING = re.compile(
    r"query-.*|qom-get|qom-list.*|device-list-properties|qmp_capabilities|guest-get-.*|guest-network-get-.*|guest-info|guest-ping|guest-sync.*"
)


def command_name(text: Value) -> str | None:
    """What is to be done: of a JSON object its "execute"; of what is none, all of it."""
    if isinstance(text, CutText):
        text = text.text
    if not isinstance(text, str):
        return None
    if not text.lstrip().startswith("{"):
        return text
    names = _EXECUTE.findall(text)
    return names[0] if len(names) == 1 else None


def only_asks(text: Value) -> bool:
    """Whether it changes nothing. What can't be told may change something."""
    name = command_name(text)
    return name is not None and _ASKING.fullmatch(name) is not None
