# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page's line of an event: as the log shows it, but no longer than the page can bear."""

from __future__ import annotations

from hypothesis import given

from log.report.lines import LONGEST, LONGEST_PIECE, line_of, safe, short
from log.values import Values
from tests.unit.log_samples import DESTROY, HOSTILE, any_values


def words(event: object) -> str:
    return "".join(piece for _, piece in line_of(event))  # type: ignore[arg-type]


def test_line_is_that_of_the_log_without_its_time() -> None:
    assert words(DESTROY).startswith(" 41207 virsh root virDomainDestroyFlags(domain=web1, ")


def test_long_lines_are_cut_and_say_so() -> None:
    many = DESTROY._replace(args=Values({f"a{n}": "x" * 200 for n in range(99)}))
    line = line_of(many)
    assert line[-1] == ("notice", "...") and len(words(many)) < LONGEST + LONGEST_PIECE + 10
    assert short("x" * 300) == "x" * 256 + "..." and short("x") == "x"


@given(any_values)
def test_any_values_fit(values: Values) -> None:
    line = line_of(DESTROY._replace(args=values))
    assert all(len(piece) <= LONGEST_PIECE + 3 and piece.isprintable() for _, piece in line)


def test_names_of_others_are_escaped() -> None:
    assert safe(HOSTILE).isprintable()
