# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each kind of event is described once: what is written faster by hand is what that says."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given

from log.events import Command, Reads
from log.moments import rfc3339
from log.parsing.kinds import KINDS, kind_of
from log.render.jsonl import line, value
from tests.unit.log.parsing.test_parse import any_event


@given(any_event(Reads))
def test_counted_reads_are_written_as_they_are_described(event):
    told = json.loads(line(event))
    told.pop("types", None)
    described = {"type": "reads", "time": rfc3339(event.time)}
    described |= json.loads(value(KINDS["reads"].written(event)))
    assert list(told.items()) == list(described.items())


def test_what_an_agent_is_told_has_a_type_of_its_own():
    nobody: Any = None
    command = Command(0, None, 1, "x", nobody, "{}", None)
    assert kind_of(command) == "monitor"
    assert kind_of(command._replace(to_agent=True)) == "agent"
