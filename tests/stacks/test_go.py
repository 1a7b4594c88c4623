# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many goroutines that call libvirt through cgo, and are called back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from probes.kernel.loading.features import SESSION
from tests.kernel.test_stacks import (
    IN_ANOTHER,
    ROUNDS,
    begin_and_end_in_the_middle,
    both_ways,
    counts,
)
from tests.needs import ROOT


@pytest.fixture(scope="module")
def goroutines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("go")
    source = ROOT / "tests" / "callers" / "goroutines.go"
    environment = {**os.environ, "GO111MODULE": "off", "GOCACHE": str(folder / "cache")}
    program = folder / "goroutines"
    subprocess.run(["go", "build", "-o", program, source], check=True, env=environment)
    return program


@both_ways
def test_goroutines(compare, goroutines: Path, way: str) -> None:
    run = compare(goroutines, ROUNDS)
    assert run.facts == [[ROUNDS, ROUNDS]]
    found = counts(run)
    assert found.pop(("virDomainLookupByName", "None")) == ROUNDS
    assert found.pop(("virConnectNumOfDomains", "1")) == (1 if way == SESSION else 2) * ROUNDS
    assert found == ({("virConnectNumOfDomains", IN_ANOTHER): ROUNDS} if way == SESSION else {})


@both_ways
def test_goroutines_whose_tracing_begins_and_ends_in_the_middle(
    own: Path, trace, endless, goroutines: Path, way: str
) -> None:
    rounds, backs = begin_and_end_in_the_middle(own, trace, endless(goroutines, 0))
    assert rounds == backs > 0
