# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon's drop-in: written, replaced and taken away in a root of its own."""

from __future__ import annotations

import pytest

from enforcer import service
from enforcer.library import library_path
from log.errors import TraceError
from tests.enforced import library

UNIT = "[Service]\nType=notify\nExecStart=/usr/sbin/libvirtd $ARGS\n"
APPLY = "libvirtd.service is enforced after: systemctl daemon-reload && systemctl restart libvirtd.service"


@pytest.fixture
def root(tmp_path):
    library()
    folder = tmp_path / "lib/systemd/system"
    folder.mkdir(parents=True)
    (folder / "libvirtd.service").write_text(UNIT)
    return tmp_path


def test_drop_in_is_written_and_removed(root):
    drop_in = root / "etc/systemd/system/libvirtd.service.d/libvirt-trace.conf"
    assert service.enforce("libvirtd", b"compiled", "deny", root) == [APPLY]
    assert drop_in.read_text().splitlines()[1:] == [
        "[Service]",
        f"Environment=LD_PRELOAD={library_path()}",
        "Environment=LIBVIRT_TRACE_POLICY=/etc/libvirt-trace/libvirtd.service.bin",
        "Environment=LIBVIRT_TRACE_ON_ERROR=deny",
    ]
    assert (root / "etc/libvirt-trace/libvirtd.service.bin").read_bytes() == b"compiled"
    assert service.enforce("libvirtd.service", None, "allow", root) == [APPLY]  # the system policy alone
    assert drop_in.read_text().splitlines()[1:] == [
        "[Service]",
        f"Environment=LD_PRELOAD={library_path()}",
        "Environment=LIBVIRT_TRACE_ON_ERROR=allow",
    ]
    assert service.remove("libvirtd", root) == [
        "libvirtd.service is not enforced any more after: systemctl daemon-reload && systemctl restart libvirtd.service"
    ]
    assert not drop_in.parent.exists() and not (root / "etc/libvirt-trace/libvirtd.service.bin").exists()


def test_what_cannot_work_is_refused(root):
    with pytest.raises(TraceError, match=r'^there is no unit libvirdt.service; did you mean "libvirtd.service"[?]$'):
        service.enforce("libvirdt", None, "allow", root)
    with pytest.raises(TraceError, match=r"^there is no unit virtqemud.service: here libvirtd.service does its work$"):
        service.enforce("virtqemud", None, "allow", root)
    with pytest.raises(TraceError, match=r'^"../x" is no name of a service$'):
        service.enforce("../x", None, "allow", root)
    with pytest.raises(TraceError, match=r"^libvirtd.service is not enforced: there is no "):
        service.remove("libvirtd", root)
    (root / "lib/systemd/system/libvirtd.service").write_text(UNIT + "Environment=LD_PRELOAD=/x.so\n")
    with pytest.raises(TraceError, match=r"^libvirtd.service already preloads a library"):
        service.enforce("libvirtd", None, "allow", root)


def test_confinement_is_pointed_out(root):
    (root / "sys/kernel/security/apparmor").mkdir(parents=True)
    (root / "sys/fs/selinux").mkdir(parents=True)
    (root / "sys/fs/selinux/enforce").write_text("1\n")
    profile = root / "etc/apparmor.d/usr.sbin.libvirtd"
    profile.parent.mkdir(parents=True)
    profile.write_text("/usr/sbin/libvirtd {\n  /etc/** r,\n}\n")
    said = service.enforce("libvirtd", None, "allow", root)
    assert said[0].startswith("AppArmor confines /usr/sbin/libvirtd: its profile") and str(library_path()) in said[0]
    assert said[1].startswith("SELinux clears LD_PRELOAD") and said[2] == APPLY
    profile.write_text("/usr/sbin/libvirtd {\n  /** rwmkl,\n}\n")
    assert len(service.enforce("libvirtd", None, "allow", root)) == 2
