# SPDX-License-Identifier: LGPL-2.1-or-later
"""How results are learnt: the safest way that the kernel and what is installed allow."""

from __future__ import annotations

import pytest

from log.errors import TraceError
from probes.internals import returns
from probes.kernel.loading.features import CONFINED, NONE, PAIR, RETS, SESSION
from probes.tracing import PROBE, RET, ways


@pytest.mark.parametrize(
    ("asked", "session", "capstone", "kills", "way", "warns"),
    [
        ("auto", True, False, False, (SESSION, False, False), None),
        ("auto", True, True, True, (SESSION, True, False), "return probes kill confined"),
        ("auto", True, False, None, (SESSION, True, False), "can't be found out"),
        ("auto", False, True, None, (RETS, False, True), None),
        ("auto", False, False, None, (NONE, False, False), "before Linux 6.13"),
        (PROBE, True, True, True, (SESSION, False, True), None),
        (PROBE, False, True, True, (PAIR, False, True), None),
        (RET, True, True, False, (RETS, False, True), None),
    ],
)
def test_way(monkeypatch, asked, session, capstone, kills, way, warns) -> None:
    monkeypatch.delenv(CONFINED, raising=False)
    monkeypatch.setattr(ways, "has_session", lambda: session)
    monkeypatch.setattr(returns, "can_be_found", lambda: capstone)
    monkeypatch.setattr(ways, "returns_kill_confined", lambda: kills)
    chosen = ways.choose(asked)
    assert (chosen.name, chosen.spares_confined, chosen.believes) == way
    assert (chosen.warning is None) if warns is None else warns in (chosen.warning or "")


def test_without_a_disassembler_its_package_is_named(monkeypatch) -> None:
    monkeypatch.setattr(returns, "can_be_found", lambda: False)
    with pytest.raises(TraceError, match="install python3-capstone"):
        ways.choose(RET)
