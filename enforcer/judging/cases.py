# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests that are written in a policy: the policy comes in, what is not as they expect goes out."""

from __future__ import annotations

from enforcer.judging.explain import Supposed, decide, explain
from enforcer.policy.rules import Case, Policy
from log.errors import TraceError
from log.quote import quote
from probes.api.table import ApiTable


def failures(policy: Policy, table: ApiTable) -> list[list[str]]:
    """For each test that fails: what it expected, then what the policy says of the call and why."""
    return [lines for case in policy.cases if (lines := _failure(case, policy, table))]


def _failure(case: Case, policy: Policy, table: ApiTable) -> list[str]:
    label = f"{policy.origin}:{case.line}: test{_called(case)}"
    question = _question(case)
    try:
        rule = decide(policy, table, question)
        said = explain(policy, table, question)
    except TraceError as error:
        return [f"{label}: {error}"]
    expected, by = case.fields["expect"], case.fields.get("rule")
    got = rule.action if rule else "allow"
    if got != expected:
        return [f"{label} expects {quote(expected)}", *(f"  {line}" for line in said)]
    if by is not None and (rule is None or rule.name != by):
        return [
            f"{label} expects {quote(expected)} by rule {quote(by)}",
            *(f"  {line}" for line in said),
        ]
    return []


def _called(case: Case) -> str:
    name = case.fields.get("name")
    return f" {quote(name)}" if name else ""


def _question(case: Case) -> Supposed:
    fields = case.fields
    flags = fields.get("flags")
    return Supposed(
        fields["function"],
        fields.get("object"),
        fields.get("uuid"),
        fields.get("user"),
        fields.get("uri"),
        fields.get("readonly"),
        fields.get("exe"),
        None if flags is None else frozenset(flags),
        fields.get("xml"),
        fields.get("new_name"),
        fields.get("daemon"),
    )
