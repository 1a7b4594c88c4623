# SPDX-License-Identifier: LGPL-2.1-or-later
"""A polkit of a daemon's own, on a message bus of its own: rules come in; what asks there is
answered by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

from tests.needs import ROOT

POLKITD = "/usr/lib/polkit-1/polkitd"
CONNECT = "org.libvirt.unix.manage"
# in the daemon's mount namespace, where /run is empty; polkitd is started when it is asked
START = r"""
mkdir /run/dbus
mount --bind "$1/polkit/rules.d" /etc/polkit-1/rules.d
mount --bind "$1/polkit/actions" /usr/share/polkit-1/actions
env -u NOTIFY_SOCKET dbus-daemon --config-file="$1/polkit/bus.conf" --fork
"""
BUS = """
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <servicedir>{folder}</servicedir>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""
SERVICE = """
[D-BUS Service]
Name=org.freedesktop.PolicyKit1
Exec={folder}/polkitd
"""
ACTION = """
<action id={id}>
  <description>a permission of libvirt's</description>
  <message>nobody is asked</message>
  <defaults>
    <allow_any>no</allow_any>
    <allow_inactive>no</allow_inactive>
    <allow_active>no</allow_active>
  </defaults>
</action>
"""
# The kinds of objects are spelled as libvirt's actions are.
PERMISSIONS = ROOT / "probes" / "api" / "api_access.tsv"


def actions() -> Iterator[str]:
    """The ids of libvirt's own actions: one for each permission that a function asks for."""
    found = {
        tuple(check.strip().partition("/")[0].lstrip("!").split(":")[:2])
        for line in PERMISSIONS.read_text().splitlines()
        if not line.startswith(("#", "function\t"))
        for check in line.split("\t")[4].split(",")
        if check.strip()
    }
    yield CONNECT
    for kind, permission in sorted(found):
        yield f"org.libvirt.api.{kind}.{permission}".replace("_", "-")


def prepare(folder: Path, rules: str) -> None:
    """Put there what START starts from."""
    for name in ("rules.d", "actions"):
        (folder / name).mkdir(parents=True)
    (folder / "start").write_text(START)
    (folder / "bus.conf").write_text(BUS.format(folder=folder))
    (folder / "polkit.service").write_text(SERVICE.format(folder=folder))
    answer(folder, rules)
    declared = "".join(ACTION.format(id=quoteattr(id)) for id in actions())
    (folder / "actions" / "org.libvirt.policy").write_text(
        f'<?xml version="1.0"?><policyconfig>{declared}</policyconfig>'
    )


def answer(folder: Path, rules: str | None) -> None:
    """What a polkitd that is started from now on says; None: there will be none."""
    start = folder / "polkitd"
    if rules is None:
        start.unlink()
        return
    start.write_text(f"#!/bin/sh\nexec {POLKITD} --no-debug\n")
    start.chmod(0o755)
    (folder / "rules.d" / "50-test.rules").write_text(rules)
