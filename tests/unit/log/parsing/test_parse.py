# SPDX-License-Identifier: LGPL-2.1-or-later
"""A line read back is the event that it was made of, whatever that holds; any other line is
said to be foreign, and nothing else.
"""

import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from log import client, events, values
from log.client import Client
from log.events import Call
from log.login import LoginStep
from log.parsing.fields import ForeignLine
from log.parsing.parse import parse
from log.render import jsonl, text, xml
from log.values import (
    Code,
    CutList,
    CutText,
    EnumValue,
    Flags,
    Handle,
    Pointer,
    Redacted,
    Unreadable,
    Values,
    Xml,
)
from tests.unit.log_samples import DESTROY, EXAMPLES

# what a host can put into an event: characters, and bytes that are not UTF-8
words = st.text(st.characters(blacklist_categories=("Cs",)))
raw = st.binary(max_size=12).map(lambda data: data.decode("utf-8", "surrogateescape"))
texts = words | raw
numbers = st.integers(-(2**63), 2**64 - 1)
sizes = st.none() | st.integers(0, 2**20)
addresses = st.integers(0, 2**64 - 1)
keys = words | st.sampled_from(
    ["type", "name", "value", "names", "text", "length", "cut", "a/b", "~", ""]
)
cut_texts = st.builds(lambda text, size: CutText(text, size), texts, sizes)
plain_xml = words.map(lambda text: Xml(text, text))
cut_xml = st.builds(lambda text, size: Xml(CutText(text, size), text), words, sizes)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.floats(),
    texts,
    cut_texts,
    plain_xml,
    cut_xml,
    st.builds(Unreadable, addresses),
    st.builds(Pointer, addresses),
    st.builds(Code, addresses, texts),
    st.builds(EnumValue, numbers, st.none() | words),
    st.builds(Flags, numbers, st.lists(words, max_size=3).map(tuple)),
    st.builds(Redacted, sizes),
)


def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(keys, inner, max_size=3)
    handles = st.builds(
        Handle, texts, st.dictionaries(keys.filter(lambda key: key != "type"), inner, max_size=3)
    )
    lists = st.lists(inner, max_size=3)
    return st.one_of(
        fields, handles.filter(is_no_shape), lists, st.builds(CutList, lists | fields, sizes)
    )


def is_no_shape(handle: Handle) -> bool:
    return "type" not in handle.fields


any_value = st.recursive(scalars, grow, max_leaves=6)
moments = st.integers(0, 2**63 - 1)
named = st.dictionaries(keys, any_value, max_size=4)
OWN = ("kind", "id")  # of a cause
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "time": moments,
    "until": moments,
    "cause": st.sampled_from([*events.CAUSES, None]),
    "known": named.map(lambda fields: {key: fields[key] for key in fields if key not in OWN}),
    "alike": st.none(),
    "children": st.just(()),  # lines of their own
    "more_children": st.just(0),
    "returns": st.sampled_from(["pointer", "integer", "void"]),
    "is_daemon": st.just(False),
    "peer": st.none(),
    "claims": st.none(),
}


def of_type(kind: Any, name: str) -> st.SearchStrategy[Any]:
    """Any value of an event's field, by its annotation: a field that is new is tested, too."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind == values.Value:
        return any_value
    if kind is Handle:
        return st.builds(Handle, texts, named.filter(lambda fields: "type" not in fields))
    if origin in (typing.Union, types.UnionType):
        return st.one_of([of_type(one, name) for one in inner])
    if origin is tuple:
        return st.lists(of_type(inner[0], name), max_size=3).map(tuple)
    if origin in (dict, Mapping) or kind is dict:
        return named if origin is not dict else st.dictionaries(words, words | numbers, max_size=2)
    if kind is Client:
        alone = any_event(kind)
        # of the whole client it is said that it is unproved, not of what it says itself
        within = st.none() | alone.map(lambda one: one._replace(unproved=False))
        both = {"peer": within, "claims": within}
        return st.just(client.OWN) | st.builds(
            lambda one, more: one._replace(**more), alone, st.fixed_dictionaries(both)
        )
    if hasattr(kind, "_fields"):
        return any_event(kind)
    return {
        int: numbers,
        str: words,
        bool: st.booleans(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        type(None): st.none(),
        Values: st.builds(Values, named),
    }[kind]


def any_event(kind: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, {**vars(events), "LoginStep": LoginStep})
    fields = {
        name: SPECIAL[name] if name in SPECIAL else of_type(hint, name)
        for name, hint in hints.items()
    }
    for name in ("comm", "exe", "path", "user"):
        if name in fields:
            fields[name] |= raw
    if kind is LoginStep:
        fields["peer"] = st.none() | words | raw
    built = st.builds(kind, **fields)
    if kind is events.DomainEvent:  # nothing is known of a cause that is not
        return built.map(lambda event: event if event.cause else event._replace(known={}))
    return built


def comparable(item: Any) -> Any:
    """NaN is not equal to itself, 1 is equal to true, and tuples of any kind to each other."""
    if isinstance(item, Values):
        return comparable(item.values)
    if isinstance(item, Handle):
        item = item[:2]  # where it is in its process is not logged
    if isinstance(item, tuple):
        return (type(item).__name__, *map(comparable, item))
    if isinstance(item, list):
        return ["list", *map(comparable, item)]
    if isinstance(item, dict):
        return {key: comparable(inner) for key, inner in item.items()}
    return (type(item).__name__, "nan" if isinstance(item, float) and math.isnan(item) else item)


def as_made(event: Any) -> Any:
    """A call that did not return has no result."""
    return (
        event._replace(ret=None) if type(event) is Call and event.unfinished is not None else event
    )


KINDS = typing.get_args(events.Event)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_line_read_back_is_the_event(kind):
    @settings(max_examples=EXAMPLES or 60)
    @given(any_event(kind))
    def holds(event: Any) -> None:
        event = as_made(event)
        line = jsonl.line(event)
        assert line.endswith("}\n") and "\n" not in line[:-1]
        assert comparable(parse(line)) == comparable(event)
        again = parse(line)
        assert again is not None and jsonl.line(again) == line

    holds()


@given(st.binary(max_size=200))
def test_any_bytes_are_foreign(data):
    with pytest.raises(ForeignLine):
        parse(data)


json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)
SAMPLE = json.loads(jsonl.line(DESTROY))


@given(
    st.dictionaries(
        st.sampled_from([*SAMPLE, "types", "reason", "returns", "message"]), json_values, max_size=3
    )
)
def test_line_of_wrong_values_is_foreign_or_can_be_shown(changed):
    try:
        event = parse(json.dumps({**SAMPLE, **changed, "type": "call"}))
    except ForeignLine:
        return
    assert event is not None
    text.line(event)
    xml.line(event)
    jsonl.line(event)


@pytest.mark.parametrize(
    "line",
    [
        "[" * 99999,
        '{"type":' * 20_000,
        "1" * 5000,
        '{"type":"end"}',
        '{"type":7}',
        "null",
        '{"type":["x"]}',
    ],
)
def test_lines_that_are_too_much_for_a_parser_are_foreign(line):
    with pytest.raises(ForeignLine):
        parse(line)


def test_unknown_types_and_fields_are_left_out():
    assert parse('{"type":"weather","what":"frozen"}') is None
    assert parse(json.dumps({**SAMPLE, "new": {"x": 1}})) == DESTROY
