# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs random programs in a place and holds each call, and the state afterwards, against the
model; a mismatch says all about itself.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from enforcer.launch.library import table
from enforcer.policy.reading.reading import read_policy
from tests.model.calls import FLAGS, Call, random_call, things_of
from tests.model.explained import Unsure, explained
from tests.model.places import ACCESS_DENIED, FROM_ACCESS, USERS, Place, User, state
from tests.model.policies import KEYS, Policy, compiled, random_policy, toml
from tests.model.rules import Facts, Person, first_match, verdict

CALLS, PROGRAMS = 20, 4  # of a program; under one policy
Step = tuple[User, str, Call]


class Tally:
    """What was compared."""

    def __init__(self) -> None:
        self.calls = self.programs = self.explained = 0
        self.ends: Counter[str] = Counter()  # "denied", "done", "failed"
        self.denied_by: Counter[str] = Counter()  # keys of the rules that denied
        self.passed_by: Counter[str] = Counter()  # of those that let pass
        self.ways: Counter[str] = Counter()  # denied calls
        self.passed_ways: Counter[str] = Counter()

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.calls} calls of {self.programs} programs compared, {self.explained} with what "
            f"explain says, too: {said(self.ends)}",
            f"denied by rules with: {said(self.denied_by)}",
            f"let pass by rules with: {said(self.passed_by)}",
            f"denied by way in: {said(self.ways)}; let pass: {said(self.passed_ways)}",
        ]


def said(counts: Counter[str]) -> str:
    """Numbers with their words."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


class Mismatch(AssertionError):
    """A call did not end as the model says, or what there is afterwards is something else."""


class Run:
    """Programs in one place, one policy after the other."""

    def __init__(self, place: Place, seed: int, tally: Tally) -> None:
        self.place, self.seed, self.tally = place, seed, tally
        self.rand = random.Random(f"{seed} {place.kind}")
        self.generation = 0
        self.was_audit = True
        self.policy: Policy = {}
        self.claims: dict[tuple[User, str], Person] = {}

    def run_policy(self) -> None:
        """A new policy, and some programs under it."""
        programs = [[self._step() for _ in range(CALLS)] for _ in range(PROGRAMS)]
        self.generation += 1
        calls = [call for program in programs for _, _, call in program]
        exes = tuple(self.place.exes.values())
        self.policy = random_policy(
            self.rand, calls, exes, self.generation, may_audit=not self.was_audit
        )
        self.was_audit = self.policy["mode"] == "audit"
        self.rules = read_policy(toml(self.policy), "model.toml", table())
        self.place.put_in_force(compiled(self.policy), None if self.was_audit else self.generation)
        for program in programs:
            self._run_program(program)
            self.tally.programs += 1

    def _step(self) -> Step:
        return self.rand.choice(USERS), self.rand.choice(self.place.ways), random_call(self.rand)

    def _run_program(self, program: list[Step]) -> None:
        self.claims.clear()
        self.place.close_connections()
        for number, (user, way, call) in enumerate(program):
            self._compare(user, way, call, f"call {number}")
        mine, plain = state(self.place.target), state(self.place.reference)
        if mine != plain:
            differing = {
                name: (mine.get(name), plain.get(name))
                for name in mine.keys() | plain.keys()
                if mine.get(name) != plain.get(name)
            }
            raise Mismatch(self._report("the state after the program", differing, program))

    def _compare(self, user: User, way: str, call: Call, where: str) -> None:
        facts = self._facts(user, way, call)
        rule = verdict(self.policy, facts)
        self._explain(rule, facts, where)
        if rule is None:
            expected = self.place.make_plainly(call, way)
        else:
            by = next(one for one in self.policy["rule"] if one["name"] == rule)
            message = by.get("message") or f'by rule "{rule}"'
            expected = ["failed", ACCESS_DENIED, FROM_ACCESS, f"access denied: {message}"]
        got = self.place.make(call, user, way)
        if got[:3] != expected[:3] or (rule and got != expected):
            raise Mismatch(
                self._report(
                    where,
                    {"expected": expected, "got": got, "by rule": rule},
                    (user, way, call, facts),
                )
            )
        if (
            call.function == "virConnectSetIdentity"
            and got[0] == "done"
            and self.place.kind != "client"
        ):
            said: Any = call.arguments[0]
            self.claims[user, way] = Person(
                said.get("unix-user-id"), said.get("unix-group-id"), said.get("sasl-user-name")
            )
        self._count(way, "denied" if rule else got[0], facts)

    def _explain(self, rule: str | None, facts: Facts, where: str) -> None:
        """Never contradicts."""
        try:
            said = explained(self.rules, facts, in_daemon=self.place.kind != "client")
        except Unsure:
            return
        self.tally.explained += 1
        if said != rule:
            raise Mismatch(self._report(where, {"by rule": rule, "explained": said}, facts))

    def _facts(self, user: User, way: str, call: Call) -> Facts:
        in_daemon = self.place.kind != "client"
        names = (
            (call.function, "virConnectSetIdentityEnsureACL")
            if in_daemon and call.function == "virConnectSetIdentity"
            else (call.function,)
        )
        claim = self.claims.get((user, way))
        things = things_of(call, self.place.world(), by_driver=in_daemon)
        return Facts(
            functions=names,
            writes=call.writes,
            people=(self.place.person(user, way), *([claim] if claim else [])),
            uri="qemu:///system" if in_daemon else self.place.uri(way),
            readonly=way == "ro",
            things=things,
            one_by_one=call.function == "virDomainListGetStats",
            flags=call.flags,
            constants=FLAGS.get(call.function, {}),
            texts=call.texts,
            document=call.document,
        )

    def _count(self, way: str, end: str, facts: Facts) -> None:
        tally = self.tally
        tally.calls += 1
        tally.ends[end] += 1
        (tally.ways if end == "denied" else tally.passed_ways)[way] += 1
        rule = first_match(self.policy["rule"], facts, facts.people[-1], facts.things)
        counts = tally.denied_by if end == "denied" else tally.passed_by
        counts.update(key for key in rule or () if key in KEYS)

    def _report(self, where: str, what: object, more: object) -> str:
        return (
            f"seed {self.seed}, {self.place.kind}, policy {self.generation}, {where}: "
            f"{what}\n{more}\n"
            f"claims: {self.claims}\n{toml(self.policy)}"
        )
