# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `policy check` says of rules that mean less than they seem to."""

from __future__ import annotations

from enforcer.policy.notes import notes
from enforcer.policy.reading.reading import read_policy
from probes.api.load import stub_table

TABLE = stub_table()


def noted(*rules: str) -> list[str]:
    text = "".join(f'[[rule]]\nname = "r{i}"\n{rule}\n' for i, rule in enumerate(rules))
    return [line.split(": ", 1)[1] for line in notes(read_policy(text, "p.toml", TABLE), TABLE)]


def test_functions_that_never_arrive_in_a_daemon():
    (note,) = noted('action = "deny"\nfunction = ["virConnectOpenReadOnly", "virDomainGetInfo"]')
    assert note == (
        'rule "r0" can\'t bind in a daemon by virConnectOpenReadOnly: a daemon calls '
        "virConnectOpenAuth, with VIR_CONNECT_RO in its flags"
    )
    assert noted('action = "deny"\nfunction = ["virConnectOpen*", "virDomainGet*"]') == []


def test_streams_are_moved_by_the_daemon_itself():
    for glob in ("virStreamSend", "virStreamS*"):
        (note,) = noted(f'action = "deny"\nfunction = "{glob}"')
        assert note == (
            f'rule "r0" can\'t bind in a daemon by {glob}: what goes through a stream is moved by '
            "the daemon itself; deny what begins it, such as virStorageVolUpload"
        )


def test_allowing_by_program():
    (note,) = noted('action = "allow"\nclass = "write"\nexe = "/usr/bin/virsh"')
    assert note.startswith('rule "r0" allows by exe, which proves little') and note.endswith(
        "say user, too"
    )
    assert noted('action = "deny"\nclass = "write"\nexe = "/usr/bin/virsh"') == []


def test_names_that_can_be_changed():
    keep = 'action = "deny"\nfunction = ["virDomainDestroy*"]\nobject = "web*"'
    rename = 'action = "deny"\nfunction = "virDomainRename"'
    assert noted(keep) == [
        (
            'rule "r0" goes by names, and a domain can be renamed first: deny '
            "virDomainRename, too, or say uuid"
        )
    ]
    assert (
        noted(keep, rename)
        == noted(
            keep.replace("object", "uuid").replace("web*", "6695eb01-f6a4-8304-79aa-97f2502e193f")
        )
        == []
    )
    assert noted('action = "deny"\nfunction = ["virNetworkDestroy"]\nobject = "web*"') == []
