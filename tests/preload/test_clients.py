# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real clients under the enforcer: what is forbidden fails with libvirt's own error, everything
else is as before.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.enforced import KEEP_TEST, enforce
from tests.needs import PYTHON

DENIED = "error: Failed to suspend domain 'test'\nerror: access denied: ask the on-call engineer\n"
SUSPEND = ("virsh", "-q", "-c", "test:///default", "suspend", "test")
IN_PYTHON = """
import libvirt
libvirt.registerErrorHandler(lambda *arguments: None, None)
connection = libvirt.open("test:///default")
domain = connection.lookupByName("test")
try:
    domain.{call}
    print("allowed")
except libvirt.libvirtError as error:
    print(error.get_error_code(), error.get_error_domain(), error.get_error_level(), error)
print(domain.state()[0])
"""


@pytest.fixture
def keep_test(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(KEEP_TEST)
    return path


def test_virsh_gets_libvirts_own_error(keep_test):
    result = enforce(keep_test, *SUSPEND)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", DENIED)


def test_denied_call_changes_nothing_and_others_pass(keep_test):
    result = enforce(
        keep_test,
        "virsh",
        "-q",
        "-c",
        "test:///default",
        "suspend test; domstate test; reboot test; domstate test",
    )
    assert (result.returncode, result.stderr) == (0, DENIED)
    assert result.stdout == "running\nrunning\n"


def test_python_gets_a_libvirt_error(keep_test):
    result = enforce(keep_test, PYTHON, "-c", IN_PYTHON.format(call="suspend()"))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "88 55 2 access denied: ask the on-call engineer\n1\n"


def test_python_goes_on_with_what_is_allowed(keep_test):
    result = enforce(keep_test, PYTHON, "-c", IN_PYTHON.format(call="setMemory(1 << 20)"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "allowed\n1\n", "")


def test_rule_without_message_names_itself(tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nname = "keep"\naction = "deny"\nfunction = "virDomainSuspend"\n')
    assert enforce(policy, *SUSPEND).stderr == (
        "error: Failed to suspend domain 'test'\nerror: access denied: by rule \"keep\"\n"
    )


def test_function_that_returns_a_pointer_returns_null(tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[rule]]\nname = "n"\naction = "deny"\nfunction = '
        '"virDomainLookup*"\nobject = "test"\nmessage = "no"\n'
    )
    result = enforce(policy, *SUSPEND)
    # virsh tries the name as an id and as a UUID first
    assert (result.returncode, result.stderr) == (1, "error: failed to get domain 'test'\n")
    code = (
        'import ctypes; l = ctypes.CDLL(None); print("no libvirt", hasattr(l, "virDomainSuspend"))'
    )
    assert subprocess.check_output([PYTHON, "-c", code], text=True) == "no libvirt False\n"


def test_virt_install_is_denied(tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[rule]]\nname = "n"\naction = "deny"\nclass = "write"\nobject = '
        '["evil*"]\nmessage = "no such guests"\n'
    )
    command = (
        "virt-install",
        "--connect",
        "test:///default",
        "--memory",
        "64",
        "--disk",
        "none",
        "--import",
        "--noautoconsole",
    )
    common = [*command, "--osinfo", "generic", "--graphics", "none"]
    denied = enforce(policy, *common, "--name", "evil1")
    assert denied.returncode == 1 and "access denied: no such guests" in denied.stderr, denied
    allowed = enforce(policy, *common, "--name", "good1")
    assert allowed.returncode == 0 and "access denied" not in allowed.stderr, allowed


def test_every_descendant_is_enforced(keep_test, tmp_path):
    script = tmp_path / "script"
    script.write_text(
        '#!/bin/bash\nvirsh -q -c test:///default suspend test\nsh -c "virsh -q -c '
        'test:///default suspend test"\n'
    )
    script.chmod(0o755)
    for command in (
        ["bash", script],
        [script],
        ["sh", "-c", " ".join(SUSPEND) + "; " + " ".join(SUSPEND)],
    ):
        result = enforce(keep_test, *command)
        assert (result.returncode, result.stderr) == (1, 2 * DENIED)


def test_exit_status_and_signals_are_the_commands(keep_test):
    assert enforce(keep_test, "sh", "-c", "exit 23").returncode == 23
    assert enforce(keep_test, "sh", "-c", "kill -TERM $$").returncode == -15


def test_other_preloaded_libraries_stay(keep_test, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "libm.so.6")
    result = enforce(
        keep_test, "sh", "-c", 'echo "${LD_PRELOAD##*/}"; grep -c "libm.so.6" /proc/self/maps >&2'
    )
    assert result.stdout == "libvirt-trace-enforcer.so:libm.so.6\n"
    assert int(result.stderr) > 0


def test_programs_without_libvirt_are_left_alone(keep_test):
    result = enforce(keep_test, "grep", "-c", "libvirt.so", "/proc/self/maps")
    assert (result.returncode, result.stdout, result.stderr) == (1, "0\n", "")
