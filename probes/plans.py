# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles functions into copy plans: a signature and an object layout come in; operations for the kernel and their decoder go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from log.events import Handle, Redacted, Unreadable, Value
from probes import private, records, values
from probes.api import ApiTable, Function, Param, Result

Offsets = Mapping[str, Mapping[str, int]]  # object type -> field -> bytes


class Constants:
    """What a process's threads have sent once: (ONCE_*, address) -> value; `version` changes when one is replaced."""

    def __init__(self) -> None:
        self.version = 0
        self._values: dict[tuple[int, int], Value] = {}

    def get(self, key: tuple[int, int]) -> Value:
        """The value; None where its record was lost."""
        return self._values.get(key)

    def learn(self, key: tuple[int, int], value: Value) -> None:
        """Another connection may be at the address now."""
        if self._values.get(key) != value:
            self.version += 1
            self._values[key] = value


Read = Callable[[bytes, list[values.Copied], Constants], Value]
ONCE_DRIVER, ONCE_CONNECT = range(2)

# what a handle shows, in order: the field, how it is read ("text", "uuid"), whether the object filter looks at it
_FIELDS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "domain": (("name", "text", True), ("uuid", "uuid", False)),
    "network": (("name", "text", True), ("uuid", "uuid", False)),
    "pool": (("name", "text", True), ("uuid", "uuid", False)),
    "nwfilter": (("name", "text", True), ("uuid", "uuid", False)),
    "volume": (("name", "text", True), ("pool", "text", False), ("key", "text", False)),
    "interface": (("name", "text", True), ("mac", "text", False)),
    "nodedevice": (("name", "text", True), ("parentName", "text", False)),
    "secret": (("uuid", "uuid", False), ("usageID", "text", True)),
    "snapshot": (("name", "text", True),),
    "checkpoint": (("name", "text", True),),
    "nwfilterbinding": (("portdev", "text", True), ("filtername", "text", False)),
    "networkport": (("uuid", "uuid", False),),
    "stream": (),
}
_SHOWN_AS = {"parentName": "parent", "usageID": "usage", "filtername": "filter"}
_PARENT = {"snapshot": "domain", "checkpoint": "domain", "networkport": "net"}
# struct _virURI (src/util/viruri.h): where its strings are
_URI = {"scheme": 0, "server": 8, "user": 16, "port": 24, "path": 32, "query": 40}
DRIVER_NAME = 64  # bytes of it, at most


class Limits(NamedTuple):
    """How much is captured: bytes of a string, and whether secrets are shown."""

    string: int
    redact: bool


class Condition(NamedTuple):
    """What makes a call one that changes something: one of records.ALWAYS_SO, ANY_BIT, EQUALS; an argument and its bits."""

    kind: int = records.ALWAYS_SO
    argument: int = 0
    bits: int = 0


class Plan(NamedTuple):
    """What the kernel copies at one probe, and how to read it."""

    flags: int
    fixed: int
    objects: int
    ops: tuple[tuple[int, int, int, int, int, int], ...]
    texts: tuple[values.Text, ...]
    fields: tuple[tuple[str, Read], ...]
    condition: Condition = Condition()

    def pack(self) -> bytes:
        """A row of the plan map."""
        row = records.PLAN_HEAD.pack(self.flags, self.fixed, *self.condition, self.objects) + b"".join(records.OP.pack(*op) for op in self.ops)
        return row.ljust(records.PLAN_SIZE, b"\0")

    def decode(self, raw: bytes, pieces: Mapping[int, list[values.Piece]], constants: Constants) -> dict[str, Value]:
        """The record's values by name."""
        texts = values.read_texts(raw, self.texts, self.fixed, pieces)
        return {name: read(raw, texts, constants) for name, read in self.fields}


class _Builder:
    """Operations and their places in the record, one after the other."""

    def __init__(self, fixed: int, limits: Limits) -> None:
        self.fixed = fixed
        self.limits = limits
        self.ops: list[tuple[int, int, int, int, int, int]] = []
        self.texts: list[values.Text] = []
        self.objects = 0

    def _room(self, size: int) -> int:
        at = self.fixed
        self.fixed += (size + 7) & ~7
        return at

    def block(self, source: int, offset: int, length: int) -> int:
        """Copies `length` bytes at *source + offset; where to."""
        at = self._room(length)
        self.ops.append((records.OP_BLOCK, source, at, length, offset, 0))
        return at

    def text(self, source: int, *, keep: int | None = None, name: bool = False, mark: int = 0) -> int:
        """Copies the string at *source; its index among the texts. `keep` bytes of it, by default as many as the user wants."""
        keep = self.limits.string if keep is None else keep
        size = min(keep, records.INLINE_MAX)
        slot = self._room(4)
        if name:
            self.objects |= 1 << len(self.ops)
        self.texts.append(values.Text(len(self.ops), source, slot, size, mark))
        self.ops.append((records.OP_STRING, source, slot, size, 0, keep))
        return len(self.texts) - 1

    def once(self, source: int, which: int, build: Callable[[int], Read]) -> Read:
        """What `build` copies hangs on the address at `source` and doesn't change: a thread sends it once."""
        mark = self._room(4)
        at = len(self.ops)
        self.ops.append((records.OP_ONCE, source, mark, 0, 0, which))
        inner = build(mark)
        self.ops[at] = (records.OP_ONCE, source, mark, len(self.ops) - at - 1, 0, which)

        def read(raw: bytes, texts: list[values.Copied], constants: Constants) -> Value:
            key = (which, _u64(raw, source))
            if values.was_sent_before(raw, mark):
                return constants.get(key)
            value = inner(raw, texts, constants)
            constants.learn(key, value)
            return value

        return read

    def plan(self, flags: int, fields: list[tuple[str, Read]]) -> Plan:
        """The finished plan."""
        if len(self.ops) > records.MAX_OPS or self.fixed > records.FIXED:
            raise ValueError(f"copy plan too large: {len(self.ops)} operations, {self.fixed} bytes")
        return Plan(flags, self.fixed, self.objects, tuple(self.ops), tuple(self.texts), tuple(fields))


def _u64(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 8], "little")


def _read_text(index: int, redact: bool) -> Read:
    return lambda raw, texts, constants: values.string_value(texts[index], redact=redact)


def _read_driver(build: _Builder, connect: int, offsets: Offsets) -> Read:
    """Copies the name of the driver behind the connection whose address is at `connect`."""

    def copy(mark: int) -> Read:
        driver = build.block(connect, offsets["connect"]["driver"], 8)
        return _read_text(build.text(build.block(driver, 0, 8), keep=DRIVER_NAME, mark=mark), False)

    return build.once(connect, ONCE_DRIVER, copy)


def _read_connect(build: _Builder, source: int, offsets: Offsets) -> Read:
    return build.once(source, ONCE_CONNECT, lambda mark: _copy_connect(build, source, offsets, mark))


def _copy_connect(build: _Builder, source: int, offsets: Offsets, mark: int) -> Read:
    place, redact = offsets["connect"], build.limits.redact
    first = place["flags"]
    block = build.block(source, first, place["driver"] + 8 - first)
    driver = block + place["driver"] - first
    uri = build.block(block + place["uri"] - first, 0, 48)
    keep = min(256, build.limits.string)
    parts = {name: build.text(uri + at, keep=keep, mark=mark) for name, at in _URI.items() if name != "port"}
    name = build.text(build.block(driver, 0, 8), keep=DRIVER_NAME, mark=mark)

    def read(raw: bytes, texts: list[values.Copied], constants: Constants) -> Value:
        address = _u64(raw, source)
        if not address:
            return None
        if not _u64(raw, driver):
            return Unreadable(address)
        port = int.from_bytes(raw[uri + _URI["port"] : uri + _URI["port"] + 4], "little", signed=True)
        text = {part: values.string_value(texts[index], redact=redact) for part, index in parts.items()}
        fields: dict[str, Value] = {"uri": _join_uri(text, port) if text["scheme"] else None}
        fields["driver"] = values.string_value(texts[name])
        if raw[block] & 1:
            fields["readonly"] = True
        return Handle("connect", fields)

    return read


def _join_uri(part: Mapping[str, Value], port: int) -> str:
    """As libvirt's virURIFormat puts it together."""
    text = {name: value if isinstance(value, str) else getattr(value, "text", "") or "" for name, value in part.items()}
    server = f"[{text['server']}]" if ":" in text["server"] else text["server"]
    authority = (text["user"] + "@" if text["user"] else "") + server + (f":{port}" if port > 0 and server else "")
    return f"{text['scheme']}://{authority}{text['path']}" + (f"?{text['query']}" if text["query"] else "")


def _read_handle(build: _Builder, source: int, kind: str, offsets: Offsets) -> Read:
    """Copies what identifies the object whose address is at `source`."""
    if kind == "connect":
        return _read_connect(build, source, offsets)
    place, shown = offsets[kind], _FIELDS[kind]
    wanted = [place[field] + (16 if how == "uuid" else 8) for field, how, _ in shown]
    starts = [place[field] for field, _, _ in shown]
    parent = _PARENT.get(kind)
    owner = place[parent] if parent else place["conn"]
    first, end = min([owner, *starts]), max([owner + 8, *wanted])
    block = build.block(source, first, end - first)
    readers: list[tuple[str, Read]] = []
    for field, how, is_name in shown:
        at = block + place[field] - first
        if how == "uuid":
            readers.append((_SHOWN_AS.get(field, field), lambda raw, texts, constants, at=at: values.uuid_value(raw[at : at + 16])))  # type: ignore[misc]
        else:
            readers.append((_SHOWN_AS.get(field, field), _read_text(build.text(at, name=is_name), build.limits.redact)))
    connect = block + owner - first
    if parent:
        inner = offsets["domain" if parent == "domain" else "network"]
        above = build.block(connect, inner["conn"], inner["name"] + 8 - inner["conn"])
        label = "domain" if parent == "domain" else "network"
        readers.append((label, _read_text(build.text(above + inner["name"] - inner["conn"], name=True), build.limits.redact)))
        connect = above
    driver = _read_driver(build, connect, offsets)

    def read(raw: bytes, texts: list[values.Copied], constants: Constants) -> Value:
        address = _u64(raw, source)
        if not address:
            return None
        if not any(raw[block : block + end - first]):
            return Unreadable(address)
        fields = {name: reader(raw, texts, constants) for name, reader in readers}
        fields["driver"] = driver(raw, texts, constants)
        return Handle(kind, fields)

    return read


def _read_value(build: _Builder, what: Param | Result, source: int, table: ApiTable, offsets: Offsets, *, is_name: bool) -> Read:
    """Copies one argument or result whose 64 raw bits are at `source`."""
    limits, kind = build.limits, what.kind
    if what.secret and limits.redact:
        if kind in ("string", "xml"):
            index = build.text(source, keep=0)
            return lambda raw, texts, constants: values.secret_value(texts[index])
        return lambda raw, texts, constants: Redacted(None) if _u64(raw, source) else None
    if kind in ("string", "xml"):
        return _read_text(build.text(source, name=is_name), limits.redact)
    if kind == "handle" and what.object in offsets:
        return _read_handle(build, source, what.object, offsets)
    if kind == "double":
        return lambda raw, texts, constants: Unreadable(0)  # in an SSE register, which a uprobe can't see
    if kind in ("i32", "u32", "i64", "u64", "u8"):
        enum = table.enums.get(what.enum) if what.enum else None
        decode: Callable[[int], Value]
        if getattr(what, "flags", False) or (enum and enum.is_flags):
            decode = values.flags_decoder(enum, kind)
        elif enum:
            decode = values.enum_decoder(enum, kind)
        else:
            return lambda raw, texts, constants: values.integer(kind, _u64(raw, source))
        return lambda raw, texts, constants: decode(_u64(raw, source))
    return lambda raw, texts, constants: values.pointer_value(_u64(raw, source))


def entry_plan(function: Function, table: ApiTable, offsets: Offsets, limits: Limits, flags: int) -> Plan:
    """What to copy when the function is entered. System V: integers in six registers, then above the return address."""
    build = _Builder(records.ENTRY_FIXED, limits)
    integers = [param for param in function.params if param.kind != "double"]
    stack = build.block(records.ENTRY_SP, 8, 8 * (len(integers) - 6)) if len(integers) > 6 else 0
    places = {param.name: records.ENTRY_ARGS + 8 * i if i < 6 else stack + 8 * (i - 6) for i, param in enumerate(integers)}
    on_object = any(param.kind == "handle" and param.object != "connect" for param in function.params)
    fields = []
    for param in function.params:
        is_name = not on_object and param.kind == "string" and param.name in ("name", "usageID", "portdev")
        fields.append((param.name, _read_value(build, param, places.get(param.name, 0), table, offsets, is_name=is_name)))
    return build.plan(flags, fields)._replace(condition=_condition(function, [param.name for param in integers]))


def _condition(function: Function, arguments: list[str]) -> Condition:
    when = function.write_when
    if when is None or when.argument not in arguments[:4]:
        return Condition()
    kind, bits = (records.ANY_BIT, when.any_bits) if when.equals is None else (records.EQUALS, when.equals)
    return Condition(kind, arguments.index(when.argument), bits)


def return_plan(function: Function, table: ApiTable, offsets: Offsets, limits: Limits, flags: int) -> Plan:
    """What to copy when the function returns: its result, as the field "ret"."""
    build = _Builder(records.RETURN_FIXED, limits)
    fields: list[tuple[str, Read]] = []
    if function.result.kind != "void":
        fields.append(("ret", _read_value(build, function.result, records.RETURN_VALUE, table, offsets, is_name=False)))
    return build.plan(flags, fields)


def raw_plan(flags: int, *, registers: int) -> Plan:
    """The plan of a function of which nothing is known: its first argument registers as numbers."""
    fields: list[tuple[str, Read]] = []
    for i in range(registers):
        at = records.ENTRY_ARGS + 8 * i
        fields.append((f"arg{i}", lambda raw, texts, constants, at=at: _u64(raw, at)))  # type: ignore[misc]
    return Plan(flags, records.ENTRY_FIXED, 0, (), (), tuple(fields))


def private_plans(function: private.Private, limits: Limits, flags: int) -> tuple[Plan, Plan | None]:
    """Entry and return plans of an inner function; a reader finds its texts and registers as fields."""
    build = _Builder(records.ENTRY_FIXED, limits)
    places = {"sp": records.ENTRY_SP, **{f"arg{i}": records.ENTRY_ARGS + 8 * i for i in range(6)}}
    fields: list[tuple[str, Read]] = [(f"arg{i}", lambda raw, texts, constants, at=places[f"arg{i}"]: _u64(raw, at)) for i in range(6)]  # type: ignore[misc]
    for item in function.entry:
        if isinstance(item, private.Block):
            at = build.block(places[item.base], item.offset, item.length)
            places.update({name: at + inner for name, inner in item.pointers.items()})
            fields.append(("block", lambda raw, texts, constants, at=at, n=item.length: raw[at : at + n]))  # type: ignore[misc, return-value, arg-type]
        else:
            fields.append((item.name, _read_text(build.text(places[item.source], keep=records.INLINE_MAX), limits.redact)))
    entry = build.plan(flags | (0 if function.ret else records.PLAN_NO_RETURN), fields)
    if not function.ret:
        return entry, None
    build = _Builder(records.RETURN_FIXED, limits)
    fields = [(item.name, _read_text(build.text(records.RETURN_VALUE, keep=records.INLINE_MAX), False)) for item in function.ret]
    return entry, build.plan(flags, fields)
