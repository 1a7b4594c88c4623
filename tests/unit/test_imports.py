# SPDX-License-Identifier: LGPL-2.1-or-later
"""The order of the house: who imports whom, and what is called how. `python3 -m
tests.unit.test_imports` shows floors and arrows.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# nobody imports what stands behind; what is in a folder that isn't named here belongs to the one
# above it
ORDER = (
    "log",
    "log/filters",
    "log/redact",
    "log/parsing",
    "log/render",
    "log/sinks/files",
    "log/sinks/screen",
    "log/sinks",
    "log/exports",
    "log/recording",
    "log/recording/checking",
    "log/query",
    "log/report",
    "log/verbs",
    "probes/api",
    "probes/kernel",
    "probes/kernel/rings",
    "probes/kernel/loading",
    "probes/internals",
    "probes/host/looking",
    "probes/host/processes",
    "probes/host/libraries",
    "probes/host/daemons",
    "probes/host",
    "probes/plans/meaning",
    "probes/plans",
    "probes/calls/parts",
    "probes/calls/serving",
    "probes/calls",
    "probes/hanging",
    "probes/tracing",
    "probes/verbs",
    "enforcer/policy",
    "enforcer/policy/reading",
    "enforcer/compiled",
    "enforcer/judging",
    "enforcer/launch",
    "enforcer/rehearsal",
    "enforcer/learning",
    "enforcer",
    "tracer",
)
# what other folders need not know
ONLY_IN = {
    "bcc": "probes/kernel",
    "ctypes": "probes",
    "tomllib": "enforcer/policy",
    "rich": "log/sinks/screen",
    "zstandard": "log/recording",
    "jinja2": "log/report",
    "prometheus_client": "log/exports",
}


def modules() -> Mapping[str, Path]:
    """Every module by its dotted name."""
    files = [
        ROOT / "tracer.py",
        *(
            file
            for folder in ("log", "probes", "enforcer")
            for file in (ROOT / folder).rglob("*.py")
        ),
    ]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}


@functools.cache
def imported(file: Path) -> frozenset[str]:
    """What a file imports, anywhere in it: modules, and for names of a module both."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file}: a relative import"
            found.update((node.module, *(f"{node.module}.{name.name}" for name in node.names)))
    return frozenset(found)


def arrows() -> dict[str, set[str]]:
    """Modules of ours that each module imports."""
    known = modules()
    return {
        name: {other for other in imported(file) if other in known} for name, file in known.items()
    }


def place(module: str) -> int:
    """Where a module's folder stands in ORDER."""
    parts = module.split(".")
    folders = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return ORDER.index(next(folder for folder in folders if folder in ORDER))


def test_arrows_go_one_way() -> None:
    against = {
        (name, other)
        for name, others in arrows().items()
        for other in others
        if place(other) > place(name)
    }
    assert against == set()


def test_nothing_imports_what_imports_it() -> None:
    graph = arrows()
    # the XML parser is imported by need only, and merging makes a table, too
    graph["probes.api.load"].discard("probes.api.merge")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_what_is_special_is_in_one_place() -> None:
    found = {
        (name, top)
        for name, file in modules().items()
        for top in {other.split(".")[0] for other in imported(file)}
        if top in ONLY_IN
    }
    strange = {
        (name, top)
        for name, top in found
        if not f"{name}.".startswith(ONLY_IN[top].replace("/", ".") + ".")
    }
    assert strange == set()
    assert {top for _, top in found} == set(ONLY_IN)  # all of them are there


def test_libvirt_is_traced_and_not_used() -> None:
    assert not any(
        other.split(".")[0] == "libvirt" for file in modules().values() for other in imported(file)
    )


def test_a_class_name_stands_for_one_thing() -> None:
    named: dict[str, list[str]] = {}
    for module, file in modules().items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                named.setdefault(node.name, []).append(module)
    assert {name: places for name, places in named.items() if len(places) > 1} == {}


# what is remembered of arguments that stand in the code or name files of the project
FEW = {"log.report.page._file", "probes.plans.meaning.texts._pattern"}


def test_what_modules_remember_has_a_limit() -> None:
    """Else it is once only, or an object's own."""
    without = set()
    for module, file in modules().items():
        for node in ast.walk(ast.parse(file.read_text())):
            assert not isinstance(node, ast.Global), module
            if isinstance(node, ast.FunctionDef):
                for how in map(ast.unparse, node.decorator_list):
                    takes = node.args.args or node.args.vararg or node.args.kwonlyargs
                    if how.endswith("cache") and takes:
                        without.add(f"{module}.{node.name}")
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("lru_cache"):
                (size,) = (word.value for word in node.keywords)
                assert not (isinstance(size, ast.Constant) and size.value is None), module
    assert without == FEW


# what no unit test imports, and the tests that show what it does
SHOWN_ELSEWHERE = {
    "enforcer.completions.__main__": "unit/test_install.py",
    "enforcer.completions.words": "unit/enforcer/test_completions.py",
    "enforcer.guard": "kernel/test_ps.py",
    "enforcer.judging.documents": "preload/test_random_policies.py",
    "enforcer.policy.reading.asked": "unit/enforcer/policy/test_policy.py",
    "enforcer.policy.reading.covered": "unit/enforcer/policy/test_policy.py",
    "enforcer.policy.reading.entries": "unit/enforcer/policy/test_policy.py",
    "enforcer.policy.never": "unit/enforcer/policy/test_policy.py",
    "enforcer.policy.reading.people": "unit/enforcer/policy/test_policy.py",
    "enforcer.policy.reading.tests": "unit/enforcer/judging/test_cases.py",
    "enforcer.on_records": "unit/enforcer/learning/test_learn.py",
    "enforcer.learning.polkit": "unit/enforcer/learning/test_polkit.py",
    "enforcer.rehearsal.recorded": "unit/enforcer/learning/test_learn.py",
    "enforcer.learning.review": "unit/enforcer/learning/test_review.py",
    "enforcer.rehearsal.shown": "unit/enforcer/rehearsal/test_rehearse.py",
    "enforcer.rehearsal.things": "unit/enforcer/rehearsal/test_rehearse.py",
    "enforcer.rehearsal.span": "unit/enforcer/learning/test_learn.py",
    "log.parsing.calls": "unit/log/parsing/test_parse.py",
    "log.parsing.values": "unit/log/parsing/test_parse.py",
    "log.parsing.who": "unit/log/parsing/test_parse.py",
    "log.redact.tools": "unit/log/redact/test_tools.py",
    "log.render.pieces.calls": "unit/log/render/pieces/test_calls.py",
    "log.render.pieces.changes": "unit/log/render/pieces/test_changes.py",
    "log.render.pieces.own": "unit/log/render/pieces/test_own.py",
    "log.render.pieces.who": "unit/log/render/pieces/test_who.py",
    "log.render.siem.tree": "unit/log/render/siem/test_ecs.py",
    "log.exports.exporters": "unit/log/sinks/test_exporter.py",
    "log.report.differences": "unit/log/report/test_report.py",
    "log.report.in_json": "unit/log/report/test_report.py",
    "log.report.tables": "unit/log/report/test_report.py",
    "log.sinks.files.file": "unit/log/sinks/files/test_output.py",
    "probes.api.description": "unit/probes/api/test_table.py",
    "probes.verbs.top": "kernel/test_top.py",
    "probes.verbs.looking_on": "kernel/test_ps.py",
    "probes.verbs.ps": "kernel/test_ps.py",
    "probes.verbs.stuck": "system/test_stuck.py",
    "probes.tracing.covering": "unit/enforcer/test_coverage.py",
    "probes.host.daemons.ask_admin": "system/test_clients.py",
    "probes.host.daemons.before": "system/test_stuck.py",
    "probes.host.command": "kernel/test_command_line.py",
    "probes.host.keyboard": "kernel/test_keyboard.py",
    "probes.host.processes.numbers": "kernel/test_pid_namespaces.py",
    "probes.kernel.libc": "kernel/test_lifecycle.py",
    "probes.verbs.live": "kernel/test_command_line.py",
    "probes.verbs.open": "system/test_open.py",
    "probes.plans.strings": "unit/probes/plans/test_walks.py",
    "probes.plans.walk": "unit/probes/plans/test_walks.py",
    "probes.verbs.processes": "kernel/test_ps.py",
    "probes.verbs.recorded": "kernel/test_record.py",
    "probes.verbs.signals": "kernel/test_command_line.py",
}


def test_every_module_has_a_unit_test_or_one_that_is_named() -> None:
    tests = [imported(file) for file in (ROOT / "tests/unit").rglob("*.py")]
    code = {name for name, file in modules().items() if file.name != "__init__.py"}
    assert code - frozenset().union(*tests) == set(SHOWN_ELSEWHERE)
    for name, test in SHOWN_ELSEWHERE.items():
        assert (ROOT / "tests" / test).is_file(), name


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
        print(
            levels[name], name, len(modules()[name].read_text().splitlines()), *sorted(graph[name])
        )
    print(
        f"{len(graph)} modules, {sum(map(len, graph.values()))} imports, "
        f"{max(levels.values()) + 1} floors"
    )
