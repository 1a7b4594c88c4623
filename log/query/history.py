# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a record tells of one object: a question about a name comes in, it goes out with the UUIDs
of domains that were renamed from or to it; and documents that define an object again come out with
the ones before.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable

from log.documents import names_in
from log.events import Call, DomainEvent, Event
from log.filters.about import DEFINES, matches, texts
from log.query.lines import Look
from log.query.linking import events_of
from log.query.query import Query
from log.query.reader import STDIN, read
from log.recent import Recent
from log.recording.index import Indexes
from log.values import Handle, Value, Values, Xml

RENAME = "virDomainRename"
MOST_RENAMED = 1000  # UUIDs
MOST_DOCUMENTS = 1024  # objects of which the last document is known


def with_renames(
    query: Query, paths: list[str], indexes: Indexes, say: Callable[[str], None]
) -> Query:
    """The question, also about what the objects were called before and after.

    The record is read once for that; what can be read only once is not.
    """
    if not query.objects or not all(map(_is_kept, paths)):
        return query
    asked = Query(objects=query.objects, functions=(RENAME,), nested=True, alone=True)
    found: dict[str, None] = {}
    lines, _ = read(paths, Look(asked, indexes, lambda line: None))
    for _, event, _ in events_of(lines, asked):
        uuid, names = _renamed(event)
        if uuid and any(matches(name, query.objects) for name in names):
            if len(found) >= MOST_RENAMED:
                say(f"more than {MOST_RENAMED} domains were renamed so: not all are followed")
                break
            found[uuid] = None
    return dataclasses.replace(query, renamed=tuple(found)) if found else query


def _is_kept(path: str) -> bool:
    """Whether it can be read again."""
    if path == STDIN:
        return False
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return True  # who reads it says so
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _renamed(event: Event) -> tuple[str | None, list[str]]:
    """UUID and names of a domain that was renamed."""
    if type(event) is DomainEvent:
        if event.detail != "renamed":
            return None, []
        return _uuid(event.domain), list(texts([event.domain.fields.get("name")]))
    if type(event) is Call and event.function == RENAME and event.failed is False and event.args:
        for item in event.args.values.values():
            if isinstance(item, Handle) and item.type == "domain":
                new = event.args.values.get("new_name")
                return _uuid(item), list(texts([item.fields.get("name"), new]))
    return None, []


def _uuid(handle: Handle) -> str | None:
    uuid = handle.fields.get("uuid")
    return uuid if isinstance(uuid, str) else None


_Key = tuple[str | None, str]  # host, and UUID or name


class Documents:
    """The last document of each object."""

    def __init__(self) -> None:
        self._last: Recent[_Key, str] = Recent(2 * MOST_DOCUMENTS)

    def told(self, host: str | None, event: Event) -> Event:
        """The event; a document that defines an object again has the one before beside it."""
        if type(event) is not Call:
            return event
        learnt: dict[_Key, str] = {}
        told = self._told(host, event, learnt)
        if event.parent is None:  # else the call that it was made for comes yet, with the same
            for key, document in learnt.items():
                self._last.put(key, document)
        return told

    def _told(self, host: str | None, call: Call, learnt: dict[_Key, str]) -> Call:
        if call.children:
            told = (
                self._told(host, child, learnt) if type(child) is Call else child
                for child in call.children
            )  # fmt: skip
            call = call._replace(children=tuple(told))
        if call.args is None or not DEFINES(call.function):
            return call
        made: dict[str, Value] = {}
        for argument, item in call.args.values.items():
            if isinstance(item, Xml):
                keys = _keys(host, call.ret, item)
                before = next((text for key in keys if (text := self._last.get(key))), None)
                if isinstance(call.ret, Handle):
                    learnt.update(dict.fromkeys(keys, item.captured))
                item = item._replace(before=before)
            made[argument] = item
        return call._replace(args=Values(made), alike=None)


def _keys(host: str | None, ret: Value, document: Xml) -> list[_Key]:
    """What the object is known by that a document defines: UUID and name that libvirt has given it,
    else those that the document asks for.
    """
    if isinstance(ret, Handle):
        found = texts(ret.fields.get(key) for key in ("uuid", "name"))
    else:
        found = reversed(names_in(document.captured))
    return [(host, known) for known in found]
