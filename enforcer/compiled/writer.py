# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles policies: rules come in, the bytes of policy.bin go out, in the shape of layout.py.

A rule that asks different things of different functions becomes several rules of the same name.
"""

from __future__ import annotations

import struct
import time
import uuid
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from enforcer.compiled.conditions import Condition, asked
from enforcer.compiled.layout import (
    ACTIONS,
    AUDIT_MODE,
    BUCKET,
    CHECK_AT,
    CHECKED_FROM,
    CONDITION,
    DENY_ON_ERROR,
    HEAD,
    IS_OBJECT,
    IS_USER,
    IS_UUID,
    MAGIC,
    MEANS_UNKNOWN,
    PREFIX_MAX,
    PRINCIPAL,
    PRINCIPALS,
    PROGRAM,
    ROW,
    RULE,
    SIZE_MAX,
    SOURCE,
    Head,
)
from enforcer.policy.rules import Policy, Principal, Rule
from enforcer.policy.sources import KINDS, TYPES, sources_of
from log.errors import TraceError
from probes.api.table import ApiTable


class Variant(NamedTuple):
    """A rule, for functions for which it means the same."""

    rule: Rule
    conditions: tuple[Condition, ...]


def compile_policy(policy: Policy, table: ApiTable, made: float | None = None) -> bytes:
    """The file's content; TraceError when it is too large. `made`: s since the epoch (default:
    now).
    """
    variants: list[Variant] = []
    covering: list[list[int]] = [[] for _ in table.functions]
    for rule in policy.rules:
        numbers: dict[tuple[Condition, ...], int] = {}
        for functions, conditions in asked(rule, table):
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


def _flags(policy: Policy) -> int:
    return (
        (AUDIT_MODE if policy.mode == "audit" else 0)
        | (DENY_ON_ERROR if policy.on_error == "deny" else 0)
        | (MEANS_UNKNOWN if any(map(_means_unknown, policy.rules)) else 0)
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
        count = sum(len(variant.conditions) for variant in self.variants)
        # what is in these is known when all that they point to has its place
        rules_at = self.add(bytes(RULE.size * len(self.variants)))
        conditions_at = self.add(bytes(CONDITION.size * count))
        rows_at = self.add(bytes(ROW.size * len(self.table.functions)))
        rules, conditions = self.rules(rules_at)
        rows = self.rows()
        for at, part in ((rules_at, rules), (conditions_at, conditions), (rows_at, rows)):
            self.data[at : at + len(part)] = part
        origin = self.text(self.policy.origin)
        texts_at = self.add(bytes(self.texts) + b"\0")
        for at in self.fixups:
            struct.pack_into(
                "<I", self.data, at, struct.unpack_from("<I", self.data, at)[0] + texts_at
            )
        head = Head(
            magic=MAGIC,
            size=len(self.data),
            check=0,
            table_hash=bytes.fromhex(self.table.hash),
            made=self.made,
            flags=_flags(self.policy),
            rows=len(self.table.functions),
            rules=len(self.variants),
            conditions=count,
            rows_at=rows_at,
            rules_at=rules_at,
            conditions_at=conditions_at,
            origin=texts_at + origin,
        )
        HEAD.pack_into(self.data, 0, *head)
        struct.pack_into("<I", self.data, CHECK_AT, zlib.crc32(self.data[CHECKED_FROM:]))
        return bytes(self.data)

    def rules(self, rules_at: int) -> tuple[bytes, bytes]:
        """The rules, which will be there, and their conditions."""
        rules, conditions = bytearray(), bytearray()
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
        return bytes(rules), bytes(conditions)

    def rows(self) -> bytes:
        """A row for each function: which rules are asked, and where it has objects' names."""
        rows = bytearray()
        for function in self.table.functions:
            covering = self.covering[function.number]
            by_uuid = any(self.variants[number].rule.uuids for number in covering)
            sources = sources_of(function, by_uuid=by_uuid)
            packed = b"".join(
                SOURCE.pack(KINDS.index(s.kind), s.argument, TYPES.index(s.type), s.second)
                for s in sources
            )
            program = self.program(tuple(sorted(covering)))
            rows += ROW.pack(program, self.add(packed), len(sources), 0)
        return bytes(rows)

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
