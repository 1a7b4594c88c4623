# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever a policy is meant for, and however libvirt is loaded there: each call is denied or
marked, never silent.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.enforced import COMMAND, KEEP_TEST, enforced_environment, library, put
from tests.needs import PATIENCE, PYTHON

NOBODY = "setpriv --reuid nobody --regid nogroup --clear-groups"
SUSPEND = "virsh -q -c test:///default suspend test"
PAST = "not enforced"
# an auditor that has the loader not find the library
AUDITOR = """
#include <string.h>
unsigned la_version(unsigned version) { return version; }
char *la_objsearch(const char *name, void **cookie, unsigned flag)
{
	return strstr(name, "enforcer") ? 0 : (char *)name;
}
"""


@pytest.fixture(scope="module")
def in_the_open() -> Iterator[Path]:
    """A folder that everybody may look into."""
    path = Path("/usr/local/lib/libvirt-trace-odd")
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def marks(tmp_path):
    """marks(SCRIPTS): verdicts' actions in the log of a shell under `enforce --policy` that
    runs them in turn.
    """
    library()
    (tmp_path / "policy.toml").write_text(KEEP_TEST)

    def run(scripts: list[str]) -> list[str | None]:
        script = "\n".join(f"({line}) </dev/null >/dev/null || true" for line in scripts)
        traced = [*COMMAND, "--json", "-f", "virDomainSuspend", "--"]
        enforced = [*COMMAND, "enforce", "--policy", str(tmp_path / "policy.toml"), "--"]
        done = subprocess.run(
            [*traced, *enforced, "sh", "-c", script],
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=120 * PATIENCE,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"type":')]
        events = [json.loads(line) for line in lines]
        assert events and events[-1]["type"] == "end", done
        calls = [event for event in events if event.get("function") == "virDomainSuspend"]
        return [(call["verdict"] or {}).get("action") for call in calls]

    return run


def test_descendants_with_and_without_the_library(marks):
    cases = {
        SUSPEND: "deny",
        f"LD_PRELOAD= {SUSPEND}": PAST,
        f"LD_PRELOAD= exec {SUSPEND}": PAST,
        f"exec env -i {SUSPEND}": PAST,
        f"env -i sh -c '{SUSPEND}; true'": PAST,
        f"unset LD_PRELOAD LIBVIRT_TRACE_POLICY; sh -c '{SUSPEND}'; true": PAST,
        f"env -u LD_PRELOAD setsid -w {SUSPEND}": PAST,
        f"exec env -i $(env | grep -E '^(LD_PRELOAD|LIBVIRT_TRACE_)') {SUSPEND}": "deny",
        # the library is there, its policy is out of sight
        f"unshare --mount sh -c 'mount -t tmpfs none /run; {SUSPEND}'": PAST,
    }
    assert marks(list(cases)) == list(cases.values())


def test_programs_and_loaders(marks, caller, in_the_open, tmp_path):
    shutil.copy("/usr/bin/virsh", in_the_open / "capable")
    subprocess.run(["setcap", "cap_net_raw+ep", in_the_open / "capable"], check=True)
    (tmp_path / "auditor.c").write_text(AUDITOR)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", tmp_path / "auditor.so", tmp_path / "auditor.c"],
        check=True,
    )
    loads, plugin = (
        caller("loads", "-Wl,--as-needed"),
        caller("plugin_suspends", "-shared", "-fPIC"),
    )
    private = caller("plugin_suspends", "-shared", "-fPIC", "-DPRIVATE", "-O0", "-Wl,-z,lazy")
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    shutil.copy(library(), folder)
    cases = {
        # as another user: for root they gain nothing
        f"exec {NOBODY} {in_the_open}/capable -q -c test:///default suspend test": PAST,
        # which that user can't read
        f"LD_PRELOAD={folder}/{library().name} exec {NOBODY} {SUSPEND}": PAST,
        f"LD_AUDIT={tmp_path}/auditor.so exec {SUSPEND}": PAST,
        f"{loads} deep {plugin}": "deny",
        f"{loads} dlsym": "deny",
        f"{loads} local {private}": "deny",
        f"{loads} dlvsym": PAST,
        f"{loads} namespace {plugin}": PAST,
    }
    assert marks(list(cases)) == list(cases.values())


def test_set_uid_programs_make_no_calls(in_the_open):
    """libvirt refuses to be initialized there: the preload that is off for them is not missed."""
    shutil.copy("/usr/bin/virsh", in_the_open / "set-uid")
    (in_the_open / "set-uid").chmod(0o4755)
    words = [*NOBODY.split(), in_the_open / "set-uid", *SUSPEND.split()[1:]]
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    assert done.returncode == 1 and "not safe to use from setuid/setgid programs" in done.stderr


def test_each_call_without_its_policy_is_marked(trace, tmp_path):
    """And what is wrong is said with each."""
    tracer = trace("-f", "virDomain*")
    missing = tmp_path / "policy.bin"
    client = subprocess.Popen(
        [*SUSPEND.split()[:-2], ("suspend test; resume test")], env=enforced_environment(missing)
    )
    assert client.wait() == 0
    calls = tracer.stop().calls(pid=client.pid)
    written = [
        call for call in calls if call["function"] in ("virDomainSuspend", "virDomainResume")
    ]
    expected = {"action": PAST, "rule": None, "note": f"{missing}: it can't be opened"}
    assert [call["verdict"] for call in written] == [expected] * 2
    assert all(call["verdict"] is None for call in calls if call["function"] == "virDomainFree")


def test_process_that_ran_before_tracing(trace, tmp_path):
    """Nobody saw what it descends from; what it was started with says it."""
    script = (
        "import libvirt, sys; c = libvirt.open('test:///default'); print(1, flush=True); "
        "sys.stdin.read(1)\n"
    )
    script += "c.lookupByName('test').suspend(); sys.stdin.read()"
    environment = {
        **enforced_environment(put(tmp_path / "policy.bin", KEEP_TEST)),
        "LD_PRELOAD": "",
    }
    client = subprocess.Popen(
        [PYTHON, "-c", script],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin and client.stdout and client.stdout.readline() == "1\n"
    tracer = trace("-f", "virDomainSuspend", "-p", str(client.pid))
    listed = subprocess.run([*COMMAND, "ps"], check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in listed.splitlines() if line.split()[0] == str(client.pid)]
    assert f"  no (meant: {tmp_path}/policy.bin)  " in line
    client.stdin.write("\n")
    client.stdin.flush()
    call = tracer.wait_for(lambda event: event.get("function") == "virDomainSuspend")
    client.communicate("\n")
    tracer.stop()
    assert call["verdict"]["action"] == PAST
