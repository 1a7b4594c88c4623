# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the enforcer said: its records, and which call each is about."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.events import Call, VerdictInfo
from probes.api import undescribed
from probes.api.load import load_api
from probes.calls.parts.judged import Judged
from probes.calls.parts.open import Extra, Message, Open
from probes.calls.parts.verdicts import NOT_ENFORCED, error_of, in_all, read_verdict
from probes.kernel import records
from probes.plans.functions import verdict_plan
from probes.plans.meaning.captured import Limits
from probes.plans.plan import PlanRow
from tests.unit.log_samples import DESTROY

HEADER = Path(__file__).parents[5] / "enforcer" / "library" / "enforcer.h"
PLAN = verdict_plan(Limits(16, True))
FUNCTION = load_api().by_name["virDomainDestroy"]
STUB, TID, PID, SP = 7, 21, 20, 0x7FFF0008
UNREADABLE = -1
Text = bytes | int | None


def said(
    action: int,
    rule: Text = None,
    message: Text = None,
    note: Text = None,
    *,
    number: int = STUB,
    sp: int = SP,
    result: int = 0,
    tid: int = TID,
) -> bytes:
    """A REC_VERDICT as the kernel sends it."""
    raw = bytearray(PLAN.fixed)
    texts = (rule, message, note)
    addresses = [0 if text is None else 0x1000 + i for i, text in enumerate(texts)]
    records.HEAD.pack_into(raw, 0, records.REC_VERDICT, 0, 0, 0, 1, 0, tid, 1, 0, PID)
    records.VERDICT.pack_into(
        raw, records.VERDICT_AT, *range(6), sp, number, action, 0, *addresses, result, 0, 0
    )
    for place, text in zip(PLAN.texts, texts, strict=True):
        length = len(text) if isinstance(text, bytes) else records.STR_UNREADABLE if text else 0
        raw[place.slot : place.slot + 4] = length.to_bytes(4, "little", signed=True)
        raw += text.ljust((length + 8) & ~7, b"\0") if isinstance(text, bytes) else b""
    return bytes(raw)


def test_the_struct_is_the_librarys(tmp_path: Path) -> None:
    lines = HEADER.read_text().splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("enum verdict_action {"))
    end = lines.index("};", first)
    names = ["args", "sp", "number", "action", "function", "rule", "message", "note", "result"]
    places = "".join(f'printf("%zu ", offsetof(struct verdict, {name}));' for name in names)
    (tmp_path / "print.c").write_text(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n"
        + "\n".join(lines[first : end + 1])
        + (
            f'int main(void) {{ {places} printf("%zu %d %d %d", sizeof(struct verdict), '
            f"SAYS_ALLOW, "
            f"SAYS_AUDIT, SAYS_DENY); }}\n"
        )
    )
    subprocess.run(["gcc", "-o", "print", "print.c"], cwd=tmp_path, check=True)
    compiled = [
        int(word)
        for word in subprocess.run(
            tmp_path / "print", stdout=subprocess.PIPE, check=True
        ).stdout.split()
    ]
    *_, rule, message, note, result, size, allow, audit, deny = compiled
    # each number of the record has its place for its value
    starts = records.VERDICT.unpack(struct.pack("<15Q", *range(0, 120, 8)))
    assert [0, *starts[6:7]] == compiled[:2]
    assert compiled[2:4] == [56, 60]
    assert list(starts[9:14]) == [compiled[4], rule, message, note, result]
    assert (size, allow, audit, deny) == (
        records.VERDICT.size,
        records.VERDICT_ALLOW,
        records.VERDICT_AUDIT,
        records.VERDICT_DENY,
    )
    sources = [text.source - records.VERDICT_AT for text in PLAN.texts]
    assert sources == [rule, message, note]


@pytest.mark.parametrize(
    ("raw", "info"),
    [
        (said(records.VERDICT_ALLOW), VerdictInfo("allow", "")),
        (said(records.VERDICT_ALLOW, b"backup"), VerdictInfo("allow", "backup")),
        (said(records.VERDICT_AUDIT, b""), VerdictInfo("audit", "")),
        (said(records.VERDICT_AUDIT), NOT_ENFORCED),  # its policy is not there
        (
            said(records.VERDICT_DENY, b"no", b"ask first", b"web1 is db1"),
            VerdictInfo("deny", "no", "ask first", "web1 is db1"),
        ),
        (said(records.VERDICT_DENY, UNREADABLE, UNREADABLE), VerdictInfo("deny", "?", "?")),
        (said(records.VERDICT_AUDIT, UNREADABLE), VerdictInfo("audit", "?")),
    ],
)
def test_verdicts_are_what_was_said(raw: bytes, info: VerdictInfo) -> None:
    assert read_verdict(PLAN, raw) == (info, STUB, SP, 0)


@given(
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.text(max_size=40),
)
def test_numbers_and_texts_come_through(number: int, sp: int, result: int, text: str) -> None:
    rule = text.encode("utf-8", "ignore").replace(b"\0", b"")
    found = read_verdict(
        PLAN, said(records.VERDICT_DENY, rule, number=number, sp=sp, result=result)
    )
    assert (found.number, found.sp, found.result, found.info.rule) == (
        number,
        sp,
        result,
        rule.decode(),
    )


def test_a_long_text_is_cut_short() -> None:
    found = read_verdict(PLAN, said(records.VERDICT_DENY, b"r" * PLAN.texts[0].size))
    assert found.info.rule == "r" * PLAN.texts[0].size


def test_errors_say_the_message_or_the_rule() -> None:
    assert error_of(VerdictInfo("deny", "no", "ask first")) == (
        88,
        "VIR_ERR_ACCESS_DENIED",
        "VIR_FROM_ACCESS",
        "access denied: ask first",
    )
    assert error_of(VerdictInfo("deny", "no")).message == 'access denied: by rule "no"'


# which call it is about


def row(stub: int = STUB, returns: str = "integer") -> PlanRow:
    return PlanRow(FUNCTION, None, "libvirt.so.0", PLAN, None, returns, stub)


def call(number: int = 0, *, sp: int = SP, depth: int = 0, flags: int = 0) -> Open:
    raw = bytearray(records.ENTRY_FIXED)
    records.HEAD.pack_into(raw, 0, records.REC_ENTRY, depth, flags, number, 5, 0, TID, 1, 0, PID)
    raw[records.ENTRY_SP : records.ENTRY_SP + 8] = sp.to_bytes(8, "little")
    return Open(bytes(raw), number, 1, depth, 0, PID, 0)


def judged(*covered: int, here: tuple[int, ...] = (), returns: str = "integer") -> Judged:
    """Row 0 is for the function, row 1 for one that the enforcer can't judge, row 2 for an
    inner one.
    """
    inner = PlanRow(None, "qemuProcessStop", "libvirt_driver_qemu.so", PLAN, None, "integer")
    rows = [row(returns=returns), row(undescribed.NO_STUB), inner]
    return Judged(
        rows,
        lambda pid: frozenset(covered if pid == PID else ()),
        lambda pid: frozenset(here if pid == PID else ()),
    )


ALLOWED = VerdictInfo("allow", "backup")


def test_a_verdict_is_that_of_the_next_call_on_the_same_stack() -> None:
    found = judged(STUB)
    found.says(said(records.VERDICT_ALLOW, b"backup"), 0)
    assert found
    assert found.began(call(), TID) == (ALLOWED, False)
    assert not found
    assert found.began(call(), TID) == (NOT_ENFORCED, False)  # the next one has none


@pytest.mark.parametrize("other", [{"sp": SP + 8}, {"number": STUB + 1}, {"tid": TID + 1}])
def test_a_verdict_on_something_else_is_not_taken(other: dict[str, int]) -> None:
    found = judged(STUB)
    found.says(said(records.VERDICT_ALLOW, b"backup", **other), 0)
    assert found.began(call(), TID) == (NOT_ENFORCED, False)


def test_a_denied_call_never_begins() -> None:
    found = judged(STUB)
    found.says(said(records.VERDICT_DENY, b"no"), 0)
    assert found.began(call(), TID) == (NOT_ENFORCED, False)


@pytest.mark.parametrize(
    "begun",
    [
        call(depth=1),  # inner calls are not judged
        call(2),  # nor inner functions
        call()._replace(raw=None),  # what is lost tells nothing
        call(flags=records.REC_INNER_LOST),
        call()._replace(tgid=PID + 1),  # no policy there
    ],
)
def test_calls_of_which_nothing_is_known_have_no_verdict(begun: Open) -> None:
    assert judged(STUB).began(begun, TID) is None


def test_what_no_daemon_is_asked_about_is_past_the_policy() -> None:
    assert judged(STUB, here=(STUB,)).began(call(), TID) == (NOT_ENFORCED, True)
    found = judged(STUB)
    found.says(said(records.VERDICT_ALLOW, b"backup", None, b"web1 is db1"), 0)
    assert found.began(call(), TID) == (ALLOWED._replace(note="web1 is db1"), True)


def test_functions_that_the_enforcer_cant_judge() -> None:
    assert judged(undescribed.NO_STUB).began(call(1), TID) == (NOT_ENFORCED, False)
    assert judged(STUB).began(call(1), TID) is None


def test_what_was_said_goes_with_its_thread() -> None:
    found = judged(STUB)
    found.says(said(records.VERDICT_ALLOW, b"backup"), 0)
    found.forget(TID)
    assert not found


def test_a_denied_call_returns_what_the_enforcer_gave_it() -> None:
    found = judged(STUB)
    found.says(said(records.VERDICT_DENY, b"no", result=(1 << 64) - 1), 0)
    assert found.denied(call(), TID) == (VerdictInfo("deny", "no"), -1)
    found = judged(STUB, returns="pointer")
    found.says(said(records.VERDICT_DENY, b"no"), 0)
    assert found.denied(call(), TID) == (VerdictInfo("deny", "no"), None)


@pytest.mark.parametrize(
    "raw", [None, said(records.VERDICT_ALLOW, b"no"), said(records.VERDICT_DENY, b"no", sp=SP + 8)]
)
def test_of_a_denial_whose_verdict_was_lost_no_rule_is_known(raw: bytes | None) -> None:
    found = judged(STUB)
    if raw:
        found.says(raw, 0)
    assert found.denied(call(), TID) == (VerdictInfo("deny", ""), None)


# a call that was sent to a daemon


def extra(
    verdict: VerdictInfo | None,
    *children: VerdictInfo | None,
    sent: bool = True,
    past: bool = False,
) -> Extra:
    made = Extra()
    made.verdict, made.is_past = verdict, past
    made.children = [*map(judged_call, children)]
    made.sent = {Message(1, 2, 3): None} if sent else {}
    return made


def judged_call(verdict: VerdictInfo | None) -> Call:
    return DESTROY._replace(verdict=verdict)


def test_what_a_daemon_judges_is_not_past_the_policy() -> None:
    assert in_all(extra(NOT_ENFORCED, ALLOWED)) is None
    assert in_all(extra(NOT_ENFORCED, None)) is None
    # nor does the daemon ask anybody
    assert in_all(extra(NOT_ENFORCED, ALLOWED, NOT_ENFORCED)) == NOT_ENFORCED
    assert in_all(extra(NOT_ENFORCED, ALLOWED, sent=False)) == NOT_ENFORCED
    assert in_all(extra(NOT_ENFORCED, ALLOWED, past=True)) == NOT_ENFORCED
    assert in_all(extra(ALLOWED, NOT_ENFORCED)) == ALLOWED
    assert in_all(extra(None)) is None
