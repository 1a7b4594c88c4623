# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random programs of three users under random policies end, call by call and file by file, as a
plain model of the rules says.
"""

from __future__ import annotations

import shutil

import pytest

from tests.model.places import Place
from tests.model.policies import KEYS
from tests.model.run import Run, Tally
from tests.needs import lack

# by place: policies whose seed denies by most keys
POLICIES = {"daemon": 6, "client": 4, "sasl": 4}
SEED = 5


@pytest.mark.parametrize("kind", POLICIES)
def test_calls_end_as_the_model_says(kind):
    if not shutil.which("saslpasswd2"):
        lack("system", "no saslpasswd2 (sasl2-bin)")
    tally = Tally()
    with Place(kind) as place:
        run = Run(place, SEED, tally)
        for _ in range(POLICIES[kind]):
            run.run_policy()
        assert set(tally.ways) == set(tally.passed_ways) == set(place.ways)
    print("\n".join(tally.lines()))
    assert tally.calls == POLICIES[kind] * 80
    assert tally.ends["denied"] and tally.ends["done"] and tally.ends["failed"]
    assert set(tally.denied_by) <= set(KEYS)
