# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's example with a real daemon prints what the README shows."""

from __future__ import annotations

import pytest

from probes.kernel.loading.confined import returns_kill_confined
from tests import readme


def test_change_is_seen_in_virsh_and_in_the_daemon(libvirtd, tmp_path):
    if returns_kill_confined():
        pytest.skip("on this kernel there are no return probes, hence no results")
    example = readme.example("sudo libvirt-trace -w --tree")
    guest = libvirtd.create("web1")
    try:
        printed = readme.run_meanwhile(
            example,
            readme.bin_folder(tmp_path),
            {"LIBVIRT_DEFAULT_URI": libvirtd.uri},
            [libvirtd.pid],
        )
    finally:
        libvirtd.end(guest)

    assert readme.comparable(printed) == readme.comparable(example.output)
