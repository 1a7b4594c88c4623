# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles functions into copy plans: a signature and an object layout come in; plans for entry
and return go out.
"""

from __future__ import annotations

from collections.abc import Callable

from log.values import Redacted, Unreadable, Value
from probes.api.passing import IN_OUT, OUT
from probes.api.table import ApiTable, Function, Param, Result
from probes.internals import private
from probes.kernel import abi, records
from probes.plans.builder import Builder, key_of, read_text
from probes.plans.handles import read_handle
from probes.plans.meaning import documents, texts, values
from probes.plans.meaning.captured import Limits, Offsets, u64
from probes.plans.plan import Plan, Read, WriteCondition
from probes.plans.pointers import Arguments, Pointers, needs_arguments

VERDICT_TEXT = 512  # bytes of a text that a verdict has


def _read_value(
    build: Builder,
    what: Param | Result,
    source: int,
    table: ApiTable,
    offsets: Offsets,
    text: str,
    *,
    is_name: bool = False,
) -> Read:
    """Copies one argument or result whose 64 raw bits are at `source`; `text`: what it is if it
    is a string, one of texts.KINDS.
    """
    limits, kind = build.limits, what.kind
    if what.secret and limits.redact:
        if kind in ("string", "xml"):
            index = build.text(source, keep=0)
            return lambda raw, copied, constants: values.secret_value(copied[index])
        build.shows(source, 8)
        return lambda raw, texts, constants: Redacted(None) if u64(raw, source) else None
    if kind in ("string", "xml"):
        return _text(build, source, texts.XML if kind == "xml" else text, is_name=is_name)
    if kind == "handle" and what.object and what.object in offsets:
        return read_handle(build, source, what.object, offsets)
    if kind == "double":
        # in an SSE register, which a uprobe can't see
        return lambda raw, texts, constants: Unreadable(0)
    build.shows(source, values.SIZES.get(kind, 8))
    if kind == "callback":
        return lambda raw, texts, constants: constants.symbol(u64(raw, source))
    if kind in values.SIZES:
        enum = table.enums.get(what.enum) if what.enum else None
        decode: Callable[[int], Value]
        if getattr(what, "flags", False) or (enum and enum.is_flags):
            decode = values.flags_decoder(enum, kind)
        elif enum:
            decode = values.enum_decoder(enum, kind)
        else:
            return lambda raw, texts, constants: values.integer(kind, u64(raw, source))
        return lambda raw, texts, constants: decode(u64(raw, source))
    return lambda raw, texts, constants: values.pointer_value(u64(raw, source))


def _text(build: Builder, source: int, what: str, *, is_name: bool) -> Read:
    """A string; of a document more is copied than is shown, as what it describes is to be told."""
    limits = build.limits
    keep = (
        max(limits.string, documents.CAPTURED)
        if what in (texts.XML, texts.MIXED)
        else documents.kept(what, limits)
    )
    index = build.text(source, keep=keep, name=is_name)
    return lambda raw, copied, constants: documents.text_value(copied[index], what, limits)


def entry_plan(
    function: Function, table: ApiTable, offsets: Offsets, limits: Limits, flags: int
) -> Plan:
    """What to copy when the function is entered."""
    build = Builder(records.ENTRY_FIXED, limits)
    if needs_arguments(function):
        flags |= records.PLAN_KEEP_ARGS
    integers = [param for param in function.params if param.kind != "double"]
    places = _places(build, integers, records.ENTRY_ARGS, records.ENTRY_SP)
    on_object = any(
        param.kind == "handle" and param.object != "connect" for param in function.params
    )
    pointers = Pointers(build, Arguments(function, places, at_return=False), table, offsets)
    fields = []
    for param in function.params:
        if param.kind == "pointer" and (read := pointers.read(param)):
            fields.append((param.name, read))
            continue
        is_name = (
            not on_object
            and param.kind == "string"
            and param.name in ("name", "usageID", "portdev")
        )
        text = _what_text(function, param.name, param.kind)
        fields.append(
            (
                param.name,
                _read_value(
                    build, param, places.get(param.name, 0), table, offsets, text, is_name=is_name
                ),
            )
        )
    return build.plan(flags, fields)._replace(
        condition=_condition(function, [param.name for param in integers])
    )


def _what_text(function: Function, argument: str, kind: str) -> str:
    """What it is if it is a string: few are, and to ask takes time at each start."""
    return texts.of_argument(function.name, argument) if kind in ("string", "xml") else texts.HIDDEN


def _places(build: Builder, integers: list[Param], args: int, sp: int) -> dict[str, int]:
    """Where the record has each of these parameters: as registers from `args` on, the others
    copied from the stack that `sp` has the address of.
    """
    behind = len(integers) - abi.HERE.registers
    stack = build.block(sp, abi.HERE.stack_at, 8 * behind) if behind > 0 else 0
    return {
        param.name: args + 8 * i if i < abi.HERE.registers else stack + 8 * (i - abi.HERE.registers)
        for i, param in enumerate(integers)
    }


def _condition(function: Function, arguments: list[str]) -> WriteCondition:
    when = function.write_when
    if when is None or when.argument not in arguments[:4]:
        return WriteCondition()
    kind, bits = (
        (records.ANY_BIT, when.any_bits) if when.equals is None else (records.EQUALS, when.equals)
    )
    return WriteCondition(kind, arguments.index(when.argument), bits)


def return_plan(
    function: Function, table: ApiTable, offsets: Offsets, limits: Limits, flags: int
) -> Plan:
    """What to copy when the function returns: its result, as the field "ret"."""
    keeps = needs_arguments(function)
    build = Builder(records.RETURN_FIXED_ARGS if keeps else records.RETURN_FIXED, limits)
    fields: list[tuple[str, Read]] = []
    if function.result.kind != "void":
        text = _what_text(function, "", function.result.kind)
        fields.append(
            ("ret", _read_value(build, function.result, records.RETURN_VALUE, table, offsets, text))
        )
    if keeps:
        fields += _outputs(build, function, table, offsets)
        flags |= records.PLAN_KEEP_ARGS
    return build.plan(flags, fields)


def _outputs(
    build: Builder, function: Function, table: ApiTable, offsets: Offsets
) -> list[tuple[str, Read]]:
    integers = [param for param in function.params if param.kind != "double"]
    places = _places(build, integers, records.RETURN_ARGS, records.RETURN_SP)
    pointers = Pointers(build, Arguments(function, places, at_return=True), table, offsets)
    found: list[tuple[str, Read]] = []
    for param in function.params:
        if param.ctype == "size_t *" and function.result.kind == "pointer":
            found.append(("ret", pointers.result(param)))
        if (
            param.kind == "pointer"
            and param.direction in (OUT, IN_OUT)
            and (read := pointers.read(param))
        ):
            found.append((param.name, _if_wanted(read, places[param.name])))
            build.follows(places[param.name])
            build.omits = True
    return found


def _if_wanted(read: Read, source: int) -> Read:
    """An output that the caller gave room for; where it did not, the arguments say so."""
    return lambda raw, texts, constants: (
        read(raw, texts, constants) if u64(raw, source) else values.LEFT_OUT_VALUE
    )


def _read_number(at: int, size: int) -> Read:
    return lambda raw, texts, constants: int.from_bytes(raw[at : at + size], "little")


def _read_register(at: int) -> Read:
    return lambda raw, texts, constants: u64(raw, at)


def raw_plan(flags: int, *, registers: int) -> Plan:
    """The plan of a function of which nothing is known: its first argument registers as numbers."""
    fields: list[tuple[str, Read]] = []
    for i in range(registers):
        at = records.ENTRY_ARGS + 8 * i
        fields.append((f"arg{i}", _read_register(at)))
    shown = slice(records.ENTRY_ARGS, records.ENTRY_ARGS + 8 * registers)
    return Plan(
        flags, records.ENTRY_FIXED, 0, (), (), tuple(fields), key_of(records.ENTRY_FIXED, [shown])
    )


def raw_return_plan(result: Result, flags: int) -> Plan:
    """The plan of a result behind which nothing can be read: a number, or an address;
    `result.kind` "raw": the register.
    """
    build = Builder(records.RETURN_FIXED, Limits(0, True))
    at = build.shows(records.RETURN_VALUE, 8)
    narrow, kind = flags & records.PLAN_32BIT, result.kind
    # of these a 32-bit result has another half elsewhere
    if kind == "void" or (narrow and kind in ("i64", "u64")):
        return build.plan(flags, [])
    mask = (1 << 32) - 1 if narrow else (1 << 64) - 1
    if kind == "raw":
        return build.plan(flags, [("ret", _read_register(at))])
    if kind in values.SIZES:
        return build.plan(
            flags, [("ret", lambda raw, texts, constants: values.integer(kind, u64(raw, at)))]
        )
    return build.plan(
        flags, [("ret", lambda raw, texts, constants: values.pointer_value(u64(raw, at) & mask))]
    )


def private_plans(
    function: private.Private, limits: Limits, flags: int
) -> tuple[Plan, Plan | None]:
    """Entry and return plans of an inner function; a reader finds its texts and registers as
    fields.
    """
    build = Builder(records.ENTRY_FIXED, limits)
    places = {"sp": records.ENTRY_SP, **{f"arg{i}": records.ENTRY_ARGS + 8 * i for i in range(6)}}
    fields: list[tuple[str, Read]] = [
        (f"arg{i}", _read_register(places[f"arg{i}"])) for i in range(6)
    ]
    for item in function.entry:
        if isinstance(item, private.Block):
            at = build.shows(build.block(places[item.base], item.offset, item.length), item.length)
            places.update({name: at + inner for name, inner in item.pointers})
            fields.append((item.name, _read_number(at, item.length)))
        else:
            # as it is: who makes an event of it knows what it is
            fields.append(
                (
                    item.name,
                    read_text(
                        build.text(places[item.source], keep=records.INLINE_MAX, only=item.only),
                        False,
                    ),
                )
            )
    flags |= function.flags
    if function.ret is None:
        return build.plan(flags | records.PLAN_NO_RETURN, fields), None
    entry = build.plan(flags, fields)
    build = Builder(records.RETURN_FIXED, limits)
    fields = [
        (item.name, read_text(build.text(records.RETURN_VALUE, keep=records.INLINE_MAX), False))
        for item in function.ret
    ]
    return entry, build.plan(flags, fields)


def verdict_plan(limits: Limits) -> Plan:
    """Copies the enforcer's struct verdict, whose address is the function's argument, and its
    texts.
    """
    build = Builder(records.ENTRY_FIXED, limits)
    at = build.block(records.ENTRY_ARGS, 0, records.VERDICT.size)
    assert at == records.VERDICT_AT
    texts = [
        (name, build.text(at + offset, keep=VERDICT_TEXT))
        for name, offset in (("rule", 72), ("message", 80), ("note", 88))
    ]
    return build.plan(
        records.PLAN_NO_RETURN, [(name, read_text(index, False)) for name, index in texts]
    )
