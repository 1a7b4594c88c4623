# SPDX-License-Identifier: LGPL-2.1-or-later
"""A recorded call comes in; the facts that the library would have judged go out. What it would have
known and the record doesn't tell is UNRECORDED.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from enforcer.compiled.layout import IN_PARAMS
from enforcer.judging.judge import UNRECORDED, Facts, Unrecorded
from enforcer.policy.sources import sources_of
from enforcer.rehearsal.made import Made
from enforcer.rehearsal.things import HIDES, document_of, text_of, things_of
from log.values import (
    EnumValue,
    Flags,
    Handle,
    Unreadable,
)

_OWN_DRIVER = re.compile(r"[^/]*?://(?:[/?#]|$)")  # a URI without a server
# drivers that a daemon has one of each, and whose names are their schemes, but for case
_DRIVERS = frozenset(
    ["qemu", "lxc", "xen", "ch", "network", "storage", "nodedev", "secret", "nwfilter", "interface"]
)


def facts_of(made: Made) -> Iterator[Facts]:
    """What is judged, the strictest answer counting: for each of those that it is made for, for
    each object where they are judged one by one. Nothing, where libvirt refuses the call first.
    """
    if _is_refused(made):
        return
    numbers, texts, hidden = _arguments(made)
    for people, has_group, exe in _people(made):
        for things in things_of(made):
            yield Facts(
                made.function,
                things,
                people,
                has_group,
                _uri(made),
                _readonly(made),
                exe,
                numbers,
                texts,
                hidden,
                made.client is not None and made.caller.uid == 0,
            )


def _is_refused(made: Made) -> bool:
    """Whether it is not made on what it has to be made on."""
    sources = sources_of(made.function)
    if (
        not sources
        or sources[0].argument
        or sources[0].kind not in ("handle", "connection", "pool")
    ):
        return False
    value = made.value(0)
    return value is None or isinstance(value, Unreadable)


def _people(
    made: Made,
) -> Iterator[tuple[frozenset[tuple[str, int | str]] | Unrecorded, bool, str | Unrecorded | None]]:
    """For whom it is made, as rules name them; whether their group is known; their program."""
    client = made.client
    if client is None:
        exe = made.caller.exe
        yield frozenset({("uid", made.caller.uid)}), False, UNRECORDED if exe is None else exe
        return
    both = [client.peer, client.claims] if client.peer and client.claims else [client]
    for who in both:
        told = (("uid", who.uid), ("gid", who.gid), ("sasl", who.sasl), ("x509", who.x509))
        known = frozenset((kind, value) for kind, value in told if value is not None)
        if not known and who.address is None and client.claims is None:
            yield UNRECORDED, True, UNRECORDED  # its record was lost
        elif who.exe is not None:
            yield known, True, who.exe
        else:
            yield known, True, None if who.pid is None else UNRECORDED


def _arguments(
    made: Made,
) -> tuple[dict[int, int | Unrecorded], dict[int, str | Unrecorded | None], frozenset[int]]:
    """Numbers, texts, and which texts have hidden parts, by place."""
    numbers: dict[int, int | Unrecorded] = {}
    texts: dict[int, str | Unrecorded | None] = {}
    hidden = set()
    for place, param in enumerate(made.function.params):
        value = made.value(place)
        if param.kind in ("string", "xml"):
            texts[place], is_hiding = (None, False) if value is None else document_of(value)
            hidden |= {place} if is_hiding else set()
        elif isinstance(value, EnumValue | Flags):
            numbers[place] = value.value
        else:
            numbers[place] = value if isinstance(value, int) else UNRECORDED
    for source in sources_of(made.function):
        if source.kind == "params":
            params = made.value(source.argument)
            value = params.get("destination_xml") if isinstance(params, dict) else params
            place = IN_PARAMS | source.argument
            texts[place], is_hiding = (None, False) if value is None else document_of(value)
            hidden |= {place} if is_hiding else set()
    return numbers, texts, frozenset(hidden)


def _uri(made: Made) -> str | Unrecorded | None:
    """Of the connection, as the library sees it."""
    name = made.function.name
    if name.startswith("virConnectOpen"):
        value = made.value(0)
        if value is None:
            return None  # the client's configuration has it
        uri: Any = text_of(value)
    else:
        handles = [
            value
            for value in (*map(made.value, range(len(made.function.params))), made.result)
            if isinstance(value, Handle)
        ]
        uri = next((h.fields["uri"] for h in handles if h.fields.get("uri") is not None), None)
        if uri is None and made.client is not None:
            driver = next((h.fields.get("driver") for h in handles), None)
            if isinstance(driver, str) and driver.lower() in _DRIVERS:
                path = "system" if made.caller.uid == 0 else "session"
                uri = f"{driver.lower()}:///{path}"
    if not isinstance(uri, str) or HIDES in uri:
        return UNRECORDED
    if made.client is not None and not _OWN_DRIVER.match(uri):
        return None  # as is_own_driver() in connection.c
    return uri


def _readonly(made: Made) -> bool | Unrecorded:
    name = made.function.name
    if name.startswith("virConnectOpen"):
        if name == "virConnectOpenAuth":
            flags = made.value(2)
            return bool(flags.value & 1) if isinstance(flags, Flags) else UNRECORDED
        return name == "virConnectOpenReadOnly"
    connection = made.value(0) if made.function.params else UNRECORDED
    if isinstance(connection, Handle) and connection.type == "connect":
        return bool(connection.fields.get("readonly"))
    if made.client is not None and made.client.readonly:
        return True
    # libvirt refuses to change something over a read-only connection
    return False if made.function.access == "write" and made.failed is False else UNRECORDED
