# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a policy says that means less than it may seem to: a policy comes in, lines for `policy
check` come out.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

from enforcer.policy.arrivals import CANT_BIND
from enforcer.policy.rules import Policy, Rule
from log.quote import quote
from probes.api.table import ApiTable

_RENAME = "virDomainRename"


def notes(policy: Policy, table: ApiTable) -> list[str]:
    """A line each, with the rule's place."""
    judged = [function.name for function in table.functions if function.access != "plumbing"]
    found = [(rule.line, text) for rule in policy.rules for text in _of_rule(rule, judged)]
    if (rule := _can_be_renamed(policy, table)) is not None:
        text = (
            f"rule {quote(rule.name)} goes by names, and a domain can be renamed first: deny "
            f"{_RENAME}, too, or say uuid"
        )
        found.append((rule.line, text))
    return [f"{policy.origin}:{line}: {text}" for line, text in sorted(found)]


def _of_rule(rule: Rule, judged: Sequence[str]) -> Iterator[str]:
    for glob in rule.globs:
        reasons = {CANT_BIND.get(name) for name in fnmatch.filter(judged, glob)}
        if len(reasons) == 1 and None not in reasons:
            yield f"rule {quote(rule.name)} can't bind in a daemon by {glob}: {reasons.pop()}"
    if rule.action == "allow" and rule.exes:
        more = "" if rule.people else "; say user, too"
        yield (
            f"rule {quote(rule.name)} allows by exe, which proves little: a client can connect "
            f"and then become another program{more}"
        )


def _can_be_renamed(policy: Policy, table: ApiTable) -> Rule | None:
    """The first rule that forbids what is done to domains of some name, if none forbids that
    they get another one.
    """
    if any(rule.action == "deny" and _RENAME in rule.functions for rule in policy.rules):
        return None
    return next(
        (
            rule
            for rule in policy.rules
            if rule.action == "deny" and rule.objects and not rule.uuids and _acts(rule, table)
        ),
        None,
    )


def _acts(rule: Rule, table: ApiTable) -> bool:
    """Whether it is about functions that change a domain that is there."""
    functions = (table.by_name[name] for name in rule.functions)
    return any(f.is_write and f.params and f.params[0].object == "domain" for f in functions)
