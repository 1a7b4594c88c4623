# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was done for a call is shown below it, up to a limit that is said."""

from __future__ import annotations

import pytest

from log.events import Call, Command, call_id
from log.query.linking import Linking
from log.query.query import Query
from tests.unit.log_samples import CALLER, DESTROY, START


def test_no_more_is_shown_below_a_call_than_fits_and_how_much_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("log.query.linking.MOST_CHILDREN", 3)
    linking = Linking(Query())
    parent = call_id(DESTROY.tid, START)
    for number in range(10):
        linking.of(Command(START + number, 5, 9, "rpc", CALLER, "{}", parent))
    call = linking.of(DESTROY)[-1]
    assert isinstance(call, Call)
    assert (len(call.children), call.more_children) == (3, 7)
