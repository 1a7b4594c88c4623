# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which names, functions and outcomes are meant by the user's words."""

from __future__ import annotations

import pytest

from log.filters.about import ended_so, is_about, is_one_of, names_of, uuids_of, wants_function
from log.values import CutText, Values
from tests.unit.log_samples import DESTROY, END, UUID


@pytest.mark.parametrize(
    ("globs", "wanted"),
    [
        ((), True),
        (("virDomain*",), True),
        (("virNetwork*",), False),
        (("!virDomainDestroy",), False),
        (("!virNetwork*",), True),
        (("virDomain*", "!*Destroy"), False),
    ],
)
def test_function_is_wanted_if_named_or_not_left_out(globs: tuple[str, ...], wanted: bool) -> None:
    assert wants_function("virDomainDestroy", globs) is wanted


def test_name_of_a_thread_is_meant_by_its_first_fifteen_characters() -> None:
    assert is_one_of("rpc-libvirtd-wo", ("rpc-libvirtd-worker-7",))
    assert is_one_of("rpc-libvirtd", ("rpc-*",)) and not is_one_of("rpc-libvirtd", ("virsh",))


def test_names_that_are_lost_may_be_any() -> None:
    assert names_of(DESTROY._replace(args=None)) is None and is_about(None, ("web9",))
    assert list(names_of(DESTROY) or ()) == ["web1"] and list(uuids_of(DESTROY) or ()) == [UUID]
    assert not is_about((), ("web1",)) and is_about((), ())
    named = DESTROY._replace(args=Values({"name": CutText("web", 4, "web1")}))
    assert is_about(names_of(named), ("web1",)) and names_of(END) == ()


def test_denied_calls_failed_and_unknown_durations_are_shown() -> None:
    assert not ended_so(DESTROY, failed=True, slower_ns=None)
    assert ended_so(DESTROY._replace(failed=True), failed=True, slower_ns=None)
    assert not ended_so(DESTROY, failed=False, slower_ns=10**9)
    assert ended_so(DESTROY._replace(duration_ns=None), failed=False, slower_ns=10**9)
