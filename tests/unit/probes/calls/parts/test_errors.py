# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirt's formats make of a detail, in its releases and languages."""

from __future__ import annotations

import ctypes
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.api.load import load_api
from probes.calls.parts.errors import RaisedErrors, fill
from probes.internals.private import MOST_DETAILS

TABLE = load_api()


@pytest.mark.parametrize(
    ("form", "detail", "message"),
    [
        ("Domain not found: %s", "no domain 'x%sy'", "Domain not found: no domain 'x%sy'"),
        ("Domain not found: %1$s", "no domain 'x%1$sy'", "Domain not found: no domain 'x%1$sy'"),
        (
            r"Dom\1äne nicht gefunden: „%1$s“ "
            r"(%1$s)",
            r"\1 \g<0>",
            r"Dom\1äne nicht gefunden: „\1 \g<0>“ (\1 \g<0>)",
        ),
        ("100%% of %s", "it", "100% of it"),
        ("Domain not found", None, "Domain not found"),
        ("%s", "all there is", "all there is"),
    ],
)
def test_the_detail_goes_into_its_slots(form, detail, message):
    errors = RaisedErrors(TABLE, redact=False)
    errors.entered(1, 10, "virReportErrorHelper", {"arg0": 10, "arg1": 42})
    errors.entered(1, 11, "virErrorMsg", {"arg0": 42, "detail": detail})
    errors.returned(1, 12, "virErrorMsg", {"format": form})
    found = errors.error(1, 10)
    assert found is not None
    assert (found.code, found.name, found.domain, found.message) == (
        42,
        "VIR_ERR_NO_DOMAIN",
        "VIR_FROM_QEMU",
        message,
    )


def raised(form: str, *details: tuple[int, str | None]) -> str | None:
    given = [*details, *[(0, None)] * (MOST_DETAILS - len(details))]
    stack = sum(number << 64 * (i + 1) for i, (number, _) in enumerate(given))
    errors = RaisedErrors(TABLE, redact=False)
    texts = {f"text{i}": text for i, (_, text) in enumerate(given)}
    errors.entered(
        1,
        10,
        "virRaiseErrorFull",
        {"arg3": 10, "arg4": 42, "block": stack, "format": form, **texts},
    )
    found = errors.error(1, 10)
    assert found is not None
    return found.message


@pytest.mark.parametrize("form", ["%s", "%1$s"])
def test_messages_that_came_from_a_daemon_are_ready(form):
    assert raised(form, (1, "100%s sure")) == "100%s sure"


def test_an_error_may_have_a_format_of_its_own():
    for form in (
        "unsupported flags (0x%lx) in function %s",
        "unsupported flags (0x%1$lx) in function %2$s",
    ):
        assert raised(form, (1 << 40, None), (1, "f")) == (
            "unsupported flags (0x10000000000) in function f"
        )
    assert raised("%2$s, %1$d", (0xFFFFFFFF, None), (1, "f")) == "f, -1"
    assert raised("%5$s") == "(null)"


formats = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "%d",
                "%i",
                "%u",
                "%x",
                "%#x",
                "%o",
                "%ld",
                "%llu",
                "%lx",
                "%zu",
                "%08x",
                "%5d",
                "%-5d",
                "%+d",
                "%.3d",
            ]
        ),
        st.sampled_from(["%s", "%10s", "%-10s", "%.2s", "%c", "%%", "text ", "(", "0"]),
    ),
    max_size=MOST_DETAILS,
).map("".join)


@settings(max_examples=300)
@given(
    formats, st.lists(st.integers(0, (1 << 64) - 1), min_size=MOST_DETAILS, max_size=MOST_DETAILS)
)
def test_formats_are_those_of_printf(form, numbers):
    """As the C library has them."""
    kept = [ctypes.create_string_buffer(f"s{number % 1000}".encode()) for number in numbers]
    kinds = [
        kind
        for kind in re.findall(
            r"%[-+ "
            r"#0]*\d*(?:\.\d+)?(?:ll|l|z)?([diouxXcs%])",
            form,
        )
        if kind != "%"
    ]
    given = [
        ctypes.addressof(kept[i])
        if kind == "s"
        else 65 + numbers[i] % 26
        if kind == "c"
        else numbers[i]
        for i, kind in enumerate(kinds)
    ]
    out = ctypes.create_string_buffer(4096)
    ctypes.CDLL(None).snprintf(
        out, ctypes.c_size_t(4096), form.encode(), *map(ctypes.c_uint64, given)
    )
    texts = [kept[i].value.decode() if kind == "s" else None for i, kind in enumerate(kinds)]
    assert fill(form, list(zip(given, texts, strict=True))) == out.value.decode()


def test_threads_whose_end_was_not_told_are_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr("probes.calls.parts.errors.MOST_THREADS", 10)
    errors = RaisedErrors(TABLE, redact=False)
    for tid in range(20):
        errors.entered(tid, 10, "virSetError", {"block": 42 | 10 << 32, "message": "x"})
        errors.entered(tid, 10, "virReportErrorHelper", {"arg0": 10, "arg1": 42})
    assert [tid for tid in range(20) if errors.error(tid, 10)] == list(range(10, 20))
    assert len(errors._making) == 10
