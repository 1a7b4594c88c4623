# SPDX-License-Identifier: LGPL-2.1-or-later
"""What access drivers are asked, and answer, in each thread."""

from __future__ import annotations

from typing import Any

import pytest

from log.values import CutText, Unreadable, Value
from probes.api.load import load_api
from probes.calls.parts.errors import RaisedErrors
from probes.calls.serving.access import (
    ALLOWED,
    DENIED,
    FAILED,
    MOST_ASKED,
    MOST_INSIDE,
    Access,
    keep,
    told,
)
from probes.internals.private import CHECK, CHECKS, MOST_WORDS, POLKIT

POOL = "virAccessManagerCheckStoragePool"
MINUS = (1 << 32) - 1
REFUSED = {"permission": "domain", "driver": "polkit", "answer": DENIED}


@pytest.fixture
def errors() -> RaisedErrors:
    return RaisedErrors(load_api(()))


@pytest.fixture
def access(errors: RaisedErrors) -> Access:
    return Access(errors)


def of_driver(driver: Value) -> dict[str, Value]:
    return {"driver": driver}


def words(*texts: Value, action: Value = "org.libvirt.api.domain.start") -> dict[str, Value]:
    filled = [*texts, *[None] * MOST_WORDS][:MOST_WORDS]
    return {"action": action, **{f"word{i}": text for i, text in enumerate(filled)}}


@pytest.mark.parametrize("name", sorted(CHECKS))
@pytest.mark.parametrize(
    ("result", "answer"), [(1, ALLOWED), (0, DENIED), (MINUS, FAILED), (1 << 40, DENIED)]
)
def test_driver_answers(access: Access, name: str, result: int, answer: str):
    access.asks(1, 5, 10, name, of_driver("none"))
    assert access.answers(1, 5, result) == {
        "permission": CHECKS[name],
        "driver": "none",
        "answer": answer,
    }
    assert access.answers(1, 5, result) is None


@pytest.mark.parametrize("driver", ["secret of mine", Unreadable(7), None, CutText("polkit", 9)])
def test_what_is_no_driver_of_libvirts_is_not_named(access: Access, driver: Value):
    access.asks(1, 5, 10, POOL, of_driver(driver))
    assert access.answers(1, 5, 0) == {
        "permission": "storage-pool",
        "driver": None,
        "answer": DENIED,
    }


def test_stack_of_drivers_tells_what_those_in_it_say(access: Access, errors: RaisedErrors):
    access.asks(1, 5, 10, CHECK, of_driver("stack"))
    access.asks(1, 6, 11, CHECK, of_driver("none"))
    assert access.answers(1, 6, 1) == {"permission": "domain", "driver": "none", "answer": ALLOWED}
    access.asks(1, 7, 12, CHECK, of_driver("polkit"))
    access.asks(1, 8, 13, POLKIT, words("connect_driver", "QEMU", "domain_name", "web1"))
    access.asks(2, 9, 13, POOL, of_driver("polkit"))  # another thread
    errors.entered(1, 14, "virSetError", {"block": 45 | 60 << 32, "message": "no agent"})
    assert access.answers(1, 8, MINUS - 1) is None
    assert access.answers(1, 7, 0) == {
        "permission": "domain.start",
        "driver": "polkit",
        "action": "org.libvirt.api.domain.start",
        "details": {"connect_driver": "QEMU", "domain_name": "web1"},
        "message": "no agent",
        "answer": DENIED,
    }
    assert access.answers(1, 5, 0) is None
    assert access.answers(2, 9, 1)


@pytest.mark.parametrize(("result", "answer"), [(0, ALLOWED), (MINUS, FAILED), (MINUS - 1, DENIED)])
def test_polkit_is_asked_by_who_lets_clients_in(access: Access, result: int, answer: str):
    access.asks(1, 5, 10, POLKIT, words(action="org.libvirt.unix.manage"))
    assert access.answers(1, 5, result) == {
        "permission": None,
        "driver": "polkit",
        "action": "org.libvirt.unix.manage",
        "details": {},
        "answer": answer,
    }


@pytest.mark.parametrize(
    ("texts", "details"),
    [
        (("a", "b", None, "d"), {"a": "b"}),
        (("a", None), {"a": None}),
        ((Unreadable(1), "b"), {}),
        ((CutText("long", 9999), "b"), {"long": "b"}),
        (("w",) * (2 * MOST_WORDS), {"w": "w"}),
    ],
)
def test_words_that_polkit_is_told_may_be_anything(
    access: Access, texts: tuple[Value, ...], details: dict[str, Value]
):
    access.asks(1, 5, 10, POLKIT, words(*texts, action=Unreadable(4)))
    told = access.answers(1, 5, 0)
    assert told and told["details"] == details and told["action"] is None


def test_answer_that_was_lost_is_nobody_elses(access: Access):
    access.asks(1, 5, 10, CHECK, of_driver("polkit"))
    access.asks(1, 6, 11, POLKIT, words())
    assert access.answers(1, 5, 0) == REFUSED
    assert access.answers(1, 6, 0) is None
    for number in range(7, 99):  # none of them was seen to answer
        access.asks(1, number, 12, CHECK, of_driver("polkit"))
    assert access.answers(1, 98, 0) is None and access.answers(1, 7, 0) == REFUSED
    access.asks(3, 5, 10, CHECK, of_driver("polkit"))
    access.forget(3)
    assert access.answers(3, 5, 0) is None


def test_many_answers_leave_room_for_those_that_refuse():
    answers: list[Any] = []
    for number in range(3 * MOST_ASKED):
        keep(answers, {"answer": ALLOWED, "number": number})
    assert told(answers) == () and len(answers) == MOST_ASKED
    for number in range(MOST_ASKED + 5):
        keep(answers, {"answer": DENIED, "number": number})
    assert [one["answer"] for one in told(answers)] == [DENIED] * MOST_ASKED
    assert [one["number"] for one in told(answers)] == list(range(MOST_ASKED))


def test_questions_inside_questions_have_an_end(access: Access):
    for number in range(3 * MOST_INSIDE):
        access.asks(3, number, number, CHECK, of_driver("stack"))
    kept = access._open.get(3)
    assert kept is not None and len(kept) == MOST_INSIDE
    assert access.answers(3, 3 * MOST_INSIDE - 1, 1) is None, "nobody knows what that was"
    assert access.answers(3, 0, 1) == {**REFUSED, "driver": "stack", "answer": ALLOWED}
