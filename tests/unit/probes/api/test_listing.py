# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `list` shows of a function: its class, and what its arguments are decoded to."""

import json

from probes.api import listing
from probes.api.load import load_api

TABLE = load_api([])


def test_globs_choose_and_names_sort() -> None:
    lines = listing.functions(TABLE, ["virDomainSuspend", "virDomainDestroy*"], as_json=False)
    assert lines == [
        "write       virDomainDestroy(domain) = int",
        "write       virDomainDestroyFlags(domain, flags: virDomainDestroyFlagsValues) = int",
        "write       virDomainSuspend(domain) = int",
    ]
    assert len(listing.functions(TABLE, [], as_json=False)) == len(TABLE.functions)


def test_documents_strings_secrets_and_handles_are_told() -> None:
    def shown(name: str) -> str:
        return listing.signature(TABLE.by_name[name])

    assert shown("virDomainDefineXML") == "virDomainDefineXML(conn: connect, xml) = domain"
    assert "value: secret" in shown("virSecretSetValue")


def test_json_has_the_same_and_the_types_of_c() -> None:
    (line,) = listing.functions(TABLE, ["virDomainLookupByName"], as_json=True)
    assert json.loads(line) == {
        "function": "virDomainLookupByName",
        "library": "libvirt.so.0",
        "since": "0.0.3",
        "class": "read",
        "args": [
            {"name": "conn", "type": "virConnectPtr", "decoded": "connect"},
            {"name": "name", "type": "const char *", "decoded": "string"},
        ],
        "ret": {"type": "virDomainPtr", "decoded": "domain"},
    }
