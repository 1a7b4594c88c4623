# SPDX-License-Identifier: LGPL-2.1-or-later
"""What modular daemons do for a client is linked to its calls: through the proxy, and where one
daemon asks another.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.modular.conftest import Modular
from tests.needs import PYTHON, ROOT
from tests.system.test_identity import NOBODY

CALLS = """
import libvirt, os, sys
connection = libvirt.open(sys.argv[1])
connection.networkDefineXML("<network><name>new</name><bridge name='vt-n'/></network>").undefine()
domain = connection.lookupByName("web1")
domain.suspend()
domain.resume()
"""
NETWORK, GUEST = (
    ("virNetworkDefineXML", "virNetworkUndefine"),
    ("virDomainSuspend", "virDomainResume"),
)


@pytest.fixture(scope="module")
def plain(only_one) -> Iterator[Modular]:
    """None of them is enforced."""
    with Modular({}) as daemons:
        assert daemons.create("web1").returncode == 0
        yield daemons


@pytest.mark.parametrize(
    ("way", "before"), [("uri", ()), ("proxy_uri", ("virtproxyd",))], ids=["directly", "proxy"]
)
def test_calls_of_each_daemon_have_the_one_before_as_parent(plain, trace, way, before):
    functions = [word for name in (*NETWORK, *GUEST) for word in ("-f", name)]
    tracer = trace(
        "--both", *functions, "--", *NOBODY, PYTHON, "-c", CALLS, getattr(plain, way),
        attached=False,
    )  # fmt: skip
    result = tracer.finish()
    pids = {plain.pid(name): name for name in ("virtproxyd", "virtqemud", "virtnetworkd")}
    by_id = {call["id"]: call for call in result.calls()}
    for function in (*NETWORK, *GUEST):
        last = "virtnetworkd" if function in NETWORK else "virtqemud"
        (call,) = (
            call for call in result.calls(function) if pids.get(call["pid"], "client") == last
        )
        chain = []
        while call["client"] is not None:
            chain.append(pids[call["pid"]])
            # every one of them knows for whom it is, and who asks
            assert (call["client"]["user"], call["client"]["exe"]) == (
                "nobody",
                os.path.realpath(PYTHON),
            )
            asks = by_id[call["parent"]]
            assert call["client"]["peer"]["pid"] == asks["pid"]
            assert asks["function"] == function
            call = asks
        on_the_way = ["virtqemud"] if function in NETWORK else []
        assert chain == [last, *on_the_way, *before], function
        assert call["pid"] == result.calls(function)[-1]["pid"] and call["user"] == "nobody"
    assert result.end["lost"] == 0


def test_one_line_tells_the_share_of_the_daemons_behind_the_proxy(plain):
    def shown(*options: str) -> list[str]:
        command = [PYTHON, str(ROOT / "tracer.py"), "-w", *options, "--", "virsh", "-q", "-c"]
        lines = subprocess.check_output(
            [*command, plain.proxy_uri, "suspend web1; resume web1"],
            text=True,
            stderr=subprocess.DEVNULL,
        ).splitlines()
        return [line for line in lines if "virDomain" in line]

    assert [line.split(" = 0 <")[0].split()[-1] for line in shown()] == [
        "virDomainSuspend(domain=web1)",
        "virDomainResume(domain=web1)",
    ]
    assert all(", virtproxyd " in line for line in shown())
    tree = [re.search(r"( +)virDomain", line) for line in shown("--tree")]
    assert [len(found[1]) for found in tree if found] == [1, 3, 5, 1, 3, 5]


def test_guests_end_is_ascribed_through_the_proxy(plain, trace):
    daemon = ("-p", str(plain.pid("virtqemud")), "-p", str(plain.pid("virtproxyd")))
    tracer = trace("--both", "-f", "virDomainDestroy", "-f", "virDomainCreateXML", *daemon)
    for words in (("create", str(plain.describe("web2"))), ("destroy", "web2")):
        assert plain.virsh(*words, uri=plain.proxy_uri).returncode == 0
    result = tracer.stop()
    calls = {call["id"]: call for call in result.calls()}
    stopped = [
        event
        for event in result.events
        if event["type"] == "domain" and event["event"] == "stopped"
    ]
    assert [event["detail"] for event in stopped] == ["destroyed"]
    by = calls[stopped[0]["parent"]]
    assert (by["function"], by["pid"]) == ("virDomainDestroy", plain.pid("virtqemud"))
    assert calls[by["parent"]]["pid"] == plain.pid("virtproxyd")
