# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random programs of three users under random policies end, call by call and file by file, as a
plain model of the rules says; and what is recorded of them is judged as the library judged it.
"""

from __future__ import annotations

import shutil

import pytest

from tests.model.places import Place
from tests.model.policies import KEYS
from tests.model.recorded import RecordedRun, differences
from tests.model.run import Tally, said
from tests.needs import lack

# by place: policies whose seed denies by most keys
POLICIES = {"daemon": 6, "client": 4, "sasl": 4}
SEED = 5


@pytest.mark.parametrize("kind", POLICIES)
def test_calls_end_as_the_model_says(kind, trace):
    if not shutil.which("saslpasswd2"):
        lack("system", "no saslpasswd2 (sasl2-bin)")
    tally = Tally()
    with Place(kind) as place:
        judging = place.judging
        tracer = trace("--both", "-s", "65536", *(word for pid in judging for word in ("-p", pid)))
        run = RecordedRun(place, SEED, tally)
        for _ in range(POLICIES[kind]):
            run.run_policy()
        result = tracer.stop()
        assert set(tally.ways) == set(tally.passed_ways) == set(place.ways)
    print("\n".join(tally.lines()))
    assert tally.calls == POLICIES[kind] * 80
    assert tally.ends["denied"] and tally.ends["done"] and tally.ends["failed"]
    assert set(tally.denied_by) <= set(KEYS)
    compared = differences(run, result.events, judging)
    print(f"verdicts compared with what is recorded: {said(compared)}")
    untold = sum(count for what, count in compared.items() if what.startswith("not told"))
    assert compared["denied"] + compared["let pass"] > 5 * untold
    assert compared["denied"] + compared["let pass"] + untold >= tally.calls
    assert compared["denied"] >= tally.ends["denied"] - untold
