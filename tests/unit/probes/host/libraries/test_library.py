# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file that says it is one of libvirt's libraries has as many functions, and as long names, as
there is room for.
"""

from __future__ import annotations

import os

import pytest

from log.errors import TraceError
from probes.host.libraries import library
from probes.internals.elf import Elf, Symbol


def read(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> library.Target:
    """A library with these functions."""
    functions = tuple(
        Symbol(name, "LIBVIRT_1.0.0", 16 * number, 16 * number, 16)
        for number, name in enumerate(names)
    )
    elf = Elf(64, "x86-64", "libvirt.so.0", (0, 0), (), (), functions, frozenset())
    monkeypatch.setattr(library, "read_elf", lambda fd, path: elf)
    return library.read_library(-1, os.stat("/"), "/x/libvirt.so.0", finds_returns=False)


@pytest.mark.parametrize(
    ("number", "length", "is_one"),
    [(1024, 64, True), (1025, 64, False), (1024, 65, False), (1, 1 << 17, False)],
)
def test_functions_and_their_names_have_limits(
    monkeypatch: pytest.MonkeyPatch, number: int, length: int, *, is_one: bool
) -> None:
    names = [f"{one:0{length}}" for one in range(number)]
    if is_one:
        assert len(read(monkeypatch, names).functions) == number
    else:
        with pytest.raises(TraceError, match="too many functions"):
            read(monkeypatch, names)
