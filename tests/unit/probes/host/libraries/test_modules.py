# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where libvirt's own code is in a process: lists of mappings, which anybody can give any
names, come in.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.host.libraries import symbols
from probes.host.libraries.modules import MOST_BYTES, Modules

HEAD = "7f0000001000-7f0000002000 r-xp 00000000 08:01 12345    "


def write(proc: Path, lines: list[str]) -> None:
    (proc / "7" / "map_files").mkdir(parents=True, exist_ok=True)
    (proc / "7" / "maps").write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    ("line", "is_own"),
    [
        (f"{HEAD}/usr/lib/libvirt.so.0.9000.0", True),
        (f"{HEAD}/usr/lib/libvirt.so.0 (deleted)", True),
        (f"{HEAD}/usr/lib/libvirt-qemu.so.0", True),
        (f"{HEAD}/usr/lib/libvirt/storage-file/libvirt_storage_file_fs.so", True),
        (f"{HEAD}/usr/lib/libvirt/lock-driver/lockd.so", True),
        (f"{HEAD}/usr/lib/libvirtmod.so", False),
        (f"{HEAD}/usr/lib/libvirt.so.0/program", False),
        (f"{HEAD.replace('r-xp', 'r--p')}/usr/lib/libvirt.so.0", False),
    ],
)
def test_own_code_goes_by_the_file_name(tmp_path: Path, line: str, is_own: bool) -> None:
    write(tmp_path, ["7f0000000000-7f0000001000 r-xp 00000000 08:01 12344    /usr/bin/x", line])
    place = tmp_path / "7" / "map_files" / "7f0000001000-7f0000002000"
    place.touch(0o644)
    if os.geteuid() == 0:
        assert Modules(tmp_path).has(7, 0x7F0000001800) is is_own
        place.chmod(0o666)
    assert not Modules(tmp_path).has(7, 0x7F0000001800)


@pytest.mark.parametrize("name", ["a", "/a", "/libvirt", "/libvirt_driver_a"])
@pytest.mark.timeout(20, method="thread")  # a signal would wait for the search
def test_a_list_of_mappings_takes_no_longer_than_it_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With a search whose time grows with the square of it, this would take hours."""
    line = HEAD.replace("r-xp", "r--p") + "/ r-xp " + name * (MOST_BYTES // len(name))
    write(tmp_path, [line])
    assert not Modules(tmp_path).has(7, 0x7F0000001800)
    monkeypatch.setattr(symbols, "_read_maps", lambda pid: line.encode())
    assert symbols.Symbols().describe(7, 0x7F0000001800) is None
