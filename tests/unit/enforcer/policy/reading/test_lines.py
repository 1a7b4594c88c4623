# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mistakes are said with the line that they are in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enforcer.policy.reading.lines import Lines

TEXT = """mode = "enforce"

[[rule]]
name = "a"
function = [
  "virDomainDestroy",
  "virDomainReset",
]

[[ test ]]
call = "virDomainReset"

[[rule]]
flags.any = ["X"]
"""


def test_line_of_a_rule_a_key_and_a_value() -> None:
    lines = Lines(TEXT)
    assert lines.find(-1, "mode", "enforce") == 1
    assert lines.find(0, None, None) == 3
    assert lines.find(0, "function", "virDomainReset") == 7
    assert lines.find(0, "call", None) == 3, "it is another table's"
    assert lines.find(0, "call", None, "test") == 11
    assert lines.find(1, "flags", None) == 14
    assert lines.find(7, "name", None) == 1


@given(st.text(alphabet="[]rule = \"'\n.x", max_size=80), st.integers(-2, 5), st.text(max_size=3))
def test_there_is_a_line_whatever_the_text_is(text: str, number: int, key: str) -> None:
    assert 1 <= Lines(text).find(number, key, "x") <= max(1, len(text.splitlines()))
