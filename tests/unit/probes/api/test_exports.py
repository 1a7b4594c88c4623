# SPDX-License-Identifier: LGPL-2.1-or-later
"""The API table against the installed libvirt: what `nm` says the libraries export and what the
C compiler says of the headers.
"""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from probes.api import load
from probes.api import table as api
from tests import needs

HEADERS = Path("/usr/include/libvirt")
# the nodes of the public symbols; LIBVIRT_PRIVATE_..., LIBVIRT_ADMIN_... and other libraries' are
# left out
PUBLIC = re.compile(
    r" T "
    r"(vir\w+)@@?(?:LIBVIRT|LIBVIRT_QEMU|LIBVIRT_LXC)_\d+\.\d+\.\d+$",
    re.MULTILINE,
)
SIZES = {
    "i32": (4, True),
    "u32": (4, False),
    "i64": (8, True),
    "u64": (8, False),
    "double": (8, True),
}


@pytest.fixture(scope="module")
def table() -> api.ApiTable:
    return load.load_api()


def _exports(library: str) -> set[str]:
    folders = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
    path = next((path for folder in folders if (path := Path(folder, library)).exists()), None)
    if path is None or not shutil.which("nm"):
        needs.lack("unit", f"no {library}, or no nm")
    run = subprocess.run(
        ["nm", "-D", "--with-symbol-versions", path], check=True, capture_output=True, text=True
    )
    return set(PUBLIC.findall(run.stdout))


def _declared() -> str:
    if not HEADERS.is_dir() or not shutil.which("gcc"):
        needs.lack("unit", "no libvirt headers, or no gcc")
    return "".join(path.read_text() for path in sorted(HEADERS.glob("*.h")))


def _compile(tmp_path: Path, checks: list[str]) -> None:
    """Fails with the compiler's words if one of the static assertions does not hold."""
    lines = [
        "#include <stddef.h>",
        "#include <libvirt/libvirt.h>",
        "#include <libvirt/virterror.h>",
    ]
    lines += ["#include <libvirt/libvirt-qemu.h>", "#include <libvirt/libvirt-lxc.h>"]
    source = tmp_path / "checks.c"
    source.write_text(
        "\n".join(lines + [(f'_Static_assert({check}, "");') for check in checks]) + "\n"
    )
    run = subprocess.run(
        ["gcc", "-fsyntax-only", "-Wno-deprecated-declarations", source],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[:4000]


@pytest.mark.parametrize("library", api.LIBRARIES)
def test_table_and_exports_agree(table, library):
    exported = _exports(library)
    described = {
        function.name: function for function in table.functions if function.library == library
    }
    assert exported - described.keys() == set()
    # the table knows later releases than the installed one; none of what it had must be missing
    if library == "libvirt.so.0":
        installed = max(
            tuple(int(part) for part in described[name].since.split(".")) for name in exported
        )
        described = {
            name: f
            for name, f in described.items()
            if tuple(int(part) for part in f.since.split(".")) <= installed
        }
    assert described.keys() - exported == set()


def test_prototypes_are_those_of_the_headers(table, tmp_path):
    declared = set(re.findall(r"\bvir\w+(?=\s*\()", _declared()))
    functions = [function for function in table.functions if function.name in declared]
    assert len(functions) >= 526
    checks = []
    for function in functions:
        arguments = ", ".join(param.ctype for param in function.params) or "void"
        checks.append(
            f"__builtin_types_compatible_p(__typeof__(&{function.name}), "
            f"{function.result.ctype} (*)({arguments}))"
        )
    _compile(tmp_path, checks)


def test_kinds_have_the_size_and_sign_of_their_c_types(table, tmp_path):
    _declared()
    kinds = {
        (what.ctype, what.kind)
        for function in table.functions
        for what in (*function.params, function.result)
    }
    scalars = [(ctype, *SIZES[kind]) for ctype, kind in kinds if kind in SIZES]
    assert len(scalars) >= 7
    checks = [
        f"sizeof({ctype}) == {size} && (({ctype})-1 < 0) == {signed:d}"
        for ctype, size, signed in scalars
    ]
    checks += [
        f"sizeof({ctype}) == sizeof(void *)"
        for ctype, kind in kinds
        if kind in ("handle", "pointer", "string", "xml")
    ]
    _compile(tmp_path, checks)


def test_constants_have_the_values_of_the_headers(table, tmp_path):
    declared = set(re.findall(r"\bVIR_\w+", _declared()))
    checks = [
        f"{name} == {value}"
        for enum in table.enums.values()
        for name, value in enum.constants.items()
        if name in declared
    ]
    assert len(checks) >= 900
    _compile(tmp_path, checks)


def test_structs_have_the_fields_of_the_headers(table, tmp_path):
    declared = set(re.findall(r"\bvir\w+", _declared()))
    checks = []
    for struct, fields in table.structs.items():
        if struct not in declared:
            continue
        for field, ctype in fields:
            member = f"__typeof__((({struct} *)0)->{field})"
            ctype = re.sub(r"(.+)\[(\d+)\]", r"__typeof__(\1[\2])", ctype)
            if ctype == "union":
                checks.append(f"sizeof({member}) == 8")
            elif (struct, field) == ("virError", "level"):  # declared as an enum
                checks.append(f"sizeof({member}) == sizeof({ctype})")
            else:
                checks.append(f"__builtin_types_compatible_p({member}, {ctype})")
        offsets = [f"offsetof({struct}, {field})" for field, _ in fields]
        checks += [f"{first} < {second}" for first, second in itertools.pairwise(offsets)]
    assert len(checks) >= 200
    _compile(tmp_path, checks)
