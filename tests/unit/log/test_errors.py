# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there was not enough of is said with what to do."""

from __future__ import annotations

import pytest

from log.errors import in_words, short_of


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "there is not enough memory; raise the limit (ulimit -v)"),
        (
            RuntimeError("can't start new thread"),
            "can't start a thread; raise the limits (ulimit -u, -v)",
        ),
    ],
)
def test_what_there_is_not_enough_of_is_no_internal_error(error: Exception, line: str) -> None:
    assert in_words(error) == short_of(error) == line


def test_another_error_says_where_and_not_what() -> None:
    error = RuntimeError("a secret")
    assert short_of(error) is None
    assert in_words(error) == "internal error: RuntimeError"
