# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an argument or a result was: the decoder builds these, and every sink renders them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class CutText(NamedTuple):
    """A string of which only the beginning was kept."""

    text: str
    length: int | None  # bytes in the caller's memory without the NUL; None: longer than 1 MiB
    whole: str | None = None  # of a name: as much as was captured, to compare it; not to be shown


class Unreadable(NamedTuple):
    """A pointer whose memory could not be read."""

    address: int


class Pointer(NamedTuple):
    """A pointer that is shown as such: callbacks, opaque data, kinds that are not decoded."""

    address: int


class Code(NamedTuple):
    """A function of the program."""

    address: int
    name: str  # "function", "function+0x12" or "file+0x1234"


class Handle(NamedTuple):
    """A libvirt object. `fields` holds what identifies it, in display order: name, uuid, key,
    uri, driver, ...
    """

    type: str  # "domain", "network", "volume", "connect", ...
    fields: Mapping[str, Value]
    # where it is in its process, and its connection; as long as it is there, what tells it from
    # others. Not logged; None: not known
    address: int | None = None
    owner: int | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self[:2] == other[:2]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.type)

    @property
    def label(self) -> Value:
        """What a person calls the object: the connection's URI, else its name, else its UUID."""
        for key in ("uri", "name", "uuid", "driver"):
            if self.fields.get(key) is not None:
                return self.fields[key]
        return None


class CutList(NamedTuple):
    """A list, or named values, of which only the beginning was kept."""

    items: list[Any] | dict[str, Any]
    total: int | None  # of all there are; None: not known


class Xml(NamedTuple):
    """An XML document: what is logged of it, and as much as was captured, which a summary is
    made from.
    """

    shown: str | CutText
    captured: str
    # as much as is known of the one before, where a summary tells what has changed
    before: str | None = None


class EnumValue(NamedTuple):
    """A number of an enum; `name` is None where libvirt has no constant for it."""

    value: int
    name: str | None


class Flags(NamedTuple):
    """A bitwise-or; `names` in ascending bit order, then the unknown rest as one hexadecimal
    number.
    """

    value: int
    names: tuple[str, ...]


class Redacted(NamedTuple):
    """A secret: only its length in bytes (None: unknown) is told."""

    length: int | None


# lists and mappings nest: arrays, typed parameters, structs
Value = (
    None
    | bool
    | int
    | float
    | str
    | CutText
    | Xml
    | Unreadable
    | Pointer
    | Code
    | Handle
    | EnumValue
    | Flags
    | Redacted
    | CutList
    | list[Any]
    | dict[str, Any]
)


class Values:
    """Named values in the order of the C prototype, shared by all calls whose bytes were the same.

    `rendered` belongs to the sinks: a sink keeps its rendering there under a key of its own, so
    equal arguments are rendered once.
    """

    __slots__ = ("_known", "rendered")

    def __init__(self, values: dict[str, Value] | Callable[[], dict[str, Value]]) -> None:
        """`values`: what gives them, where they may never be asked for."""
        self._known = values
        self.rendered: dict[str, Any] = {}

    @property
    def values(self) -> dict[str, Value]:
        """All of them."""
        known = self._known
        if callable(known):
            known = self._known = known()
        return known

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Values) and self.values == other.values

    def __repr__(self) -> str:
        return f"Values({self.values!r})"


NO_VALUES = Values({})
