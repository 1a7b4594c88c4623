# SPDX-License-Identifier: LGPL-2.1-or-later
"""The library itself: what it exports, how it finds out who calls, and that nothing that
programs do upsets it.
"""

from __future__ import annotations

import os
import struct
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from enforcer.compiled.files import FINAL, write_whole
from enforcer.compiled.layout import CHECK_AT, CHECKED_FROM, SIZE_MAX
from enforcer.launch.library import open_elf
from probes.api.load import load_api, stub_table
from tests.enforced import KEEP_TEST, compiled, enforced_environment, library, put, run
from tests.needs import PATIENCE

LIBVIRT = Path("/usr/lib/x86_64-linux-gnu/libvirt.so.0")
DENY_INFO = '[[rule]]\nname = "no"\naction = "deny"\nfunction = "virDomainGetInfo"\n'
ALLOW_INFO = DENY_INFO.replace("deny", "allow")


@pytest.fixture
def policy(tmp_path):
    return put(tmp_path / "policy.bin", KEEP_TEST)


# through which libvirt's own calls in a daemon are led (enforcer/library/who/client.c)
LED_THROUGH = {
    "virNetServerAddClient",
    "virNetServerProgramDispatch",
    "virNetServerClientSetIdentity",
}


def test_it_exports_the_stubs_and_the_verdict_function_alone():
    names = {function.name for function in stub_table().functions}
    assert {function.name for function in open_elf(library()).functions} == names | LED_THROUGH | {
        "libvirt_trace_verdict",
        "dlopen",
        "dlsym",
    }


def test_it_needs_nothing_but_libc():
    printed = subprocess.check_output(["readelf", "-d", library()], text=True)
    assert [
        line.split("[")[1].rstrip("]") for line in printed.splitlines() if "(NEEDED)" in line
    ] in (
        ["libc.so.6"],
        ["libc.so.6", "ld-linux-x86-64.so.2"],
    )
    assert library().stat().st_size < 180_000


def test_tail_call_of_a_callback_is_the_programs(caller, tmp_path):
    rule = '[[rule]]\nname = "resume"\naction = "deny"\nfunction = "virDomainResume"\n'
    policy = put(tmp_path / "policy.bin", rule)
    # its callback jumps to virDomainResume when the first event comes; denied, no further event is
    # raised
    result = run([caller("event_denied")], policy)
    assert (result.returncode, result.stdout) == (0, "denied\n")
    assert run([caller("event_denied")], None).stdout == "passed\n"


def test_what_libvirt_calls_itself_passes(caller, tmp_path):
    # virDomainCreateLinux ends in a jump to virDomainCreateXML
    deny = '[[rule]]\nname = "create"\naction = "deny"\nfunction = "virDomainCreateXML"\n'
    allow = '[[rule]]\nname = "linux"\naction = "allow"\nfunction = "virDomainCreateLinux"\n'
    result = run([caller("tail_inside")], put(tmp_path / "policy.bin", allow + deny))
    assert (result.returncode, result.stderr) == (0, "")
    # without that it is the same function under an older name
    result = run([caller("tail_inside")], put(tmp_path / "policy.bin", deny))
    assert 'access denied: by rule "create"' in result.stderr


def test_libvirt_is_loaded_and_unloaded_with_local_scope(caller, policy):
    plugin = caller("plugin", "-shared", "-fPIC")
    known = {function.name for function in open_elf(LIBVIRT).functions}
    table = (f.name for f in load_api(()).functions if f.library == "libvirt.so.0")
    lacks = next((name for name in table if name not in known), "virNoSuchFunction")
    program = caller("reload", "-Wl,--as-needed")
    assert "libvirt" not in subprocess.check_output(["ldd", program], text=True)
    result = run([program, plugin, "virDomainSuspend", lacks], policy)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"-1\n-1\n-1\nvirDomainSuspend found\n{lacks} missing\n"


def test_forks_threads_and_signal_handlers(caller, policy):
    result = run([caller("forks")], policy)
    assert (result.returncode, result.stdout) == (0, "denied 101 allowed 0 handler yes\n")


def test_policies_swapped_under_threads(caller, tmp_path):
    """A thousand policies, among them broken ones, while eight threads make calls; each call
    has one of the two results.
    """
    path = put(tmp_path / "policy.bin", ALLOW_INFO)
    good = [compiled(ALLOW_INFO), compiled(DENY_INFO)]
    process = subprocess.Popen(
        [caller("threads_swap")],
        env=enforced_environment(path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin and process.stdout
    assert process.stdout.readline() == "ready\n"
    for i in range(1000):
        if i % 200 == 0:
            assert comes_into_force(process, path, good, i // 200 % 2)
        data = good[i % 2]
        if i % 5 == 4:
            path.write_bytes(data[: len(data) // 2])  # overwritten in place, truncated
        elif i % 7 == 6:
            path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
        else:
            put_bytes(path, data)
    for which in (1, 0):
        assert comes_into_force(process, path, good, which)
    process.stdin.close()
    assert process.stdout.read() == "other 0\n"
    assert process.wait() == 0
    process.stdout.close()


def put_bytes(path, data):
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    temporary.rename(path)


def comes_into_force(process, path, policies, which: int) -> bool:
    """Whether the threads make calls with the one result (0: allowed, 1: denied) and no longer
    with the other, some time.
    """
    put_bytes(path, policies[which])
    deadline = time.monotonic() + 60 * PATIENCE
    before = counts_of(process)
    while time.monotonic() < deadline:
        after = counts_of(process)
        if after[which] > before[which] and after[1 - which] == before[1 - which]:
            return True
        before = after
        time.sleep(0.01)  # leaves the processor to the threads
    return False


def counts_of(process) -> list[int]:
    """Of calls that were allowed and that were denied so far."""
    process.stdin.write("\n")
    process.stdin.flush()
    return [int(word) for word in process.stdout.readline().split()]


def test_what_cannot_be_trusted_is_not_obeyed(tmp_path):
    path = put(tmp_path / "policy.bin", KEEP_TEST)
    suspend = ["virsh", "-q", "-c", "test:///default", "suspend", "test"]
    assert run(suspend, path).returncode == 1
    for content, mode, owner in (
        (None, 0o666, 0),
        (None, 0o644, 4711),
        (b"x" * 200, 0o644, 0),
        (b"", 0o644, 0),
    ):
        path.write_bytes(compiled(KEEP_TEST) if content is None else content)
        path.chmod(mode)
        os.chown(path, owner, 0)
        assert run(suspend, path).returncode == 0
        denied = run(suspend, path, LIBVIRT_TRACE_ON_ERROR="deny")
        assert denied.returncode == 1
        assert "access denied: the policy can't be read" in denied.stderr
    path.unlink()
    assert run(suspend, path).returncode == 0


@pytest.mark.parametrize(("more", "obeyed"), [(0, True), (1, False)])
def test_policy_may_have_a_size_that_no_call_waits_long_for(tmp_path, more, obeyed):
    """Checked with its checksum over all of it; one that is larger is not read."""
    data = bytearray(compiled(KEEP_TEST))
    data += bytes(SIZE_MAX + more - len(data))
    struct.pack_into("<I", data, 8, len(data))
    struct.pack_into("<I", data, CHECK_AT, zlib.crc32(data[CHECKED_FROM:]))
    path = tmp_path / "policy.bin"
    path.write_bytes(data)
    result = run(["virsh", "-q", "-c", "test:///default", "suspend", "test"], path)
    assert ("access denied" in result.stderr) is obeyed
    if obeyed:
        data[-1000] ^= 1
        path.write_bytes(data)
        assert (
            run(["virsh", "-q", "-c", "test:///default", "suspend", "test"], path).returncode == 0
        )


def test_call_without_a_rule_makes_one_system_call_a_second(caller, tmp_path):
    """And a call with one that looks at the name makes no more: stat() of the host's policy,
    once a second.
    """
    for text in (
        KEEP_TEST,
        '[[rule]]\nname = "n"\naction = "deny"\nfunction = "virDomainGetName"\nobject = "web*"\n',
    ):
        policy = tmp_path / "policy.bin"
        policy.unlink(missing_ok=True)
        write_whole(policy, compiled(text), FINAL)
        log = tmp_path / "strace"
        words = [
            "strace",
            "-o",
            log,
            "-E",
            f"LD_PRELOAD={library()}",
            "-E",
            f"LIBVIRT_TRACE_POLICY={policy}",
            caller("steady"),
        ]
        printed = subprocess.check_output(words, text=True)
        milliseconds = int(printed.split()[-1])
        lines = log.read_text().splitlines()
        first = next(i for i, line in enumerate(lines) if line.startswith('write(1, "begin'))
        last = next(i for i, line in enumerate(lines) if line.startswith('write(1, "end'))
        # a tracer elsewhere adds the system call of its return probes
        made = [
            line
            for line in lines[first + 1 : last]
            if not line.startswith(("uretprobe", "syscall_0x14f"))
        ]
        assert {line.split(",")[1] for line in made} == {' "/etc/libvirt-trace/policy.bin"'}, made
        assert all(line.startswith("newfstatat(") for line in made)
        assert 1 <= len(made) <= milliseconds // 1000 + 1
