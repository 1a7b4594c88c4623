# SPDX-License-Identifier: LGPL-2.1-or-later
"""The enforcer's verdicts as the tracer sees them: a record of its verdict function comes in,
what it said goes out.
"""

from __future__ import annotations

from typing import NamedTuple

from log.events import Call, CallError, VerdictInfo
from log.values import CutText, Value
from probes.calls.parts.open import Extra
from probes.kernel import records
from probes.plans.plan import Constants, Plan

ACTIONS = {
    records.VERDICT_ALLOW: "allow",
    records.VERDICT_AUDIT: "audit",
    records.VERDICT_DENY: "deny",
}
NOT_ENFORCED = VerdictInfo("not enforced", "")
ACCESS_DENIED = 88  # VIR_ERR_ACCESS_DENIED

_NO_CONSTANTS = Constants()


class Said(NamedTuple):
    """A verdict."""

    info: VerdictInfo
    number: int  # of the function in the bundled table
    sp: int  # of the call
    result: int  # what a denied call returns, 64 bits


def read_verdict(plan: Plan, raw: bytes) -> Said:
    """What the record says."""
    *_, sp, number, action, _, _, _, _, result, _, _ = records.VERDICT.unpack_from(
        raw, records.VERDICT_AT
    )
    texts = {name: _text(value) for name, value in plan.decode(raw, {}, _NO_CONSTANTS).items()}
    said = ACTIONS.get(action, "allow")
    if action == records.VERDICT_AUDIT and texts["rule"] is None:  # its policy is not there
        said = NOT_ENFORCED.action
    info = VerdictInfo(said, texts["rule"] or "", texts["message"], texts["note"])
    return Said(info, number, sp, result)


def _text(value: Value) -> str | None:
    """A text of the enforcer; "?" where it could not be read."""
    if value is None or isinstance(value, str):
        return value
    return value.text if isinstance(value, CutText) else "?"


def error_of(info: VerdictInfo) -> CallError:
    """The error that the caller of a denied call got."""
    text = info.message or f'by rule "{info.rule}"'
    return CallError(
        ACCESS_DENIED, "VIR_ERR_ACCESS_DENIED", "VIR_FROM_ACCESS", f"access denied: {text}"
    )


def in_all(extra: Extra) -> VerdictInfo | None:
    """The verdict on a call. One that was sent to a daemon is judged there by the host's
    policy, if that daemon is enforced.
    """
    judged = [child.verdict for child in extra.children if isinstance(child, Call)]
    if (
        extra.verdict is None
        or extra.verdict.action != NOT_ENFORCED.action
        or extra.is_past
        or not extra.sent
    ):
        return extra.verdict
    return extra.verdict if NOT_ENFORCED in judged else None
