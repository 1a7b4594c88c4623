# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was done and no rule of a policy is about comes in; one question after the other goes to
whoever sits at the terminal, and his answers become rules in the policy's text.

Lines are put into the text, nothing of it is written anew: what else is in it stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from enforcer.judging.judge import Facts, Judge
from enforcer.learning.evidence import about, evidence_of
from enforcer.learning.generalise import Deed, Evidence, is_never, literal, shape_of
from enforcer.learning.learn import rule_lines
from enforcer.learning.seen import Seen
from enforcer.policy.reading.reading import read_policy
from enforcer.policy.rules import Policy, Rule, conditions
from enforcer.rehearsal.rehearse import strictest
from log.quote import escape
from probes.api.table import ApiTable

ALLOW, DENY, GLOB, USER, SKIP, FINISH = "adgusf"
WORDS = {
    ALLOW: "allow this",
    DENY: "deny this",
    GLOB: "allow {}",
    USER: "allow this user on any object",
    SKIP: "skip",
    FINISH: "finish",
}
Ask = Callable[[str], str]


class Unsettled(NamedTuple):
    """Something that was done and that no rule is about."""

    deed: Deed
    evidence: Evidence
    facts: tuple[Facts, ...]  # of one such call

    @property
    def glob(self) -> str | None:
        """Names like the one that it was done to; None: it is not made wider."""
        (name, *more) = self.deed.objects or ("",)
        if more or is_never(self.deed.function) or shape_of(name) == literal(name):
            return None
        return shape_of(name)


class Unruled(Seen):
    """What was done and no rule is about, but perhaps the one about all that changes something."""

    def __init__(self, seen: Seen, judge: Judge) -> None:
        super().__init__(seen.table, seen.span)
        self._judge = judge
        self.facts: dict[Deed, tuple[Facts, ...]] = {}

    def wants(self, facts: list[Facts]) -> bool:
        """Whether it is asked about."""
        return not is_ruled(self._judge, facts)

    def keep(self, deed: Deed, facts: list[Facts]) -> None:
        """Remember what such a call is."""
        if deed in self.deeds:
            self.facts.setdefault(deed, tuple(facts))

    def questions(self) -> list[Unsettled]:
        """What was done most comes first."""
        found = [
            Unsettled(deed, evidence, self.facts[deed]) for deed, evidence in self.deeds.items()
        ]
        return sorted(found, key=lambda one: (-one.evidence.calls, one.deed))


def is_about_all(rule: Rule) -> bool:
    """Whether it is what is said of whatever changes something."""
    return set(conditions(rule)) == {"class"} and rule.access == "write" and not rule.globs


def is_ruled(judge: Judge, facts: Iterable[Facts]) -> bool:
    """Whether a rule was written with such a call in mind."""
    rule = strictest(map(judge.decide, facts)).rule
    return rule is not None and not is_about_all(rule)


def listed(questions: list[Unsettled]) -> list[str]:
    """For where nobody can be asked."""
    return [f"{about(one.deed)}: {evidence_of(one.evidence)}" for one in questions]


def review(
    text: str, policy: Policy, table: ApiTable, questions: list[Unsettled], ask: Ask
) -> tuple[str, int]:
    """The text with the rules that were answered for, and how many these are."""
    added = 0
    for number, one in enumerate(questions):
        judge = Judge(policy, table)
        if is_ruled(judge, one.facts):
            continue  # an answer before was about it, too
        answer = _answer(one, f"{number + 1}/{len(questions)}", ask)
        if answer == FINISH:
            break
        if answer == SKIP:
            continue
        added += 1
        text = _with(text, policy, _rule(one, answer, _free_name(policy)))
        policy = read_policy(text, policy.origin, table)
    return text, added


def _answer(one: Unsettled, place: str, ask: Ask) -> str:
    choices = [ALLOW, DENY, *([GLOB] if one.glob else [])]
    choices += [] if is_never(one.deed.function) or not one.deed.objects else [USER]
    choices += [SKIP, FINISH]
    words = ", ".join(f"{key} {WORDS[key].format(escape(one.glob or ''))}" for key in choices)
    question = f"{place} {about(one.deed)}: {evidence_of(one.evidence)}\n  {words}? "
    while (answer := ask(question).strip().lower()[:1]) not in choices:
        question = f"  {', '.join(choices)}? "
    return answer


def _free_name(policy: Policy) -> str:
    names = {rule.name for rule in policy.rules}
    return next(f"reviewed {n}" for n in range(1, len(names) + 2) if f"reviewed {n}" not in names)


def _rule(one: Unsettled, answer: str, name: str) -> list[str]:
    globs = {
        GLOB: [one.glob or ""],
        USER: [],
    }.get(answer, [literal(each) for each in one.deed.objects])
    action = "deny" if answer == DENY else "allow"
    lines = rule_lines(name, action, [one.deed.function], one.deed.who, globs)
    return [f"# {evidence_of(one.evidence)}", *lines, ""]


def _with(text: str, policy: Policy, rule: list[str]) -> str:
    """The text with the rule before the one about all, else behind the last."""
    lines = text.splitlines()
    at = next((one.line - 1 for one in policy.rules if is_about_all(one)), None)
    if at is None:
        first = min((case.line - 1 for case in policy.cases), default=len(lines))
        last = max((one.line - 1 for one in policy.rules), default=-1)
        at = first if first > last else len(lines)
    while at and lines[at - 1].startswith("#"):
        at -= 1  # what stands above it is about it
    above = [] if not at or not lines[at - 1].strip() else [""]
    return "\n".join([*lines[:at], *above, *rule, *lines[at:]]).rstrip("\n") + "\n"
