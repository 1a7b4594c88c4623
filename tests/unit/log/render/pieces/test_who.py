# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who makes a call, and for whom a daemon makes it."""

import pytest

from log.client import OWN, UNKNOWN, Client
from log.render import text
from tests.unit.log.render.text_samples import AT, SERVED
from tests.unit.log_samples import CALLER, DESTROY

pytestmark = pytest.mark.usefixtures("utc")


def test_user_without_a_name_is_a_number():
    assert text.line(DESTROY._replace(caller=CALLER._replace(uid=1007, user=None))).startswith(
        "09:24:11.403660 41207 virsh 1007 vir"
    )


@pytest.mark.parametrize(
    "client, shown",
    [
        (OWN, "for itself"),
        (Client(sasl="alice"), "for alice"),
        (Client(x509="CN=web, O=\x1b[31m"), r'for "CN=web, O=\x1b[31m"'),
        (Client(pid=7, uid=1000, user="alice"), "for 7 alice"),
        (Client(address="10.0.0.1:99", uid=0), 'for 10.0.0.1:99 "0"'),
        (Client(pid=7, uid=1, claims=Client(uid=0)), 'for 7 "1" who says "0"'),
        (UNKNOWN, "for ?"),
        (Client(pid=7, user="alice", unproved=True), "for 7 alice (unproved)"),
    ],
    ids=str,
)
def test_client_is_named_by_what_is_known_of_it(client, shown: str):
    assert text.line(SERVED._replace(parent=None, client=client)).startswith(
        f"{AT[1]} 812 rpc-libvirtd root {shown} virDomainDestroyFlags("
    )
