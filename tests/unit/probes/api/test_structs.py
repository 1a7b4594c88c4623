# SPDX-License-Identifier: LGPL-2.1-or-later
"""The layouts of libvirt's public structs: a C compiler says where their fields are."""

from __future__ import annotations

import subprocess

import pytest

from probes.api.load import load_api
from probes.api.structs import layout

TABLE = load_api([])
NAMES = sorted(TABLE.structs)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("structs")
    places = [(name, field.name) for name in NAMES for field in layout(TABLE, name).fields]
    prints = [f'printf("%zu\\n", sizeof({name}));' for name in NAMES]
    prints += [
        (f'printf("%zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));')
        for name, field in places
    ]
    source = (
        "#include <libvirt/libvirt.h>\n#include <libvirt/virterror.h>\n#include "
        "<stddef.h>\n#include <stdio.h>\n"
    )
    (folder / "structs.c").write_text(
        f"{source}int main(void) {{ {' '.join(prints)} return 0; }}\n"
    )
    subprocess.run(["gcc", "-w", "-o", folder / "structs", folder / "structs.c"], check=True)
    lines = subprocess.check_output([folder / "structs"], text=True).splitlines()
    sizes = dict(zip(NAMES, map(int, lines), strict=False))
    fields = {
        place: tuple(map(int, line.split()))
        for place, line in zip(places, lines[len(NAMES) :], strict=True)
    }
    return sizes, fields


@pytest.mark.parametrize("name", NAMES)
def test_fields_are_where_the_compiler_puts_them(compiled, name):
    sizes, fields = compiled
    struct = layout(TABLE, name)
    assert {field.name: (field.offset, field.size) for field in struct.fields} == {
        field: place for (owner, field), place in fields.items() if owner == name
    }
    assert struct.size == sizes[name]
