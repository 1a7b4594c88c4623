# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which permissions libvirt asked its access drivers for, and what they answered: records of the
functions that ask come in; answers go out, to be told with the call that was refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from log.recent import Recent
from log.values import CutText, Value
from probes.calls.parts.errors import MOST_THREADS, RaisedErrors
from probes.calls.parts.open import Answers
from probes.internals.private import CHECKS, MOST_WORDS, POLKIT

MOST_ASKED = 16  # answers of a call that are told
MOST_INSIDE = 8  # questions inside questions
ALLOWED, DENIED, FAILED = "allowed", "denied", "failed"
_DRIVERS = frozenset({"none", "polkit", "stack"})  # all that libvirt has
_OF_LIBVIRT = "org.libvirt.api."


class Question(NamedTuple):
    """Something is asked, and there is no answer yet."""

    number: int  # of its record
    time: int  # ns, CLOCK_MONOTONIC
    name: str  # of the function
    known: dict[str, Value]


class Access:
    """Questions by thread; the innermost is the last."""

    def __init__(self, errors: RaisedErrors) -> None:
        self._errors = errors
        self._open: Recent[int, list[Question]] = Recent(MOST_THREADS)

    def asks(
        self, tid: int, number: int, time: int, name: str, fields: Mapping[str, Value]
    ) -> None:
        """An access driver, or polkit, is asked."""
        questions = self._open.get(tid)
        if questions is None:
            questions = []
            self._open.put(tid, questions)
        known = _of_polkit(fields) if name == POLKIT else _of_check(name, fields)
        if len(questions) < MOST_INSIDE:
            questions.append(Question(number, time, name, known))

    def answers(self, tid: int, number: int, result: int) -> dict[str, Value] | None:
        """The function returned; what it answered, unless who asked it has to answer yet."""
        questions = self._open.get(tid) or []
        while questions and questions[-1].number > number:
            questions.pop()  # its return was not seen
        if not questions or questions[-1].number != number:
            return None
        asked = questions.pop()
        within = questions[-1] if questions else None
        if not questions:
            self._open.pop(tid)
        if asked.name == POLKIT:  # 0, -1, or -2: polkit says no
            answer = {0: ALLOWED, 0xFFFFFFFE: DENIED}.get(result & 0xFFFFFFFF, FAILED)
            why = None if answer == ALLOWED else self._why(tid, asked.time)
            known = asked.known | ({} if why is None else {"message": why})
            if within is None:
                return {**known, "answer": answer}
            within.known.update(known)
            return None
        if within is not None:
            within.known["answered"] = True  # a stack: those in it are told
        if asked.known.pop("answered", None):
            return None
        answer = {0: DENIED, 1: ALLOWED}.get(result & 0xFFFFFFFF, FAILED)
        return {**asked.known, "answer": answer}

    def forget(self, tid: int) -> None:
        """The thread has ended."""
        self._open.pop(tid)

    def _why(self, tid: int, since: int) -> str | None:
        error = self._errors.error(tid, since)
        return None if error is None else error.message


def keep(answers: Answers, answer: Mapping[str, Value]) -> None:
    """The answer is told with a call; of too many those that allow are left out first."""
    if len(answers) >= MOST_ASKED:
        at = next((i for i, one in enumerate(answers) if one["answer"] == ALLOWED), None)
        if at is None or answer["answer"] == ALLOWED:
            return
        del answers[at]
    answers.append(answer)


def told(answers: Sequence[Mapping[str, Value]]) -> tuple[Mapping[str, Value], ...]:
    """What is told of a call that failed: nothing, where all was allowed."""
    return tuple(answers) if any(one["answer"] != ALLOWED for one in answers) else ()


def _of_check(name: str, fields: Mapping[str, Value]) -> dict[str, Value]:
    driver = fields["driver"]
    return {
        "permission": CHECKS[name],
        "driver": driver if isinstance(driver, str) and driver in _DRIVERS else None,
    }


def _of_polkit(fields: Mapping[str, Value]) -> dict[str, Value]:
    action = _text(fields["action"])
    known: dict[str, Value] = {}
    if action is None or not action.startswith(_OF_LIBVIRT):
        known["permission"] = None  # to connect
    else:
        known["permission"] = action.removeprefix(_OF_LIBVIRT)
    words = [_text(fields[f"word{i}"]) for i in range(MOST_WORDS)]
    pairs = zip(words[::2], words[1::2], strict=True)
    details: dict[str, Value] = {}
    for key, value in pairs:
        if key is None:
            break
        details[key] = value
    return {**known, "driver": "polkit", "action": action, "details": details}


def _text(value: Value) -> str | None:
    if isinstance(value, CutText):
        return value.text
    return value if isinstance(value, str) else None
