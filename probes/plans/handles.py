# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copies what identifies a libvirt object: the place of its address comes in, a reader of its
handle goes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from log.redact.uri import redact_uri
from log.values import CutText, Handle, Unreadable, Value
from probes.internals.gobject import URI
from probes.plans.builder import Builder, read_text
from probes.plans.meaning import values
from probes.plans.meaning.captured import Copied, Offsets, u64
from probes.plans.meaning.objects import FIELDS, PARENT, SHOWN_AS
from probes.plans.plan import Constants, Read

ONCE_DRIVER, ONCE_CONNECT = range(2)

DRIVER_NAME = 64  # bytes of it, at most
URI_PART = 256  # bytes of a host, a path, ..., at most, whatever is kept of other strings


def read_uuid(build: Builder, at: int) -> Read:
    """Reads the 16 bytes there."""
    build.shows(at, 16)
    return lambda raw, texts, constants: values.uuid_value(raw[at : at + 16])


def read_driver(build: Builder, connect: int, offsets: Offsets) -> Read:
    """Copies the name of the driver behind the connection whose address is at `connect`."""

    def copy(mark: int) -> Read:
        driver = build.block(connect, offsets["connect"]["driver"], 8)
        return read_text(build.text(build.block(driver, 0, 8), keep=DRIVER_NAME, mark=mark), False)

    return build.once(connect, ONCE_DRIVER, copy)


def read_connect(build: Builder, source: int, offsets: Offsets) -> Read:
    """Copies what a connection is: its URI, its driver and whether it is read-only."""
    return build.once(
        source, ONCE_CONNECT, lambda mark: _copy_connect(build, source, offsets, mark)
    )


def _copy_connect(build: Builder, source: int, offsets: Offsets, mark: int) -> Read:
    place, redact = offsets["connect"], build.limits.redact
    first = place["flags"]
    block = build.block(source, first, place["driver"] + 8 - first)
    driver = block + place["driver"] - first
    uri = build.block(block + place["uri"] - first, 0, 48)
    parts = {
        name: build.text(uri + at, keep=URI_PART, mark=mark)
        for name, at in URI.items()
        if name != "port"
    }
    name = build.text(build.block(driver, 0, 8), keep=DRIVER_NAME, mark=mark)

    def read(raw: bytes, texts: list[Copied], constants: Constants) -> Value:
        address = u64(raw, source)
        if not address:
            return None
        if not u64(raw, driver):
            return Unreadable(address)
        port = int.from_bytes(raw[uri + URI["port"] : uri + URI["port"] + 4], "little", signed=True)
        text = {
            part: values.string_value(texts[index], redact=False) for part, index in parts.items()
        }
        joined = join_uri(text, port) if text["scheme"] else None
        shown = redact_uri(joined) if joined and redact else joined
        cut = [value for value in text.values() if isinstance(value, CutText)]
        fields: dict[str, Value] = {"uri": _cut_uri(shown, cut) if shown and cut else shown}
        fields["driver"] = values.string_value(texts[name])
        if raw[block] & 1:
            fields["readonly"] = True
        return Handle("connect", fields, address)

    return read


def join_uri(part: Mapping[str, Value], port: int) -> str:
    """As libvirt's virURIFormat puts it together."""
    text = {
        name: value if isinstance(value, str) else getattr(value, "text", "") or ""
        for name, value in part.items()
    }
    server = f"[{text['server']}]" if ":" in text["server"] else text["server"]
    authority = (
        (text["user"] + "@" if text["user"] else "")
        + server
        + (f":{port}" if port > 0 and server else "")
    )
    return f"{text['scheme']}://{authority}{text['path']}" + (
        f"?{text['query']}" if text["query"] else ""
    )


def _cut_uri(shown: str, cut: Sequence[CutText]) -> CutText:
    """It is as much longer as its parts are."""
    more = [None if one.length is None else one.length - len(one.text.encode()) for one in cut]
    lacks = [count for count in more if count is not None]
    return CutText(shown, len(shown.encode()) + sum(lacks) if len(lacks) == len(more) else None)


def read_handle(build: Builder, source: int, kind: str, offsets: Offsets) -> Read:
    """Copies what identifies the object whose address is at `source`."""
    if kind == "connect":
        return read_connect(build, source, offsets)
    place, shown, limits = offsets[kind], FIELDS[kind], build.limits
    wanted = [place[field] + (16 if how == "uuid" else 8) for field, how, _ in shown]
    starts = [place[field] for field, _, _ in shown]
    parent = PARENT.get(kind)
    owner = place[parent] if parent else place["conn"]
    first, end = min([owner, *starts]), max([owner + 8, *wanted])
    block = build.block(source, first, end - first)
    build.follows(source)
    build.follows(block + owner - first)
    if limits.tells_apart or kind == "stream":  # streams have nothing else
        build.shows(source, 8)
    readers: list[tuple[str, Read]] = []
    for field, how, is_name in shown:
        at = block + place[field] - first
        if how == "uuid":
            readers.append((SHOWN_AS.get(field, field), read_uuid(build, at)))
        else:
            readers.append(
                (
                    SHOWN_AS.get(field, field),
                    read_text(build.text(at, name=is_name), limits.redact, limits.string),
                )
            )
    connect = block + owner - first
    if parent:
        inner = offsets["domain" if parent == "domain" else "network"]
        above = build.block(connect, inner["conn"], inner["name"] + 8 - inner["conn"])
        label = "domain" if parent == "domain" else "network"
        readers.append(
            (
                label,
                read_text(
                    build.text(above + inner["name"] - inner["conn"], name=True),
                    limits.redact,
                    limits.string,
                ),
            )
        )
        connect = above
    driver = read_driver(build, connect, offsets)

    def read(raw: bytes, texts: list[Copied], constants: Constants) -> Value:
        address = u64(raw, source)
        if not address:
            return None
        if not any(raw[block : block + end - first]):
            return Unreadable(address)
        fields = {name: reader(raw, texts, constants) for name, reader in readers}
        fields["driver"] = driver(raw, texts, constants)
        return Handle(kind, fields, address, u64(raw, connect))

    return read
