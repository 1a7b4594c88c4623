# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which rules of a policy decide about no call, whatever calls there are, and why."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from enforcer.policy.rules import (
    Rule,
    conditions,
)
from enforcer.policy.sources import names_objects
from log.quote import quote
from probes.api.table import ApiTable


def never_matching(rules: Sequence[Rule], table: ApiTable) -> list[tuple[int, str]]:
    """Rules that can't match any call, and why."""
    found = []
    # by what they ask for
    before: dict[frozenset[object], list[tuple[int, Rule, frozenset[str]]]] = {}
    for number, rule in enumerate(rules):
        asked = frozenset(_frozen(rule).items())
        functions = frozenset(rule.functions)
        if not rule.functions:
            found.append((rule.line, f"rule {quote(rule.name)} never matches: no function is left"))
        elif (rule.objects or rule.uuids) and not any(
            names_objects(table.by_name[name]) for name in rule.functions
        ):
            found.append(
                (
                    rule.line,
                    f"rule {quote(rule.name)} never matches: its functions are about no object",
                )
            )
        elif covering := _covering(before, asked, rule, functions):
            text = (
                f"rule {quote(rule.name)} never matches: rule {quote(covering.name)} (line "
                f"{covering.line}) decides before it"
            )
            found.append((rule.line, text))
        before.setdefault(asked, []).append((number, rule, functions))
    return found


def _covering(
    before: Mapping[frozenset[object], Sequence[tuple[int, Rule, frozenset[str]]]],
    asked: frozenset[object],
    rule: Rule,
    functions: frozenset[str],
) -> Rule | None:
    """The first rule before it that matches whatever it does, also where something can't be
    told; None: there is none.
    """
    firsts = []
    for count in range(len(asked) + 1):
        for part in itertools.combinations(asked, count):  # one that asks for less, or the same
            for number, earlier, theirs in before.get(frozenset(part), ()):
                if functions <= theirs and (
                    earlier.action == "deny" or rule.action != "deny" or not part
                ):
                    firsts.append((number, earlier))
                    break
    return min(firsts, key=lambda first: first[0])[1] if firsts else None


def _frozen(rule: Rule) -> dict[str, object]:
    """The same, comparable whatever the order of its parts."""
    return {
        key: tuple(sorted(value.items())) if isinstance(value, dict) else value
        for key, value in conditions(rule).items()
    }
