# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans that were kept are those that would be made: as the kernel has them, and as calls are
decoded by them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.api.load import load_api
from probes.internals.layouts import LAYOUTS, Layout
from probes.kernel import records
from probes.kernel.loading import kept
from probes.plans import functions as plans
from probes.plans.meaning.captured import Limits
from probes.plans.plan import Constants
from probes.plans.prepared import Later, Prepared

TABLE, LIMITS = load_api(()), Limits(256, True)
# those of few bits, and all
FLAGS = (0, records.PLAN_WANTED, (1 << 14) - 1 - records.PLAN_KEEP_ARGS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kept"
    real_read, real_write = kept.read, kept.write
    monkeypatch.setattr(kept, "read", lambda key: real_read(key, folder))
    monkeypatch.setattr(kept, "write", lambda key, made: real_write(key, made, folder))
    return folder


def layouts() -> list[Layout]:
    return [Layout(name, None, LAYOUTS[name] if name else {}) for name in (*LAYOUTS, None)]


def test_what_is_kept_is_what_would_be_made(folder: Path):
    first = Prepared(TABLE, LIMITS)
    for layout in layouts():
        for function in TABLE.functions:
            first.of(function, layout, FLAGS[1])
    first.keep()
    assert len(list(folder.iterdir())) == 1
    second = Prepared(TABLE, LIMITS)
    for layout in layouts():
        for function in TABLE.functions:
            for flags in FLAGS:
                arguments = function, TABLE, layout.offsets, LIMITS, flags
                made = plans.entry_plan(*arguments), plans.return_plan(*arguments)
                found = second.of(function, layout, flags)
                assert all(isinstance(plan, Later) for plan in found)
                assert [plan.pack() for plan in found] == [plan.pack() for plan in made]


def test_calls_are_decoded_by_them(folder: Path):
    layout = layouts()[0]
    function = TABLE.by_name["virDomainSetMemory"]
    arguments = function, TABLE, layout.offsets, LIMITS, 0
    made = plans.entry_plan(*arguments), plans.return_plan(*arguments)
    for _ in range(2):
        one = Prepared(TABLE, LIMITS)
        for plan, known in zip(one.of(function, layout, 0), made, strict=True):
            raw = bytes(range(records.HEAD.size)) + bytes(known.fixed - records.HEAD.size)
            assert plan.key(raw) == known.key(raw) and plan.flags == known.flags
            assert plan.decode(raw, {}, Constants()) == known.decode(raw, {}, Constants())
            assert plan.is_told_by_key(raw) == known.is_told_by_key(raw)
            assert plan._replace(counts=3).pack() == known._replace(counts=3).pack()
        one.keep()


def test_other_limits_have_other_plans(folder: Path):
    layout, function = layouts()[0], TABLE.by_name["virDomainDefineXML"]
    for limits in (LIMITS, LIMITS._replace(string=65536)):
        one = Prepared(TABLE, limits)
        found = [plan.pack() for plan in one.of(function, layout, 0)]
        arguments = function, TABLE, layout.offsets, limits, 0
        assert found == [plans.entry_plan(*arguments).pack(), plans.return_plan(*arguments).pack()]
        one.keep()
    assert len(list(folder.iterdir())) == 2
