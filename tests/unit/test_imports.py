# SPDX-License-Identifier: LGPL-2.1-or-later
"""The order of the house: who imports whom. `python3 -m tests.unit.test_imports` shows floors and arrows."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# nobody imports what stands behind; what is in a folder that isn't named here belongs to the one above it
ORDER = (
    "log",
    "probes/api",
    "probes/kernel",
    "probes/internals",
    "probes/host",
    "probes/plans",
    "probes/calls",
    "probes",
    "enforcer",
    "tracer",
)
KNOWS_NOTHING_OF = {"log": ("bcc", "ctypes", "tomllib", "libvirt")}  # neither a kernel nor a policy


def modules() -> Mapping[str, Path]:
    """Every module by its dotted name."""
    files = [ROOT / "tracer.py", *(file for folder in ("log", "probes", "enforcer") for file in (ROOT / folder).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}


def imported(file: Path) -> Iterator[str]:
    """What a file imports, anywhere in it: modules, and for names of a module both."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: a relative import"
            for name in node.names:
                yield f"{node.module}.{name.name}"
                yield node.module


def arrows() -> dict[str, set[str]]:
    """Modules of ours that each module imports."""
    known = modules()
    return {name: {other for other in imported(file) if other in known} for name, file in known.items()}


def place(module: str) -> int:
    """Where a module's folder stands in ORDER."""
    parts = module.split(".")
    folders = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return ORDER.index(next(folder for folder in folders if folder in ORDER))


def test_arrows_go_one_way() -> None:
    against = {(name, other) for name, others in arrows().items() for other in others if place(other) > place(name)}
    assert against == set()


def test_nothing_imports_what_imports_it() -> None:
    graph = arrows()
    # the XML parser is imported by need only, and merging makes a table, too
    graph["probes.api.load"].discard("probes.api.merge")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(("folder", "strange"), KNOWS_NOTHING_OF.items())
def test_what_shows_events_needs_no_kernel(folder: str, strange: tuple[str, ...]) -> None:
    found = {
        (name, other)
        for name, file in modules().items()
        if name.split(".")[0] == folder
        for other in imported(file)
        if other.split(".")[0] in strange
    }
    assert found == set()


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """How many modules stand below each, one on the other."""
    found: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        found[name] = 1 + max((found[other] for other in graph[name]), default=-1)
    return found


if __name__ == "__main__":
    graph = arrows()
    graph["probes.api.load"].discard("probes.api.merge")
    levels = floors(graph)
    for name in sorted(graph, key=lambda name: (levels[name], name)):
        print(levels[name], name, len(modules()[name].read_text().splitlines()), *sorted(graph[name]))
    print(f"{len(graph)} modules, {sum(map(len, graph.values()))} imports, {max(levels.values()) + 1} floors")
