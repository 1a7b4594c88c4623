# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a program says in the enforcer's name hides none of its calls: "I am looking" covers the
enforcer's own calls alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest

from probes.api.load import load_api
from tests.kernel.conftest import CALLS, Run
from tests.needs import ROOT

ENFORCER = ROOT / "enforcer" / "build" / "libvirt-trace-enforcer.so"


@pytest.mark.parametrize("place", ["far", "near"])
def test_a_forged_look_hides_nothing(caller, traced: Callable[..., Run], place: str) -> None:
    """The library is the true one: its exported function may be called by anybody, with any
    stack pointer.
    """
    assert os.stat(ENFORCER).st_uid == 0
    names = [function.name for function in load_api(()).functions]
    suspend = names.index("virDomainSuspend")  # whose verdicts are heard: one of itself is believed
    run = traced(caller("forged", "-ldl"), ENFORCER, place, suspend)
    denied = [call for call in run.calls() if call["type"] == "verdict"]
    assert [call["function"] for call in denied] == ["virDomainSuspend"], "nothing it says is heard"
    calls = [call for call in run.calls() if call not in denied]
    seen = Counter(call["function"] for call in calls)
    made = Counter(
        {
            "virConnectOpen": 1,
            "virDomainLookupByName": 1,
            "virDomainSuspend": CALLS,
            "virDomainResume": CALLS,
        }
    )
    assert seen == made + Counter({"virDomainDestroy": 1})
    assert {(call["type"], call["depth"]) for call in calls} == {("call", 0)}
