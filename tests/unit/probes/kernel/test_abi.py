# SPDX-License-Identifier: LGPL-2.1-or-later
"""What differs between machines: the order of memory, and that no other file knows it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from probes.kernel import abi
from probes.kernel.machines.x86_64 import X86_64

PROBES = Path(abi.__file__).parents[1]
# names of registers and machines; bytes of instructions
KNOWS = re.compile(r"%?\b(?:r[abcd]x|e[abcd]x|r[ds]i|r[bsi]p|endbr64|x86_64|x86-64|i386|aarch64)\b")
SAID_BY_FILES = {"internals/elf.py"}  # reads which machine a file is for


def test_fence_of_a_machine_that_needs_it_comes_back(monkeypatch):
    for is_ordered in (False, True):
        monkeypatch.setattr(abi, "HERE", abi.HERE._replace(is_ordered=is_ordered))
        for _ in range(1000):
            abi.fence()


def test_calls_are_told_by_their_last_bytes():
    near, by_register, none = b"\0\0\xe8\1\2\3\4", b"\0" * 5 + b"\xff\xd0", b"\x90" * 7
    codes = near, by_register, none
    assert [X86_64.ends_with_call(code) for code in codes] == [True, True, False]
    assert len(none) == X86_64.call_bytes


def test_no_other_file_knows_a_machine():
    found = set()
    for file in PROBES.rglob("*.py"):
        tree = ast.parse(file.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found |= {
            str(file.relative_to(PROBES))
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in docs and KNOWS.search(node.value)
        }
    assert found - SAID_BY_FILES == {
        "kernel/abi.py",
        "kernel/machines/aarch64.py",
        "kernel/machines/steps.py",
        "kernel/machines/x86_64.py",
    }
    source = PROBES / "kernel/trace"
    headers = [*source.glob("*.bpf.[ch]"), *(source / "kernel").rglob("*.h")]
    fields = re.compile(r"\bctx->(?!arg\b)\w+|__x86_64__|\borig_ax\b")
    assert {path.name for path in headers if fields.search(path.read_text())} == {
        f"abi-{machine.name}.bpf.h" for machine in abi.MACHINES.values()
    }
