# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plan rows: shared by what is known, and given back by files whose functions nobody knows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given as having
from hypothesis import strategies as st

from probes.api.load import load_api
from probes.host.libraries.library import Target
from probes.internals.layouts import LAYOUTS, Layout
from probes.kernel import records
from probes.plans.meaning.captured import Limits
from probes.tracing import rows
from probes.tracing.filters import Filters
from probes.tracing.rows import ROW, Rows, cookie

TABLE = load_api(())


@pytest.fixture
def given() -> Rows:
    size = records.MAX_PLANS * records.PLAN_SIZE
    shared: Any = SimpleNamespace(
        entry_plans=bytearray(size),
        return_plans=bytearray(size),
        verdict_rows=bytearray(8 * records.MAX_VERDICT_ROWS),
        counts=None,
    )
    return Rows(shared, TABLE, Filters(plumbing=True), Limits(256, True), way="pair")


def target(
    names: list[str], owner: int = 65534, layout: str | None = None, is_32_bit: bool = False
) -> Target:
    functions = tuple((name, 0x1000 + 16 * number) for number, name in enumerate(names))
    found = Layout(layout, None, LAYOUTS[layout] if layout else {})
    return Target(
        "/x",
        1,
        2,
        -1,
        "libvirt.so.0",
        None,
        functions,
        {},
        {},
        owner,
        (0x1000, 0x100000),
        found,
        is_32_bit,
    )


NEWER = """<api name='libvirt'><symbols>
<enum name='VIR_FROB_HUGE' value='{huge}' type='virFrobFlags' version='{huge}'/>
<struct name='virFrobInfo' type='struct _virFrobInfo'>
 <field name='name' type='char *' info=''/><field name='opaque' type='void *' info=''/>
 <field name='conn' type='virConnectPtr' info=''/><field name='key' type='const char *' info=''/>
</struct>
<struct name='virOddInfo' type='struct _virOddInfo'>
 <field name='state' type='virOddState' info=''/><field name='name' type='char *' info=''/>
</struct>
<struct name='virHugeInfo' type='struct _virHugeInfo'>
 <field name='name' type='char name[{huge}]' info=''/></struct>
<function name='virDomainGetFrob' version='42.0.0'>
 <return type='int' info=''/><arg name='domain' type='virDomainPtr' info=''/>
  <arg name='info' type='virFrobInfoPtr **' info=''/>
</function>
<function name='virDomainGetOdd' version='42.0.0'>
 <return type='int' info=''/><arg name='domain' type='virDomainPtr' info=''/>
  <arg name='info' type='virOddInfoPtr **' info=''/>
</function>
<function name='virDomainGetHuge' version='42.0.0'>
 <return type='int' info=''/><arg name='domain' type='virDomainPtr' info=''/>
  <arg name='info' type='virHugeInfoPtr **' info=''/>
</function>
<function name='virDomainFrobAll' version='42.0.0'><return type='int' info=''/>{many}</function>
</symbols></api>"""
MANY = "".join(f"<arg name='xml{n}' type='const char *' info=''/>" for n in range(40))


def test_a_newer_description_is_decoded_as_far_as_it_is_understood(
    tmp_path: Path, given: Rows
) -> None:
    (tmp_path / "libvirt-api.xml").write_text(NEWER.format(huge="9" * 5000, many=MANY))
    table = load_api([tmp_path])
    assert not table.warnings
    names = [f.name for f in table.functions[len(TABLE.functions) :]]
    assert names == ["virDomainFrobAll", "virDomainGetFrob", "virDomainGetHuge", "virDomainGetOdd"]
    newer = Rows(given._shared, table, Filters(), Limits(256, True), way="pair")
    chosen = newer.probes(target(names, layout="gobject"))[0]
    assert newer.undecoded == ["virDomainFrobAll"]
    plans = {row.function.name: row for row in newer.rows if row.function}
    frob = plans["virDomainGetFrob"].ret
    assert len(chosen) == 4 and frob
    operations = list(records.OP.iter_unpack(frob.pack()[records.PLAN_HEAD.size :]))
    assert sum(kind & ~records.OP_IF == records.OP_STRING for kind, *_ in operations) == 2, (
        "its char *, and no other pointer"
    )
    assert not {"virOddInfo", "virHugeInfo"} & table.structs.keys(), (
        "nobody knows how large they are"
    )


def numbers(given: Rows, of: Target) -> set[int]:
    return {probe.cookie & ROW for probe in given.probes(of)[0]}


def test_made_up_functions_have_so_many_rows_and_no_more(given: Rows) -> None:
    for owner, most in ((65534, rows.MOST_OF_OTHERS), (0, rows.MOST_OF_ROOT)):
        probes, left_out = given.probes(target([f"vir{owner}x{n}" for n in range(1000)], owner))
        assert (len(probes), len(left_out)) == (most, 1000 - most)
        assert given.probes(target([f"vir{owner}y"], owner)) == ([], [f"vir{owner}y"])


def test_every_known_function_in_every_layout_has_a_row(given: Rows) -> None:
    numbers(given, target([f"vir{n}" for n in range(1000)]))
    numbers(given, target([f"vir0x{n}" for n in range(1000)], 0))
    names = [function.name for function in TABLE.functions]
    for layout in (*LAYOUTS, None):
        assert given.probes(target(names, layout=layout))[1] == []
    assert given.probes(target(names, is_32_bit=True))[1] == []
    assert len(given.rows) < records.MAX_PLANS - 100


def test_rows_come_back_when_their_files_have_gone(given: Rows) -> None:
    first, second = target(["virOne", "virBoth"]), target(["virTwo", "virBoth"])
    used = numbers(given, first) | numbers(given, second)
    assert len(used) == 3
    given.release(first)
    third = target(["virThree"])
    taken = numbers(given, third)
    function = given.rows[next(iter(taken))].function
    assert function is not None and function.name == "virThree"
    assert numbers(given, second) < used
    given.release(second)
    given.release(third)
    given.rested()
    again = numbers(given, target([f"virNew{n}" for n in range(rows.MOST_OF_OTHERS)]))
    assert len(again) == rows.MOST_OF_OTHERS
    assert max(again) < rows.MOST_OF_OTHERS


def test_a_row_that_was_given_back_rests_before_it_is_used_again(given: Rows) -> None:
    first = target(["virOne"])
    (row,) = numbers(given, first)
    given.release(first)
    assert numbers(given, target(["virTwo"])) != {row}
    assert given.rested()
    assert numbers(given, target(["virThree"])) == {row}
    assert not given.rested()


@having(
    st.integers(0, ROW),
    st.integers(0, 1 << 20),
    st.integers(1, 1 << 24),
    st.integers(0, (1 << 24) - 1),
)
def test_a_probe_knows_where_the_code_is_to_the_page(
    row: int, start: int, size: int, inside: int
) -> None:
    """What is mapped behind it is not libvirt's."""
    offset = start + inside % size
    packed = cookie(row, offset, (start, size))
    begin, length = offset - (packed >> 16 & 0xFFFFFFFF), (packed >> 48) << 12
    assert (packed & ROW, packed < 1 << 64) == (row, True)
    assert (begin, begin + length) == (start // 4096 * 4096, -(-(start + size) // 4096) * 4096)


def test_only_what_reads_is_counted(given: Rows):
    """With all that the kernel has to know of its result; each layout in the same place."""
    given._shared.counts = bytearray(1)  # type: ignore[assignment]
    names = [function.name for function in TABLE.functions if function.library == "libvirt.so.0"]
    for layout in (*LAYOUTS, None):
        given.probes(target(names, owner=0, layout=layout))
    counted = {row.function.name: row for row in given.rows if row.function and row.entry.counts}
    for row in given.rows:
        if row.function is None:
            continue
        reads = row.function.access in ("read", "plumbing") and row.ret is not None
        assert bool(row.entry.counts) <= reads, row.function.name
        if row.entry.counts:
            assert row.ret and row.ret.counts == row.entry.counts
            assert given.counted[row.entry.counts - 1] == row.function.name
    assert counted["virDomainGetInfo"].ret.fails == records.FAILS_NEGATIVE  # type: ignore[union-attr]
    assert counted["virDomainGetName"].ret.fails == records.FAILS_ZERO  # type: ignore[union-attr]
    assert len(counted) > 200 and "virConnectOpen" not in counted
