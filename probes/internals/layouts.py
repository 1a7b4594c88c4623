# SPDX-License-Identifier: LGPL-2.1-or-later
"""Chooses the layout of libvirt's objects: a library comes in, the offsets of fields in its objects
come out.

The layouts are private to libvirt, so nothing is believed because of a version number: public
accessors must read their fields where the layout says. Every object begins with a base: 24 bytes
since it became a GObject (about 6.4), 16 bytes before. What a library imports does not tell:
GObject served for other things (virIdentity) before that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from probes.internals import gobject
from probes.internals.elf import Elf, Symbol
from probes.internals.gobject import EVIDENCE
from probes.kernel import abi

_GOBJECT = {kind: one.fields for kind, one in gobject.OBJECTS.items()}
_BASE16 = {
    kind: {field: offset - 8 for field, offset in fields.items()}
    for kind, fields in _GOBJECT.items()
}
LAYOUTS: dict[str, Mapping[str, Mapping[str, int]]] = {"gobject": _GOBJECT, "base16": _BASE16}

_MOST_CODE = 4096  # bytes of one function; the longest accessor has 400


class Layout(NamedTuple):
    """Where fields are: offsets["domain"]["name"], in bytes. Without a name nothing is known,
    and `reason` says why.
    """

    name: str | None  # "gobject" or "base16"
    reason: str | None
    offsets: Mapping[str, Mapping[str, int]]


def choose_layout(elf: Elf, fd: int) -> Layout:
    """The layout of the objects that the library behind the descriptor works on."""
    if elf.bits != 64:
        return Layout(None, "it is a 32-bit library, whose arguments and objects can't be read", {})
    if elf.machine != abi.HERE.name:
        return Layout(
            None, f"it is for {elf.machine}, whose arguments and objects can't be read", {}
        )
    seen = {
        f.name: abi.HERE.displacements(code_of(fd, f)) for f in elf.functions if f.name in EVIDENCE
    }
    if not seen:
        return Layout(
            None, "it has none of the functions that show where objects keep their names", {}
        )
    against = {name: _disagreeing(seen, offsets) for name, offsets in LAYOUTS.items()}
    matching = [name for name, functions in against.items() if not functions]
    if len(matching) == 1:
        return Layout(matching[0], None, LAYOUTS[matching[0]])
    if matching:
        return Layout(
            None, "its code doesn't tell which object layout it has, so objects have no names", {}
        )
    closest = min(against.values(), key=len)
    return Layout(
        None,
        f"its objects have an unknown layout (going by {closest[0]}), so they have no names",
        {},
    )


def _disagreeing(
    seen: Mapping[str, frozenset[int]], offsets: Mapping[str, Mapping[str, int]]
) -> list[str]:
    wrong = []
    for function, found in seen.items():
        for place in EVIDENCE[function]:
            kind, field = place.split(".")
            if offsets[kind][field] not in found:
                wrong.append(function)
                break
    return wrong


def code_of(fd: int, function: Symbol) -> bytes:
    """The function's machine code, or the beginning of it; nothing where it can't be read."""
    try:
        return os.pread(fd, min(function.size, _MOST_CODE), function.offset)
    except OSError:
        return b""  # agrees with no layout
