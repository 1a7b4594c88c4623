# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirt's daemons call for their clients has a stub, or a reason why not: the oracle is
what they import.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from enforcer.compiled.conditions import covered_names
from enforcer.policy.arrivals import (
    CLIENT_ONLY,
    IN_ITS_LOOP,
    INCOMING,
    NOT_JUDGED,
    STANDS_FOR,
    STEPS,
)
from enforcer.policy.reading.reading import read_policy
from probes.api.load import stub_table
from tests.needs import lack

TABLE = stub_table()
IMPORTED = re.compile(r"\*UND\*\s+\S+\s+\(?LIBVIRT_\S+\s+(\w+)$", re.MULTILINE)
# of this host, or of a root that LIBVIRT_TRACE_DAEMONS names
DAEMONS = os.environ.get("LIBVIRT_TRACE_DAEMONS", "/usr/sbin")
# those that serve every kind of call
GENERAL = re.compile("^(lib)?virt(d|qemud|proxyd|lxcd|xend|vboxd|chd)$")


def imported(daemon: Path) -> set[str]:
    printed = subprocess.check_output(["objdump", "-T", str(daemon)], text=True)
    return set(IMPORTED.findall(printed))


@pytest.fixture(scope="module")
def daemons() -> list[Path]:
    """Those that open connections for clients: virtlogd and virtlockd serve libvirt itself."""
    found = sorted(Path(DAEMONS).glob("*virt*d")) if shutil.which("objdump") else []
    found = [daemon for daemon in found if "virConnectOpenAuth" in imported(daemon)]
    if not found:
        lack("unit", "no objdump, or no daemon of libvirt's")
    return found


def test_what_daemons_import_has_a_stub_or_a_reason(daemons):
    for daemon in daemons:
        names = imported(daemon)
        assert names, daemon
        left = {
            name
            for name in names - TABLE.by_name.keys()
            if not any(fnmatch.fnmatchcase(name, glob) for glob in NOT_JUDGED)
        }
        assert left == set(), daemon


def test_no_reason_hides_a_function_that_acts_for_a_client(daemons):
    """By their names: what is done to domains and other objects, and what asks libvirt's access
    control whether it may.
    """
    acting = re.compile(
        r"^vir(Domain|Network|Storage|NodeDevice|NWFilter|Secret|Interface)[A-Z]|EnsureACL$"
    )
    for daemon in daemons:
        found = {name for name in imported(daemon) if acting.search(name)}
        assert found - TABLE.by_name.keys() == set(), daemon


def test_functions_that_never_arrive_are_known(daemons):
    for daemon in daemons:
        if not GENERAL.match(daemon.name):
            continue
        judged = {
            f.name
            for f in TABLE.functions
            if f.access != "plumbing" and f.library == "libvirt.so.0"
        }
        libvirt = (
            subprocess.check_output(["ldd", str(daemon)], text=True)
            .split("libvirt.so.0 => ")[1]
            .split()[0]
        )
        exported = subprocess.check_output(["objdump", "-T", libvirt], text=True)
        there = {name for name in judged if re.search(rf" {name}$", exported, re.MULTILINE)}
        never = there - imported(daemon)
        assert never == there & CLIENT_ONLY.keys() and not never & IN_ITS_LOOP.keys()


def rule(functions: str, action: str = "deny", more: str = "") -> set[str]:
    text = f'[[rule]]\nname = "r"\naction = "{action}"\nfunction = {functions}\n{more}'
    (found,) = read_policy(text, "p.toml", TABLE).rules
    return set(covered_names(found, TABLE))


def test_a_rule_on_any_migration_covers_its_steps():
    assert len(STEPS) == 18
    for name in ("virDomainMigrate", "virDomainMigrateToURI3"):
        for action in ("deny", "audit", "allow"):
            assert rule(f'["{name}"]', action) == {name, *STEPS}
    assert rule('["virDomainMigrateSetMaxSpeed"]') == {"virDomainMigrateSetMaxSpeed"}
    assert rule('["virConnectSetIdentity"]') == {
        "virConnectSetIdentity",
        "virConnectSetIdentityEnsureACL",
    }
    everything = (
        read_policy('[[rule]]\nname = "r"\naction = "deny"\nclass = "write"', "p.toml", TABLE)
        .rules[0]
        .functions
    )
    assert STEPS | STANDS_FOR.keys() <= set(everything)


def test_what_makes_guests_covers_incoming_ones_where_it_forbids():
    for name in ("virDomainCreateXML", "virDomainDefineXML"):
        assert rule(f'["{name}"]') >= INCOMING and rule(f'["{name}"]', "audit") >= INCOMING
        assert not INCOMING & rule(f'["{name}"]', "allow")
    assert "virDomainCreateLinux" in rule('["virDomainCreateXML"]', "allow")
    assert not INCOMING & rule('["virNetworkDefineXML"]')


def test_what_a_rule_leaves_out_is_left_out_as_what_it_arrives_as():
    for more, is_left in (
        ("", True),
        ('"!virConnectSetIdentity"', False),
        ('"!virConnectGet*"', True),
    ):
        text = f'[[rule]]\nname = "r"\naction = "deny"\nfunction = ["virConnect*", {more}]\n'
        names = read_policy(text, "p.toml", TABLE).rules[0].functions
        assert ("virConnectSetIdentityEnsureACL" in names) is is_left, more
