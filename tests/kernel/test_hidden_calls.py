# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program can't hide calls among libvirt's own: what it calls from inside libvirt's calls is
shown, and nothing else is.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable

import pytest

from probes.api.load import load_api
from tests.kernel.conftest import Run
from tests.kernel.every_function import UNFIT

Traced = Callable[..., Run]
PLACES = ["handler", "nested", "auth", "event", "coroutine", "jump"]
# these crash where a callback that they take is NULL, or change what the caller lives on
NOT_HERE = UNFIT | {"virConnectClose"}


def functions() -> list[str]:
    """LIBRARY:FUNCTION of every public function that refuses a NULL handle."""
    found = []
    for function in load_api().functions:
        if (
            function.access == "plumbing"
            or function.name in NOT_HERE
            or not function.params
            or function.params[0].kind != "handle"
        ):
            continue
        if len(function.params) > 8 or any(param.kind == "double" for param in function.params):
            continue
        if hasattr(ctypes.CDLL(function.library), function.name):
            found.append(f"{function.library}:{function.name}")
    return found


@pytest.mark.other_kernels
@pytest.mark.parametrize("place", PLACES)
def test_every_function_called_from_inside_libvirt_is_shown(
    caller, traced: Traced, auth_uri: str, place: str
) -> None:
    made = functions()
    assert len(made) >= 400
    run = traced(caller("elsewhere"), place, auth_uri, *made)
    (pid,) = run.facts
    seen = Counter(call["function"] for call in run.calls() if call["pid"] == pid)
    around = Counter({"virConnectOpen": 1, "virDomainLookupByName": 1})
    around["virConnectOpenAuth"] += place == "auth"
    around["virConnectSetKeepAlive"] += {"auth": 0, "event": 0, "jump": 101, "nested": 101}.get(
        place, 1
    )
    # a call that is under way has the thread's only return probe
    alone = run.result.events[0]["link"] == "uprobe_session"
    expected = (
        Counter(name.partition(":")[2] for name in made)
        + Counter({"virDomainSuspend": 1, "virDomainResume": 1})
        + around
    )
    assert seen == expected
    assert {call["depth"] for call in run.calls()} == {0}
    results = [
        call.get("ret")
        for call in run.calls()
        if call["function"] in ("virDomainSuspend", "virDomainResume")
    ]
    assert results[-2:] == ([None, None] if alone and place != "event" else [0, 0])
    if place == "nested" and not alone:  # deeper than 64, which lose their results then
        told = Counter(
            str(call.get("ret", call.get("reason"))) for call in run.calls("virConnectSetKeepAlive")
        )
        assert told == {"result lost": 64, "-1": 38}
