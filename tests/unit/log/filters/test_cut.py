# SPDX-License-Identifier: LGPL-2.1-or-later
"""Long strings of recorded events are cut as the live view cuts them."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from log.events import Command
from log.filters.cut import cut_event
from log.values import CutList, CutText, Handle, Values, Xml
from tests.unit.log_samples import CALLER, DESTROY, END, any_text, any_value


def bytes_of(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def longest(item: Any) -> int:
    """Bytes of the longest string that is shown of it."""
    if isinstance(item, str):
        return bytes_of(item)
    if isinstance(item, CutText):
        return bytes_of(item.text)
    if isinstance(item, Xml):
        return longest(item.shown)
    if isinstance(item, CutList):
        return longest(item.items)
    fields = item.fields if isinstance(item, Handle) else item
    inner = fields.values() if isinstance(fields, dict) else fields if type(fields) is list else ()
    return max(map(longest, inner), default=0)


@given(st.dictionaries(any_text, any_value, max_size=3), any_value, st.integers(0, 20))
@example({}, "0\ud8000", 4)
@example({}, "0\ud8000", 3)
@example({}, "0\ud800\udc80", 6)
def test_no_string_is_longer_and_others_stay(args, ret, size) -> None:
    call = DESTROY._replace(args=Values(args), ret=ret)
    inside: Any = cut_event(DESTROY._replace(children=(call,)), size)
    (cut,) = inside.children
    assert max(longest(cut.args.values), longest(cut.ret)) <= size
    same: Any = cut_event(call, 1 << 30)
    assert same.args.values == args and cut_event(END, 0) is END
    again: Any = cut_event(cut, size)
    assert (again.args.values, again.ret) == (cut.args.values, cut.ret)


def test_length_and_the_whole_are_still_known() -> None:
    told: Any = cut_event(Command(1, 2, 3, "c", CALLER, "café au lait", None), 4)
    assert told.text == CutText("caf", 13, "café au lait")
