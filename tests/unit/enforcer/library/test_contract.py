# SPDX-License-Identifier: LGPL-2.1-or-later
"""The library means by a policy's bytes and a verdict's what Python does: a C compiler says so."""

import subprocess
from pathlib import Path

import pytest

from enforcer.library import contract, generate
from enforcer.policy.sources import TYPES
from probes.api.load import stub_table
from probes.internals import gobject

HEADER = Path(generate.__file__).with_name("enforcer.h")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    generate.main([str(folder)])
    return folder


def compiles(generated, folder, old="", new=""):
    """Whether the library's header fits, after one replacement in it."""
    text = HEADER.read_text()
    assert old in text
    (folder / "enforcer.h").write_text(text.replace(old, new))
    (folder / "a.c").write_text('#include "enforcer.h"\n')
    include = [f"-I{each}" for each in (folder, generated, HEADER.parent)]
    command = ["gcc", "-fsyntax-only", *include, folder / "a.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "as Python has it" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("uint32_t rules;", "uint64_t rules;"),
        ("uint32_t yes, no;", "uint32_t no, yes;"),
        ("uint32_t kind, value;", "uint32_t value, kind;"),
        ("BY_HANDLE = 1, BY_NAME, BY_XML,", "BY_HANDLE = 1, BY_XML, BY_NAME,"),
        ("CONNECT, DOMAIN, NETWORK,", "CONNECT, NETWORK, DOMAIN,"),
        ("SAYS_ALLOW = 1", "SAYS_ALLOW = 2"),
        ("#define HEAD_ON_ERROR_DENY 2", "#define HEAD_ON_ERROR_DENY 8"),
        ("uint64_t sp;", "uint32_t sp;"),
        ("FLAGS_ANY, FLAGS_ALL,", "FLAGS_ALL, FLAGS_ANY,"),
    ],
)
def test_what_differs_does_not_compile(generated, tmp_path, old, new):
    assert compiles(generated, tmp_path)
    assert not compiles(generated, tmp_path, old, new)


def test_each_kind_of_object_has_a_layout():
    lines = contract.definitions(stub_table())
    assert set(TYPES) == set(gobject.OBJECTS)
    assert [line.partition("]")[0] for line in lines if line.startswith("\t[")] == [
        f"\t[{contract.NAMES.get(kind, kind.upper())}" for kind in TYPES
    ]


def test_the_library_releases_what_it_has_looked_up():
    table = stub_table()
    for line in contract.definitions(table):
        for number in (word for word in line.split() if word.startswith("NUMBER_")):
            assert number.rstrip(",").removeprefix("NUMBER_") in table.by_name
        assert ".lookup" not in line or (".release" in line and ".uuid" in line)
