# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that libvirt-python can call on the test driver is traced: each argument and
result is what Python passed and got.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probes.api.load import load_api
from probes.api.table import SCALAR_KINDS, Function
from tests.kernel.conftest import TO_FILE
from tests.needs import PYTHON
from tests.tracing import Event, Tracer

TABLE = load_api()
PROGRAM = Path(__file__).with_name("every_binding.py")
# the binding has another name than the function
RENAMED = {"virConnectListDomainsID": "virConnectListDomains"}
# how much room there is: the binding's own choice
ROOM = {"maxnames", "maxids", "maxinfo", "maxerrors", "nr_stats", "ncpumaps", "nameslen"}
# what Python passes in another shape: the function's arguments from the binding's
RESHAPED: dict[str, Callable[[list[Any]], list[Any]]] = {
    "virNodeAllocPages": lambda given: [
        given[0],
        [size for size, _ in given[1]["items"]],
        [n for _, n in given[1]["items"]],
        *given[2:],
    ],
    "virDomainSetTime": lambda given: [
        given[0],
        *(number for _, number in given[1]["items"]),
        *given[2:],
    ],
    "virDomainSendKey": lambda given: given[:4] + given[5:],
    "virDomainMemoryStats": lambda given: [*given, 0],
    "virDomainBlockPeek": lambda given: given[:3] + given[4:],
    "virDomainMemoryPeek": lambda given: given[:2] + given[3:],
    # documents of which libvirt's schemas know nothing
    "virDomainSetMetadata": lambda given: [*given[:2], "<redacted/>", *given[3:]],
    "virNetworkSetMetadata": lambda given: [*given[:2], "<redacted/>", *given[3:]],
}
HANDLE = "an object"


def plain(value: Any) -> Any:
    """A value of the log without what is only there for its readers."""
    if isinstance(value, dict):
        if "type" in value and (
            "name" in value
            or "uuid" in value
            or "driver" in value
            or "uri" in value
            or len(value) == 1
        ):
            return HANDLE
        if set(value) in ({"value", "names"}, {"value", "name"}):
            return value["value"]
        if value.get("redacted"):
            return f"{value['length']} bytes"
        if value.get("cut"):
            return plain(value["items"]) if "items" in value else value["text"]
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def cpus(flags: list[bool]) -> str:
    """As libvirt writes a set of CPUs."""
    chosen = [number for number, flag in enumerate(flags) if flag]
    parts = []
    for number in chosen:
        if number - 1 in chosen:
            continue
        last = number
        while last + 1 in chosen:
            last += 1
        parts.append(str(number) if last == number else f"{number}-{last}")
    return ",".join(parts)


def as_logged(value: Any, secret: bool) -> Any:
    """What Python passed, as the log should have it."""
    if value == {}:
        return HANDLE
    if isinstance(value, dict):
        if "bytes" in value:
            data = bytes.fromhex(value["bytes"])
            return f"{len(data)} bytes" if secret else str(uuid.UUID(bytes=data))
        return {key: as_logged(item, secret) for key, item in value["items"]}
    if isinstance(value, list):
        if value and all(isinstance(item, bool) for item in value):
            return cpus(value)
        return [as_logged(item, secret) for item in value]
    if secret and isinstance(value, str):
        return f"{len(value.encode())} bytes"
    return value


def passed(function: Function) -> list[tuple[str, bool]]:
    """The arguments that Python gives: no outputs, and no numbers that count others."""
    counts = {
        part.lstrip("*")
        for param in function.params
        for part in param.length.split("*")
        if param.kind == "pointer"
    }
    counts |= (
        {"size"} if function.name in ("virDomainBlockStats", "virDomainInterfaceStats") else set()
    )
    return [
        (param.name, param.secret)
        for param in function.params
        if not (param.kind == "pointer" and param.direction != "in")
        and not (param.name in counts | ROOM and param.kind in SCALAR_KINDS)
    ]


def asks_how_many(function: Function, call: Event) -> bool:
    """Whether it is the first of two calls: without room, for the number of things."""
    return any(
        param.direction == "out" and param.length and call["args"].get(param.name, 0) is None
        for param in function.params
    )


def leaves(value: Any) -> Counter[str]:
    """Numbers and texts in it, at any depth, with the names of fields."""
    if isinstance(value, dict):
        return sum((leaves(key) + leaves(item) for key, item in value.items()), Counter())
    if isinstance(value, list):
        return sum((leaves(item) for item in value), Counter())
    return Counter(
        [
            f"{value:g}"
            if isinstance(value, float)
            else str(int(value))
            if isinstance(value, bool)
            else str(value)
        ]
    )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """(function, what Python passed, what it got, the call in the log) of each call."""
    facts = tmp_path_factory.mktemp("bindings") / "facts"
    tracer = Tracer(
        "-s", "65536", "--buffer-size", "64", "--", *TO_FILE, str(facts), PYTHON, str(PROGRAM)
    )
    result = tracer.finish(120)
    calls = [call for call in result.calls() if call["depth"] == 0]
    found, at = [], 0
    for line in facts.read_text().splitlines():
        name, given, got = json.loads(line)
        name = RENAMED.get(name, name)
        # the binding may ask for the number of things first, and not ask for them if there are none
        place = next(
            (
                place
                for place in range(at, min(at + 6, len(calls)))
                if calls[place]["function"] == name
            ),
            None,
        )
        if place is None:
            assert got in ([], None, -1, {"items": []}), (
                f"{name}{given} = {got} is not in the log, next is {calls[at]['function']}"
            )
            continue
        function = TABLE.by_name[name]
        while asks_how_many(function, calls[place]):
            later = [
                later
                for later in range(place + 1, min(place + 3, len(calls)))
                if calls[later]["function"] == name
            ]
            if not later:
                break
            place = later[0]
        found.append((function, given, got, calls[place]))
        at = place + 1
    return found


def test_nearly_every_function_of_the_binding_was_called(pairs):
    assert len({function.name for function, *_ in pairs}) >= 300
    assert len({function.name for function, _, _, call in pairs if not call["failed"]}) >= 180


def test_arguments_are_what_python_passed(pairs):
    wrong = []
    for function, given, _, call in pairs:
        names = passed(function)
        given = RESHAPED.get(function.name, list)(given)
        shown = [plain(call["args"][name]) for name, _ in names]
        expected = [
            as_logged(value, secret) for value, (_, secret) in zip(given, names, strict=False)
        ]
        if shown != expected:
            wrong.append((function.name, shown, expected))
    assert not wrong, "\n".join(map(str, wrong[:60]))


def test_results_are_what_python_got(pairs):
    wrong: list[tuple[object, ...]] = []
    for function, _, got, call in pairs:
        if function.name == "virNodeGetInfo":
            got[1] *= 1024  # the binding tells MiB
        failed = got is None or got == -1
        if failed != call["failed"]:
            wrong.append((function.name, "failed", call["failed"], got))
            continue
        if failed:
            assert call["out"] == {}, function.name
            continue
        missing = (
            leaves(as_logged(got, False)) - leaves(plain(call["out"])) - leaves(plain(call["ret"]))
        )
        # where the BIOS may hold what is nobody's business
        if missing and function.name != "virConnectGetSysinfo":
            wrong.append((function.name, missing, call["out"], call["ret"], got))
    assert not wrong, "\n".join(map(str, wrong[:60]))


def test_nothing_is_a_bare_pointer(pairs):
    def pointers(value: Any) -> bool:
        if isinstance(value, dict):
            return "pointer" in value or "unreadable" in value or any(map(pointers, value.values()))
        return isinstance(value, list) and any(map(pointers, value))

    def is_bare(call: Event) -> bool:
        return pointers(call["args"]) or pointers(call["out"]) or pointers(call["ret"])

    assert not {function.name for function, _, _, call in pairs if is_bare(call)}
