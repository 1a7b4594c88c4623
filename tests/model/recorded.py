# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds what a rehearsal makes of recorded calls to what the library has said of each of them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from enforcer.judging.judge import UNRECORDED, Judge
from enforcer.launch.library import table
from enforcer.policy.reading.reading import read_policy
from enforcer.rehearsal.facts import facts_of
from enforcer.rehearsal.made import made_alone
from enforcer.rehearsal.rehearse import strictest
from log.events import Call
from log.parsing.parse import parse
from tests.model.places import Place
from tests.model.policies import toml
from tests.model.run import Run, Step, Tally

TABLE = table()


class Period(NamedTuple):
    """When a policy was in force, in ns."""

    first: int
    last: int
    judge: Judge
    mode: str


class RecordedRun(Run):
    """Remembers which policy was in force when."""

    def __init__(self, place: Place, seed: int, tally: Tally) -> None:
        super().__init__(place, seed, tally)
        self.periods: list[Period] = []

    def _run_program(self, program: list[Step]) -> None:
        first = time.time_ns()
        super()._run_program(program)
        judge = Judge(read_policy(toml(self.policy), "model.toml", TABLE), TABLE)
        self.periods.append(Period(first, time.time_ns(), judge, self.policy["mode"]))


def differences(run: RecordedRun, lines: list[dict[str, Any]], pids: list[str]) -> Counter[str]:
    """How many of the library's verdicts were compared, and how; AssertionError at a difference."""
    counts: Counter[str] = Counter()
    for fields in lines:
        call = parse(json.dumps(fields))
        if type(call) is not Call or call.depth or str(call.caller.pid) not in pids:
            continue
        period = next((p for p in run.periods if p.first <= call.time <= p.last), None)
        if period is not None:
            counts.update(_compared(call, period))
    return counts


def _compared(call: Call, period: Period) -> Iterator[str]:
    verdict, function = call.verdict, TABLE.by_name[call.function]
    if call.client is not None and call.client.is_daemon:
        assert verdict is None or verdict.action == "allow"
        return
    decisions = list(map(period.judge.decide, facts_of(made_alone(call, function))))
    said = strictest(decisions)
    told = f"{call} {list(facts_of(made_alone(call, function)))}: {verdict}, not {said}"
    if verdict is None:
        assert not period.judge.asked(function) or function.access == "plumbing", told
        yield "not judged"
        return
    if said.denies is UNRECORDED:
        yield f"not told, {said.missing}"
        return
    was_denied = verdict.action == "deny" or (
        period.mode == "audit" and _forbids(period.judge, verdict.rule)
    )
    assert said.denies == was_denied, told
    yield "denied" if was_denied else "let pass"
    if not any(decision.perhaps for decision in decisions):
        assert (said.rule.name if said.rule else "") == verdict.rule, told
        yield "by the same rule"


def _forbids(judge: Judge, name: str) -> bool:
    return any(rule.action == "deny" for rule in judge.policy.rules if rule.name == name)
