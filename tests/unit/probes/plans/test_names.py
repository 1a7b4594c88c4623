# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names are compared as far as they were captured, however little of a string is shown."""

from __future__ import annotations

import pytest

from log.events import Call
from log.render import jsonl, text
from log.values import CutText, Handle, Unreadable, Value, Values
from probes.calls.serving.domains import with_true_name
from probes.kernel import records
from probes.plans.builder import NAME, Builder
from probes.plans.meaning.captured import Copied, Limits
from probes.plans.meaning.values import string_value
from probes.tracing.filters import Filters
from tests.unit.log_samples import DESTROY, UUID

LONG = "x" * 300


def shown(name: str, keep: int, captured: int = NAME) -> Value:
    data = name.encode()
    return string_value(Copied(16, data[: max(captured, keep)], len(data)), shown=keep)


def on(name: Value) -> Call:
    return DESTROY._replace(args=Values({"domain": Handle("domain", {"name": name, "uuid": UUID})}))


@pytest.mark.parametrize("keep", [0, 1, 3, 255, 256, 4096])
def test_a_name_is_captured_whole_and_cut_where_it_is_shown(keep: int):
    build = Builder(records.ENTRY_FIXED, Limits(keep, True))
    build.text(records.ENTRY_ARGS, name=True)
    assert build.texts[0].size == min(max(keep, NAME), records.INLINE_MAX)
    name = shown("web1", keep)
    assert name == ("web1" if keep >= 4 else CutText("web1"[:keep], 4, "web1"))
    assert '"whole"' not in jsonl.line(on(name)) and "whole" not in text.line(
        on(name), text.View.FOLD
    )


@pytest.mark.parametrize("keep", [0, 3, 4096])
@pytest.mark.parametrize(
    ("glob", "kept"), [("web1", True), ("web*", True), ("*1", True), ("web", False), ("db*", False)]
)
def test_a_filter_looks_at_the_whole_name(keep: int, glob: str, kept: bool):
    assert Filters(objects=(glob,)).keeps(on(shown("web1", keep))) is kept


@pytest.mark.parametrize("keep", [0, 3, 4, 256])
@pytest.mark.parametrize(
    ("claimed", "true", "differ"),
    [
        ("web1", "web1", False),
        ("web1", "web12", True),
        ("web12", "web1", True),
        ("", "web1", True),
        ("web1", "db1", True),
        (LONG, LONG, False),
        (LONG, LONG + "y", False),  # as far as is known
        (LONG, "x" * 255 + "y" + "x" * 44, True),
    ],
    ids=lambda value: str(value)[:6],
)
def test_who_is_honest_is_not_called_a_liar(keep: int, claimed: str, true: str, differ: bool):
    call = with_true_name(
        on(shown(claimed, keep)), UUID, shown(true, records.INLINE_MAX, records.INLINE_MAX)
    )
    assert call.args
    handle = call.args.values["domain"]
    assert isinstance(handle, Handle)
    assert ("claimed" in handle.fields) is differ
    if differ:
        assert handle.fields["name"] == true
        line = text.line(call, text.View.FOLD)
        assert "CutText" not in line
        assert f'/* not "{claimed[:keep]}"' in line or len(claimed) > 256


def test_a_name_that_could_not_be_read_is_none():
    assert with_true_name(on("web1"), UUID, Unreadable(16)) == on("web1")
    call = with_true_name(on(Unreadable(16)), UUID, "web1")
    assert "claimed" in call.args.values["domain"].fields  # type: ignore[union-attr]
    assert "Unreadable" not in text.line(call, text.View.FOLD)
