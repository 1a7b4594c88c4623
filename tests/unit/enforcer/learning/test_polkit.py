# SPDX-License-Identifier: LGPL-2.1-or-later
"""`policy learn --polkit`: what permissions calls ask for is learned as what they do is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from enforcer import commands
from log.errors import TraceError
from log.events import Event
from log.values import Handle, Values
from probes.api.permissions import checks, only_reads
from tests.unit.rehearsal_samples import DAY, client, lines_file, on, served

NASTY = 'a"b\\c.[x]*/**/\u2028'


def learned(tmp_path: Path, *events: Event) -> str:
    file, output = lines_file(tmp_path / "calls", events), tmp_path / "learned.rules"
    assert commands.run_policy(["learn", "--polkit", str(file), "-o", str(output)]) == 0
    return output.read_text()


def rules(text: str) -> list[str]:
    return re.findall(r"^    (\{user: .*\}),$", text, re.M)


def test_permissions_depend_on_flags(tmp_path):
    live, config, current = (
        [served(10 * number + n, "virDomainSetMemoryFlags", args=on("web1", flags))
         for n in range(2)]
        for number, flags in enumerate((1, 2, 0))
    )  # fmt: skip
    name = 'name: [new RegExp("^web1$")]'
    for calls, permissions in (
        (live, ["domain.write"]),
        (config, ["domain.save", "domain.write"]),
        (current, ["domain.save", "domain.write"]),
    ):
        (tmp_path / "learned.rules").unlink(missing_ok=True)
        found = sorted(rules(learned(tmp_path, *calls)))
        assert found == [f'{{user: "1000", permission: ["{one}"], {name}}}' for one in permissions]


def test_what_stays_with_the_objects_that_it_was_done_to(tmp_path):
    calls = [
        served(10 * n + times, function, args=on(f"build-{n}"))
        for n in range(3)
        for times, function in enumerate(["virDomainSuspend", "virDomainQemuMonitorCommand"])
        for _ in range(2)
    ]
    wide, narrow = sorted(rules(learned(tmp_path, *calls)), key=len)
    assert 'permission: ["domain.suspend"]' in wide
    assert wide.endswith(r'name: [new RegExp("^build-[\\s\\S]*$")]}')
    assert '"domain.write"' in narrow and narrow.count("RegExp") == 3


def test_volumes_are_named_by_their_pools_and_once_is_not_enough(tmp_path, capsys):
    volume = Handle("volume", {"name": "v.1", "pool": "p", "driver": "storage"})
    calls: list[Event] = [
        *(served(n, "virStorageVolResize", args=Values({"vol": volume})) for n in range(2)),
        served(5, "virDomainReset"),
        served(6, client=client()._replace(uid=None, user=None, sasl="ann")),
        served(7, "virDomainAuthorizedSSHKeysSet"),
        served(8, "virDomainDestroy", failed=True, ret=-1),
        served(DAY // 10**9, "virDomainGetInfo", write=False),
    ]
    text = learned(tmp_path, *calls)
    assert rules(text) == [
        '{user: "1000", permission: ["storage-vol.resize"], '
        'name: [new RegExp("^p\\\\u002fv\\\\u002e1$")]}'
    ]
    assert "// 1000: domain.reset on web1: 1 call on 1 day by virsh" in text
    assert "// 1 of ann: virDomainDestroy, since polkit knows users of this host only" in text
    assert "// 1 of ci: virDomainAuthorizedSSHKeysSet, since libvirt's description names" in text
    assert "// 1 of ci: virDomainDestroy, since it failed" in text
    assert "it denies nothing, but logs" in capsys.readouterr().err


def test_names_can_not_leave_their_quotes(tmp_path):
    calls = [served(n, args=on(NASTY.replace("\u2028", ""))) for n in range(2)]
    calls += [served(9 + n, args=on(NASTY)) for n in range(2)]
    text = learned(tmp_path, *calls)
    (rule,) = rules(text)
    (name,) = re.findall(r'new RegExp\("\^(.*)\$"\)', rule)
    assert re.sub(r"\\\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), name) == (
        NASTY.replace("\u2028", "")
    )
    assert "\u2028" not in text and "since no policy can spell its name" in text


def test_every_permission_is_one_of_a_kind_that_is_known():
    kinds = {check.permission.partition(".")[0] for found in checks().values() for check in found}
    assert kinds == {
        "connect", "domain", "interface", "network", "network-port", "node-device", "nwfilter",
        "nwfilter-binding", "secret", "storage-pool", "storage-vol",
    }  # fmt: skip
    assert not only_reads("domain.read-secure") and only_reads("connect.search-domains")


def test_nothing_recorded_is_nothing_to_learn(tmp_path):
    with pytest.raises(TraceError, match="nothing to learn from"):
        learned(tmp_path)
