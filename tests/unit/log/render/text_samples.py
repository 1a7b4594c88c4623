# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls, and what a daemon does for them, for the tests of lines of text."""

from log.client import Client
from log.events import CallError, Command, DomainEvent
from log.values import Values
from tests.unit.log_samples import CONNECT, DESTROY, WEB1

NO_DOMAIN = CallError(
    42,
    "VIR_ERR_NO_DOMAIN",
    "VIR_FROM_QEMU",
    "Domain not found: no domain with matching name 'nosuch'",
)
LOOKUP = DESTROY._replace(
    function="virDomainLookupByName",
    args=Values({"conn": CONNECT, "name": "nosuch"}),
    ret=None,
    returns="pointer",
    failed=True,
    error=NO_DOMAIN,
    duration_ns=212_300,
)
HEAD = "09:24:11.403660 41207 virsh root "
DAEMON = DESTROY.caller._replace(pid=812, exe="/usr/sbin/libvirtd")
CLIENT = Client(pid=41207, uid=0, user="root", exe="/usr/bin/virsh")
MONITOR = Command(
    DESTROY.time + 2000, 1_000, 9, "rpc-libvirtd", DAEMON, '{"execute":"quit"}', "9-1"
)
STOPPED = DomainEvent(
    DESTROY.time + 3000, 9, "rpc-libvirtd", DAEMON, WEB1, "stopped", "destroyed", "9-1"
)
SERVED = DESTROY._replace(
    time=DESTROY.time + 1000,
    tid=9,
    comm="rpc-libvirtd",
    caller=DAEMON,
    client=CLIENT,
    parent="7-1",
    duration_ns=3_900_000,
    children=(MONITOR, STOPPED),
)
ASKED = DESTROY._replace(children=(SERVED,))
AT = {1: "09:24:11.403661", 2: "09:24:11.403662", 3: "09:24:11.403663"}  # us after DESTROY
FUNCTION = "virDomainDestroyFlags(domain=web1, flags=VIR_DOMAIN_DESTROY_GRACEFUL) = 0"
