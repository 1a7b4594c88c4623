# SPDX-License-Identifier: LGPL-2.1-or-later
"""A value is shown if it looks as one of its kind does, and hidden otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log.redact.kinds import PARTS, show
from log.redact.marker import REDACTED

KINDS = ("name", "uuid", "number", "word", "path", "uri", "xml", "parts", "words", "disk", "count")


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("name", "web1", "web1"),
        ("name", "web 1", REDACTED),
        ("uuid", "6695eb01-f6a4-8304-79aa-97f2502e193f", "6695eb01-f6a4-8304-79aa-97f2502e193f"),
        ("uuid", "secret", REDACTED),
        ("number", "-1.5GiB", "-1.5GiB"),
        ("number", "12x", REDACTED),
        ("path", "/var/lib/a.qcow2", "/var/lib/a.qcow2"),
        ("path", "user:secret@host", REDACTED),
        ("path", "qemu+ssh://u:secret@h/system", "qemu+ssh://u:<redacted>@h/system"),
        ("uri", "secret", REDACTED),
        ("xml", "<a/>", REDACTED),
        ("xml", "/a.xml", "/a.xml"),
        ("parts", "vnc,password=secret,port=5901", f"vnc,password={REDACTED},port=5901"),
        ("parts", "vnc,password=a,,b", REDACTED),
        ("parts", "secret,port=1", f"{REDACTED},{REDACTED}"),
        ("disk", "/a.img,size=5", "/a.img,size=5"),
        ("count", "4,maxvcpus=8", "4,maxvcpus=8"),
        ("masked", "x", REDACTED),
    ],
)
def test_value_is_shown_for_what_it_should_be(kind: str, value: str, shown: str) -> None:
    assert show(kind, value) == shown


@given(st.sampled_from(KINDS), st.text(max_size=12))
def test_no_kind_shows_what_stands_behind_a_password(kind: str, text: str) -> None:
    secret = f"Zq{text}9x"
    for around in ("password=", "vnc,password=", "a://u:", "x:"):
        assert secret not in show(kind, f"{around}{secret}@h") or kind in ("name", "word")


def test_parts_have_kinds_that_there_are() -> None:
    assert all(show(kind, "!\n") == REDACTED for kind in PARTS.values())
