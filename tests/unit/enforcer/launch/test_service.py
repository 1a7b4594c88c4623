# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon's drop-in: written, replaced and taken away in a root of its own."""

from __future__ import annotations

import pytest

from enforcer.launch import service
from enforcer.launch.library import library_path
from log.errors import TraceError
from tests.enforced import library

UNIT = "[Service]\nType=notify\nExecStart=/usr/sbin/libvirtd $ARGS\n"
APPLY = (
    "libvirtd.service is enforced after: systemctl daemon-reload && systemctl restart "
    "libvirtd.service"
)


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
    # the system policy alone
    assert service.enforce("libvirtd.service", None, "allow", root) == [APPLY]
    assert drop_in.read_text().splitlines()[1:] == [
        "[Service]",
        f"Environment=LD_PRELOAD={library_path()}",
        "Environment=LIBVIRT_TRACE_ON_ERROR=allow",
    ]
    assert service.remove("libvirtd", root) == [
        (
            "libvirtd.service is not enforced any more after: systemctl daemon-reload && systemctl "
            "restart libvirtd.service"
        )
    ]
    assert (
        not drop_in.parent.exists()
        and not (root / "etc/libvirt-trace/libvirtd.service.bin").exists()
    )


def test_daemons_that_ask_others_are_named_until_they_are_enforced(root):
    folder = root / "lib/systemd/system"
    for name in ("virtqemud", "virtproxyd", "virtnetworkd"):
        (folder / f"{name}.service").write_text(UNIT.replace("libvirtd", name))
    said = [service.enforce(name, None, "allow", root) for name in ("virtnetworkd", "virtqemud")]
    said.append(service.enforce("virtproxyd", None, "allow", root))
    assert [lines[:-1] for lines in said] == [
        [
            "not enforced, and so for whom they ask virtnetworkd.service can't be told: "
            "virtproxyd.service, virtqemud.service"
        ],
        [
            "not enforced, and so for whom they ask virtqemud.service can't be told: "
            "virtproxyd.service"
        ],
        [],
    ]


def test_what_cannot_work_is_refused(root):
    with pytest.raises(
        TraceError,
        match=(
            r"^there is no unit libvirdt.service; did you mean "
            r'"libvirtd.service"[?]$'
        ),
    ):
        service.enforce("libvirdt", None, "allow", root)
    with pytest.raises(
        TraceError,
        match=(
            r"^there is no unit virtqemud.service: here "
            r"libvirtd.service does its work$"
        ),
    ):
        service.enforce("virtqemud", None, "allow", root)
    with pytest.raises(TraceError, match=r'^"../x" is no name of a service$'):
        service.enforce("../x", None, "allow", root)
    with pytest.raises(TraceError, match=r"^libvirtd.service is not enforced: there is no "):
        service.remove("libvirtd", root)
    (root / "lib/systemd/system/libvirtd.service").write_text(
        UNIT + "Environment=LD_PRELOAD=/x.so\n"
    )
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
    assert (
        said[0].startswith("AppArmor confines /usr/sbin/libvirtd: its profile")
        and str(library_path()) in said[0]
    )
    assert said[1].startswith("SELinux clears LD_PRELOAD") and said[2] == APPLY
    profile.write_text("/usr/sbin/libvirtd {\n  /** rwmkl,\n}\n")
    assert len(service.enforce("libvirtd", None, "allow", root)) == 2


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("Environment=A=b \\\n  LD_PRELOAD=/x.so", "already preloads a library"),
        ('Environment="LD_PRELOAD=/x.so"', "already preloads a library"),
        ("UnsetEnvironment=LANG LD_PRELOAD", "has UnsetEnvironment=LD_PRELOAD"),
        ("EnvironmentFile=-/etc/default/libvirtd", "sets LD_PRELOAD in .*/etc/default/libvirtd"),
        ("EnvironmentFile=/etc/default/*", "sets LD_PRELOAD in .*/etc/default/libvirtd"),
    ],
)
def test_an_environment_that_would_win_is_refused(root, setting, complaint):
    (root / "etc/default").mkdir(parents=True)
    (root / "etc/default/libvirtd").write_text("# LD_PRELOAD=/no.so\nLD_PRELOAD=/x.so\n")
    folder = root / "etc/systemd/system/libvirtd.service.d"
    folder.mkdir(parents=True)
    (folder / "own.conf").write_text(f"[Service]\n{setting}\n")
    with pytest.raises(TraceError, match=f"^libvirtd.service {complaint}"):
        service.enforce("libvirtd", None, "allow", root)
    (folder / "own.conf").write_text(
        f"[Service]\n{setting}\nEnvironment=\nUnsetEnvironment=\nEnvironmentFile=\n"
    )
    assert service.enforce("libvirtd", None, "allow", root) == [APPLY]


SHOWN = """\
Id=libvirtd.service
LoadState=loaded
Environment={environment}
EnvironmentFiles=/etc/default/libvirtd (ignore_errors=yes)
UnsetEnvironment=
ExecStart={{ path=/usr/bin/first ; argv[]=/usr/bin/first ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 }}
ExecStart={{ path=/usr/sbin/libvirtd ; argv[]=/usr/sbin/libvirtd $ARGS ; ignore_errors=no ; start_time=[n/a] ; pid=0 ; code=(null) }}
"""  # noqa: E501


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """systemctl(TEXT, status=0): systemd runs here, and this is what it shows."""

    def shows(text: str, status: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "shown").write_text(text)
        (folder / "systemctl").write_text(
            f'#!/bin/sh\necho "$*" >{folder}/asked\ncat {folder}/shown\nexit {status}\n'
        )
        (folder / "systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setattr(service, "BOOTED", tmp_path)

    return shows


def test_systemd_is_asked_what_a_unit_is(systemctl, tmp_path):
    systemctl(
        SHOWN.format(
            environment=(f'LANG=C "A=b c" LD_PRELOAD={library()} LIBVIRT_TRACE_ON_ERROR=allow')
        )
    )
    unit = service.find_unit("libvirt-bin")  # an alias
    assert unit == service.Unit(
        "libvirtd.service",
        "/usr/sbin/libvirtd",
        (str(library()),),
        ("/etc/default/libvirtd",),
        False,
    )
    assert (tmp_path / "bin/asked").read_text().split()[-2:] == ["--", "libvirt-bin.service"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Id=x.service\nLoadState=not-found\n", "^there is no unit x.service"),
        (
            "Id=x.service\nLoadState=masked\n",
            "^x.service can't be started: systemd says that it is masked$",
        ),
        (
            "Id=x.service\nLoadState=bad-setting\n",
            "^x.service can't be started: systemd says that it is bad-setting$",
        ),
    ],
)
def test_what_systemd_cannot_start_is_refused(systemctl, text, complaint):
    systemctl(text)
    with pytest.raises(TraceError, match=complaint):
        service.find_unit("x")


def test_without_systemd_the_files_are_read(systemctl, root):
    systemctl("", 1)
    with pytest.raises(TraceError, match=r"^there is no unit nosuch-[.]service"):
        service.find_unit("nosuch-")
    assert service.find_unit("libvirtd", root).program == "/usr/sbin/libvirtd"
