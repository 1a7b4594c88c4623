# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles policies: rules come in, the bytes of policy.bin go out; and reads what a compiled
policy says of itself.

The structs are those of enforcer.h; offsets are bytes from the start. A rule whose meaning differs
between its functions (a flag has another bit, an argument another place) becomes several rules of
the same name.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import operator
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from enforcer.policy.arrivals import INCOMING, only_where_it_stays
from enforcer.policy.rules import ALL_IF_NONE, Policy, Principal, Rule, flag_arguments
from enforcer.policy.sources import KINDS, TYPES, names_objects, sources_of
from log.errors import TraceError
from log.recent import by_identity
from probes.api.table import ApiTable, Function
from probes.api.undescribed import NO_STUB

HEAD = struct.Struct("<8sII32sQIIIIIIII")
# the CRC-32 of what is behind it, and when it was compiled
CHECK_AT, CHECKED_FROM, MADE_AT = 12, 16, 48
# 1,900 rules on whatever changes something, 10,000 on a few functions
SIZE_MAX = 1 << 20
ROWS_MAX, ORIGIN_MAX = 4096, 4096  # libvirt 12.8 has 528 functions; bytes of the path of the source
MAGIC = b"LVTPOL\0\1"
AUDIT_MODE, DENY_ON_ERROR, MEANS_UNKNOWN = 1, 2, 4
ROW = struct.Struct("<IIII")
PROGRAM = struct.Struct("<IIIIIIQ")
BUCKET = struct.Struct("<IIII")
RULE = struct.Struct("<IIIIII")
CONDITION = struct.Struct("<HHIIIQ")
NAME_BYTES = 256  # of a rule, that are looked at from outside
COUNTS = struct.Struct("<QQ")  # and a u64 for each rule
PRINCIPAL = struct.Struct("<II")
SOURCE = struct.Struct("<BBBB")
ACTIONS = {"allow": 1, "audit": 2, "deny": 3}
(
    IS_OBJECT, IS_UUID, IS_USER, IS_URI, IS_READONLY, IS_EXE,
    FLAGS_ANY, FLAGS_ALL, FLAGS_NONE, ARG_EQUALS, ARG_DIFFERS, CONTAINS, CONTAINS_XML, HAS_ELEMENT,
) = range(1, 15)  # fmt: skip
PRINCIPALS = {"uid": 0, "gid": 1, "sasl": 2, "x509": 3}
PREFIX_MAX = 32
IN_PARAMS = 0x80  # of an argument: the document is among the typed parameters there


class Condition(NamedTuple):
    """One thing that a rule asks for, as the library asks it."""

    kind: int
    argument: int = 0
    yes: tuple[object, ...] = ()
    no: tuple[object, ...] = ()
    value: int = 0


class Variant(NamedTuple):
    """A rule, for functions for which it means the same."""

    rule: Rule
    conditions: tuple[Condition, ...]


class PolicySummary(NamedTuple):
    """What a compiled policy says of itself."""

    origin: str  # the path of its source
    made: int  # s since the epoch
    mode: str  # "enforce" or "audit"
    table_hash: str
    # numbers of functions that have a rule; NO_STUB if others are meant, too
    covered: frozenset[int]
    on_error: str = "allow"  # or "deny"


def compile_policy(policy: Policy, table: ApiTable, made: float | None = None) -> bytes:
    """The file's content; TraceError when it is too large. `made`: s since the epoch (default:
    now).
    """
    variants: list[Variant] = []
    covering: list[list[int]] = [[] for _ in table.functions]
    for rule in policy.rules:
        numbers: dict[tuple[Condition, ...], int] = {}
        for functions, conditions in _asked(rule, table):
            if conditions not in numbers:
                numbers[conditions] = len(variants)
                variants.append(Variant(rule, conditions))
            for function in functions:
                covering[function.number].append(numbers[conditions])
    data = _Writer(
        policy, table, variants, covering, int(time.time() if made is None else made)
    ).write()
    if len(data) > SIZE_MAX:
        raise TraceError(
            f"{policy.origin}: compiled, it has {len(data):,} bytes; the library "
            f"takes {SIZE_MAX:,} at most"
        )
    return data


def _asked(rule: Rule, table: ApiTable) -> list[tuple[list[Function], tuple[Condition, ...]]]:
    """Functions of the rule, and what it asks of calls of these; without those that it can't
    match.
    """
    alike: dict[object, list[Function]] = {}
    for name in rule.functions:
        function = table.by_name[name]
        with_flags, without = _likeness(function)
        key: object = (
            name if rule.contains or rule.elements else with_flags if rule.flags else without
        )
        alike.setdefault(key, []).append(function)
    return [
        (functions, conditions)
        for functions in alike.values()
        for conditions in variants_for(rule, functions[0], table)
    ]


@by_identity(ROWS_MAX)
def _likeness(function: Function) -> tuple[object, object]:
    """What tells functions apart for a rule that asks for flags, and for one that doesn't;
    neither for texts or elements.
    """
    when = _is_class("write", function) if function.access == "conditional" else None
    others = names_objects(function), when, function.name if function.name in INCOMING else None
    flags = tuple((i, p.name, p.enum) for i, p in enumerate(function.params) if p.flags)
    return (flags, *others), others


def variants_for(rule: Rule, function: Function, table: ApiTable) -> list[tuple[Condition, ...]]:
    """What the rule asks of calls of that function; none: it can't match them."""
    found = [Condition(IS_USER, yes=people.yes, no=people.no) for people in rule.people]
    if rule.access and function.access == "conditional":
        found.append(_is_class(rule.access, function))
    if rule.readonly is not None:
        found.append(Condition(IS_READONLY, value=int(rule.readonly)))
    if (rule.objects or rule.uuids) and not names_objects(function):
        return []
    texts = _texts(rule, function)
    if texts is None:
        return []
    if _is_about_defining(rule, function):
        found += [
            Condition(FLAGS_ANY, place, value=constants["VIR_MIGRATE_PERSIST_DEST"])
            for place, constants in flag_arguments(function, table).items()
        ]
    for kind, globs in (
        (IS_OBJECT, rule.objects),
        (IS_UUID, rule.uuids),
        (IS_URI, rule.uris),
        (IS_EXE, rule.exes),
    ):
        if globs is not None:
            found.append(Condition(kind, yes=globs.yes, no=globs.no))
    return [(*found, *flags, *texts) for flags in _flags(rule, function, table)]


def _is_about_defining(rule: Rule, function: Function) -> bool:
    """Whether the function is an incoming migration that the rule covers only where it leaves a
    definition.
    """
    is_named = not rule.globs or any(
        fnmatch.fnmatchcase(function.name, glob) for glob in rule.globs
    )
    return not is_named and only_where_it_stays(function.name, rule.functions)


def _flags(rule: Rule, function: Function, table: ApiTable) -> list[tuple[Condition, ...]]:
    """What it asks of the flags, in one way or another; none: they can't be so."""
    if not rule.flags:
        return [()]
    arguments = flag_arguments(function, table)
    keys = []  # for each key of the rule, the ways to have what it asks for
    for key, kind in (("any", FLAGS_ANY), ("all", FLAGS_ALL), ("none", FLAGS_NONE)):
        names = rule.flags.get(key, ())
        asked = {
            place: functools.reduce(
                operator.or_, (constants[name] for name in names if name in constants), 0
            )
            for place, constants in arguments.items()
        }
        known = {name for constants in arguments.values() for name in constants}
        if key == "all" and not known.issuperset(names):
            return []
        of_each = [
            _of_argument(kind, place, bits, function.params[place].name in ALL_IF_NONE)
            for place, bits in asked.items()
            if bits
        ]
        if key == "any" and names:
            keys.append([way for ways in of_each for way in ways])
        else:
            keys += of_each
    return [tuple(itertools.chain(*ways)) for ways in itertools.product(*keys)]


def _of_argument(
    kind: int, place: int, bits: int, all_if_none: bool
) -> list[tuple[Condition, ...]]:
    """The ways in which one argument has what is asked for."""
    asked = Condition(kind, place, value=bits)
    if not all_if_none:
        return [(asked,)]
    if kind == FLAGS_NONE:
        return [(asked, Condition(ARG_DIFFERS, place, value=0))]
    return [(asked,), (Condition(ARG_EQUALS, place, value=0),)]


def _texts(rule: Rule, function: Function) -> list[Condition] | None:
    """What its texts must contain; None: the function has no such text."""
    found = []
    for name, texts in rule.contains.items():
        params = [
            (i, param)
            for i, param in enumerate(function.params)
            if param.kind in ("string", "xml") and "cookie" not in param.name
        ]
        # "xml" is the document, whatever its argument is called
        chosen = [p for p in params if p[1].name == name] or [
            p for p in params if name == "xml" and p[1].kind == "xml"
        ]
        if chosen:
            at, param = chosen[0]
            found.append(
                Condition(CONTAINS_XML if param.kind == "xml" else CONTAINS, at, yes=texts)
            )
        elif name == "xml" and (place := document_in_params(function)) is not None:
            found.append(Condition(CONTAINS_XML, place, yes=texts))
        else:
            return None
    if rule.elements:
        document = document_at(function)
        if document is None:
            return None
        found.append(
            Condition(
                HAS_ELEMENT, document, yes=tuple("\1".join(element) for element in rule.elements)
            )
        )
    return found


def document_at(function: Function) -> int | None:
    """Where its XML document is, as a condition has it; None: it takes none."""
    documents = [
        i
        for i, param in enumerate(function.params)
        if param.kind == "xml" and "cookie" not in param.name
    ]
    return documents[0] if documents else document_in_params(function)


def document_in_params(function: Function) -> int | None:
    """Where a document among typed parameters is, as a condition has it; None: the function has
    none.
    """
    return next(
        (IN_PARAMS | source.argument for source in sources_of(function) if source.kind == "params"),
        None,
    )


def is_of_class(condition: Condition, rule: Rule, function: Function) -> bool:
    """Whether the condition is what makes a call of the function one of the rule's class."""
    return (
        rule.access is not None
        and function.access == "conditional"
        and condition == _is_class(rule.access, function)
    )


def _is_class(access: str, function: Function) -> Condition:
    when = function.write_when
    assert when is not None
    argument = next(i for i, param in enumerate(function.params) if param.name == when.argument)
    if when.equals is None:
        return Condition(
            FLAGS_ANY if access == "write" else FLAGS_NONE, argument, value=when.any_bits
        )
    return Condition(ARG_EQUALS if access == "write" else ARG_DIFFERS, argument, value=when.equals)


def covered_names(rule: Rule, table: ApiTable) -> list[str]:
    """The functions that the rule can match calls of."""
    names = {function.name for functions, _ in _asked(rule, table) for function in functions}
    return [name for name in rule.functions if name in names]


def read_summary(data: bytes) -> PolicySummary | None:
    """What the compiled policy says of itself; None: it is none, or is damaged."""
    if len(data) < HEAD.size or HEAD.unpack_from(data)[2] != zlib.crc32(data[CHECKED_FROM:]):
        return None
    return summary(lambda at, length: data[at : at + length], len(data))


def summary(read: Callable[[int, int], bytes], size: int) -> PolicySummary | None:
    """The same of `size` bytes of which `read` gives some: offset, how many. Asks for the head, the
    rows and the name of the source only.

    Nothing that it finds there is relied on: whoever can write it can write anything.
    """
    head = read(0, HEAD.size)
    if len(head) != HEAD.size:
        return None
    magic, said, _, digest, made, flags, rows, _, _, rows_at, _, _, origin = HEAD.unpack(head)
    if (
        magic != MAGIC
        or said != size
        or rows > ROWS_MAX
        or rows_at + rows * ROW.size > size
        or origin >= size
    ):
        return None
    data = read(rows_at, rows * ROW.size)
    text, end, _ = read(origin, ORIGIN_MAX).partition(b"\0")
    if len(data) != rows * ROW.size or not end:
        return None
    covered = frozenset(i for i, (program, *_) in enumerate(ROW.iter_unpack(data)) if program)
    covered |= {NO_STUB} if flags & MEANS_UNKNOWN else set()
    on_error = "deny" if flags & DENY_ON_ERROR else "allow"
    mode = "audit" if flags & AUDIT_MODE else "enforce"
    return PolicySummary(
        text.decode(errors="surrogateescape"), made, mode, digest.hex(), covered, on_error
    )


def rules_in(data: bytes) -> list[tuple[str, str]]:
    """Names and actions of a compiled policy's rules, in the library's order. Anything may be
    there; what is no rule ends them.
    """
    _, _, _, _, _, _, _, rules, _, _, rules_at, _, _ = HEAD.unpack_from(data)
    words = {number: word for word, number in ACTIONS.items()}
    found = []
    for at in range(
        rules_at, min(rules_at + rules * RULE.size, len(data) - RULE.size + 1), RULE.size
    ):
        name, _, _, _, action, _ = RULE.unpack_from(data, at)
        text, end, _ = data[name : name + NAME_BYTES].partition(b"\0")
        if action not in words or not end:
            break
        found.append((text.decode(errors="surrogateescape"), words[action]))
    return found


def without_time(data: bytes) -> bytes:
    """What two compilations of one policy have in common: all but when they were made, and the
    sum over that.
    """
    return data[:CHECK_AT] + data[CHECKED_FROM:MADE_AT] + data[MADE_AT + 8 :]


def fnv1a(data: Iterable[int]) -> int:
    """The 32-bit hash of a name's beginning."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def literal_prefix(glob: str) -> bytes:
    """What every name that the glob matches begins with."""
    return glob[: next((i for i, letter in enumerate(glob) if letter in "*?["), len(glob))].encode(
        "utf-8", "surrogateescape"
    )


def _means_unknown(rule: Rule) -> bool:
    """Whether it is about whatever changes something, also what a later libvirt will bring."""
    return rule.action != "allow" and rule.access == "write" and not rule.globs


class _Writer:
    """Puts the parts one behind the other."""

    def __init__(
        self,
        policy: Policy,
        table: ApiTable,
        variants: Sequence[Variant],
        covering: Sequence[Sequence[int]],
        made: int,
    ) -> None:
        self.policy, self.table, self.variants, self.covering, self.made = (
            policy,
            table,
            variants,
            covering,
            made,
        )
        self.data = bytearray(HEAD.size)
        self.texts = bytearray(b"\0")
        self.text_at: dict[bytes, int] = {b"": 0}
        self.programs: dict[tuple[int, ...], int] = {}
        # values of conditions, by whether they are UUIDs
        self.items: dict[tuple[bool, tuple[object, ...]], int] = {}
        # where offsets of strings are, as yet from the start of the strings
        self.fixups: list[int] = []

    def write(self) -> bytes:
        """The content."""
        rules, conditions = bytearray(), bytearray()
        rules_at = self.add(bytes(RULE.size * len(self.variants)))
        count = sum(len(variant.conditions) for variant in self.variants)
        conditions_at = self.add(bytes(CONDITION.size * count))
        rows_at = self.add(bytes(ROW.size * len(self.table.functions)))
        for number, variant in enumerate(self.variants):
            at = rules_at + RULE.size * number
            self.fixups += [at, at + 4]
            rules += RULE.pack(
                self.text(variant.rule.name),
                self.text(variant.rule.message),
                len(conditions) // CONDITION.size,
                len(variant.conditions),
                ACTIONS[variant.rule.action],
                0,
            )
            for condition in variant.conditions:
                conditions += self.condition(condition)
        rows = bytearray()
        for function in self.table.functions:
            by_uuid = any(
                self.variants[number].rule.uuids for number in self.covering[function.number]
            )
            sources = sources_of(function, by_uuid=by_uuid)
            packed = b"".join(
                SOURCE.pack(KINDS.index(s.kind), s.argument, TYPES.index(s.type), s.second)
                for s in sources
            )
            program = self.program(tuple(sorted(self.covering[function.number])))
            rows += ROW.pack(program, self.add(packed), len(sources), 0)
        for at, part in ((rules_at, rules), (conditions_at, conditions), (rows_at, rows)):
            self.data[at : at + len(part)] = part
        origin = self.text(self.policy.origin)
        texts_at = self.add(bytes(self.texts) + b"\0")
        for at in self.fixups:
            struct.pack_into(
                "<I", self.data, at, struct.unpack_from("<I", self.data, at)[0] + texts_at
            )
        size = len(self.data)
        flags = (AUDIT_MODE if self.policy.mode == "audit" else 0) | (
            DENY_ON_ERROR if self.policy.on_error == "deny" else 0
        )
        flags |= MEANS_UNKNOWN if any(map(_means_unknown, self.policy.rules)) else 0
        fields = (
            bytes.fromhex(self.table.hash),
            self.made,
            flags,
            len(self.table.functions),
            len(self.variants),
            count,
        )
        HEAD.pack_into(
            self.data,
            0,
            MAGIC,
            size,
            0,
            *fields,
            rows_at,
            rules_at,
            conditions_at,
            texts_at + origin,
        )
        struct.pack_into("<I", self.data, CHECK_AT, zlib.crc32(self.data[CHECKED_FROM:]))
        return bytes(self.data)

    def add(self, part: bytes, multiple: int = 8) -> int:
        """Where the part begins."""
        self.data += bytes(-len(self.data) % multiple)
        at = len(self.data)
        self.data += part
        return at

    def text(self, text: object) -> int:
        """Where among the strings it is."""
        data = str(text).encode("utf-8", "surrogateescape")
        if data not in self.text_at:
            self.text_at[data] = len(self.texts)
            self.texts += data + b"\0"
        return self.text_at[data]

    def condition(self, condition: Condition) -> bytes:
        """A struct condition."""
        values = (*condition.yes, *condition.no)
        key = condition.kind == IS_UUID, values
        if values and key not in self.items:
            self.items[key] = self.add_items(condition.kind, values)
        items = self.items[key] if values else 0
        return CONDITION.pack(
            condition.kind,
            condition.argument,
            items,
            len(condition.yes),
            len(condition.no),
            condition.value,
        )

    def add_items(self, kind: int, values: tuple[object, ...]) -> int:
        """Where the values of a condition are."""
        if kind == IS_UUID:
            return self.add(b"".join(uuid.UUID(str(value)).bytes for value in values))
        if kind == IS_USER:
            packed, named = b"", []
            for i, person in enumerate(values):
                assert isinstance(person, Principal)
                which, value = person
                if isinstance(value, str):
                    named.append(8 * i + 4)
                    value = self.text(value)
                packed += PRINCIPAL.pack(PRINCIPALS[which], value)
            items = self.add(packed)
            self.fixups += [items + at for at in named]
            return items
        items = self.add(b"".join(struct.pack("<I", self.text(value)) for value in values), 4)
        self.fixups += [items + 4 * i for i in range(len(values))]
        return items

    def numbers(self, numbers: Sequence[int]) -> int:
        """Where that list of rules is."""
        return self.add(struct.pack(f"<{len(numbers)}I", *numbers), 4)

    def program(self, numbers: tuple[int, ...]) -> int:
        """Where the program for these rules is; 0: there are none."""
        if not numbers:
            return 0
        if numbers in self.programs:
            return self.programs[numbers]
        general: list[int] = []
        by_prefix: dict[bytes, list[int]] = {}
        for number in numbers:
            prefixes = self.prefixes(self.variants[number])
            if not prefixes:
                general.append(number)
            for prefix in prefixes:
                by_prefix.setdefault(prefix, []).append(number)
        bits = max(1, (len(by_prefix) * 5 // 4).bit_length())
        table: list[bytes] = [bytes(BUCKET.size)] * (1 << bits)
        lengths = 0
        for prefix, chosen in by_prefix.items():
            lengths |= 1 << (len(prefix) - 1)
            value = fnv1a(prefix)
            slot = value & (1 << bits) - 1
            while table[slot] != bytes(BUCKET.size):
                slot = slot + 1 & (1 << bits) - 1
            table[slot] = BUCKET.pack(value, self.numbers(chosen), len(chosen), 1)
        everything, rest, buckets = (
            self.numbers(numbers),
            self.numbers(general),
            self.add(b"".join(table)),
        )
        packed = PROGRAM.pack(everything, len(numbers), rest, len(general), buckets, bits, lengths)
        self.programs[numbers] = self.add(packed)
        return self.programs[numbers]

    @staticmethod
    def prefixes(variant: Variant) -> set[bytes]:
        """What the names that the rule matches begin with; none: there is no telling."""
        for condition in variant.conditions:
            if (
                condition.kind == IS_OBJECT
                and condition.yes
                and not any("/" in str(glob) for glob in condition.yes)
            ):
                found = {literal_prefix(str(glob))[:PREFIX_MAX] for glob in condition.yes}
                return found if all(found) else set()
        return set()
