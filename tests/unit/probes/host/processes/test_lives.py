# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records of tracepoints as bytes: what is told of them, and that damaged ones do no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.host.processes.happened import parse
from probes.host.processes.lives import Exec, Exited, Forked, OutOfMemory, Signalled
from probes.kernel import records
from tests.lives import ended, executed, forked, signalled, starved


def test_every_kind():
    assert parse(forked(1, 20, 10)) == Forked(1, 20, 10, 77)
    assert parse(executed(2, 20, b"/usr/bin/virsh", b"virsh\0list\0")) == Exec(
        2, 20, "virsh", "/usr/bin/virsh", b"virsh\0list\0", 77, 10, 0, 6, 1000, 1001, 5, 8, 1, 99
    )
    assert parse(ended(3, 20, 21)) == Exited(3, 20, 21, False)
    assert parse(ended(3, 20, 20, last=True)) == Exited(3, 20, 20, True)
    assert parse(signalled(4, 20, 15, 0, 30)) == Signalled(4, 20, 20, 15, 0, 30, 1000, "kill")
    assert parse(signalled(4, 20, 11, 1, 0)) == Signalled(4, 20, 20, 11, 1, None, None, None)
    assert parse(starved(5, 20)) == OutOfMemory(5, 20)
    assert parse(bytes([9]) + forked(1, 20, 10)[1:]) is None


@pytest.mark.parametrize(
    ("path", "flags", "exe"),
    [
        (b"/a", 0, "/a"),
        (b"/a\xff/b c", 0, "/a\udcff/b c"),
        (b"/usr/bin/virsh", records.TASK_DELETED, "/usr/bin/virsh (deleted)"),
        (b"/deep/down", records.TASK_CUT, None),
    ],
)
def test_path_of_a_program(path, flags, exe):
    told = parse(executed(2, 20, path, flags=flags))
    assert isinstance(told, Exec)
    assert (told.exe, told.cmdline) == (exe, None)


@given(st.integers(0, 8), st.binary(max_size=300))
def test_damaged_records_do_no_harm(kind, garbage):
    parse(bytes([kind]) + garbage)


@given(
    st.sampled_from(
        [forked(1, 2, 3), executed(1, 2, b"/a/b", b"c"), ended(1, 2, 3), signalled(1, 2, 3, 4, 5)]
    ),
    st.integers(0, 120),
)
def test_short_records_do_no_harm(raw, length):
    parse(raw[:length])
