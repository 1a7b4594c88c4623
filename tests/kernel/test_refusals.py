# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where tracing can't work, or nobody can be told of it: one line with the remedy, the right
exit status, and never a traceback.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import TRACER
from tests.kernel.test_lifecycle import links_of
from tests.needs import PATIENCE

T = shlex.join(TRACER)
SECONDS = 60 * PATIENCE
VIRSH = "virsh -q -c test:///default suspend test"
TOTALS = re.compile(r"libvirt-trace: [0-9]+ calls?, [0-9]+ failed, 0 denied, [0-9]+ lost .*\n")


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Runs it; the real descriptors of the script are what it says."""
    return subprocess.run(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=SECONDS,
        capture_output=True,
    )


def without(*capabilities: str) -> str:
    return f"setpriv --bounding-set={','.join(f'-{name}' for name in capabilities)} --inh-caps=-all"


@pytest.mark.parametrize(
    "before, complaint",
    [
        (
            without("perfmon", "sys_admin"),
            "not allowed to use BPF and probes: CAP_PERFMON is missing; in a container, run it "
            "with --privileged",
        ),
        (
            without("all"),
            "not allowed to use BPF and probes: CAP_BPF and CAP_PERFMON are missing; in a "
            "container, run it with --privileged",
        ),
        (
            "unshare --user --map-root-user",
            "root of a user namespace may not trace: run it on the host, as root",
        ),
        (
            "unshare --pid --fork --mount-proc",
            "in a pid namespace of its own, processes have other numbers: run it on the host; in a "
            "container, with --pid=host",
        ),
    ],
)
@pytest.mark.parametrize("options", ["", "ps -d 0"])
def test_what_is_missing_is_named(before: str, complaint: str, options: str) -> None:
    done = shell(f"{before} {T} {options}")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"libvirt-trace: {complaint}\n")


def test_processes_that_may_not_be_looked_into_are_counted(steps) -> None:
    step = steps()
    done = shell(f"{without('all')} {T} ps")
    assert re.match(
        r"libvirt-trace: [0-9]+ of [0-9]+ processes could not be looked into: CAP_SYS_PTRACE and "
        r"CAP_CHECKPOINT_RESTORE are missing\n",
        done.stderr,
    )
    assert f"\n{step.pid} " not in done.stdout
    done = shell(f"unshare --user --map-root-user {T} ps")
    assert re.match(
        r"libvirt-trace: [0-9]+ of [0-9]+ processes could not be looked into: root of "
        r"a user namespace may not\n",
        done.stderr,
    )
    done = shell(f"unshare --pid --fork --mount-proc {T} ps")
    assert done.stderr.splitlines()[0] == (
        "libvirt-trace: in a pid namespace of its own, only its processes are seen"
    )
    done = shell(f"{without('sys_ptrace')} {T} -d 0")
    assert re.search(
        r"^libvirt-trace: [0-9]+ of [0-9]+ processes could not be looked into: "
        r"CAP_SYS_PTRACE is missing$",
        done.stderr,
        re.M,
    )


def test_functions_that_do_not_exist_are_wrong_usage() -> None:
    done = shell(f"{T} -f virDomainDestory")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        'libvirt-trace: no function is called "virDomainDestory"; did you mean '
        '"virDomainDestroy"?\n'
    )


def test_too_few_descriptors_are_said_to_be_too_few() -> None:
    done = shell(f"ulimit -n 16; {without('sys_resource')} {T} -d 0")
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "libvirt-trace: too many open files; raise the limit (ulimit -n)\n",
    )


# standard streams


def test_closed_standard_output_leaves_the_file(tmp_path: Path) -> None:
    done = shell(f"{T} -o {tmp_path}/log -- {VIRSH} >&-")
    assert done.returncode == 0 and TOTALS.search(done.stderr)
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [events[0]["type"], events[-1]["type"]] == ["attached", "end"]
    assert "virDomainSuspend" in {event.get("function") for event in events}


def test_closed_standard_error_moves_nothing_to_standard_output() -> None:
    done = shell(f"{T} --json -- {VIRSH} 2>&-")
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["type"] == "end"


@pytest.mark.parametrize(
    "script, status",
    [(f"{T} -- sh -c 'exit 7' 2>/dev/full", 7), (f"{T} -p 4194304 2>/dev/full", 1)],
)
def test_full_standard_error_changes_no_exit_status(script: str, status: int) -> None:
    assert shell(script).returncode == status


def test_full_standard_output_is_a_failure() -> None:
    done = shell(f"{T} list >/dev/full")
    assert (done.returncode, done.stderr) == (
        1,
        "libvirt-trace: no space left on device; make room there\n",
    )


@pytest.mark.parametrize("words", ["list", "--help", "ps"])
def test_reader_that_is_gone_is_no_failure(words: str) -> None:
    done = shell(f"{T} {words} | true; echo ${{PIPESTATUS[0]}}")
    assert done.stdout == "0\n" and "Traceback" not in done.stderr and "ignored" not in done.stderr


def test_summary_without_a_reader_has_the_command_s_status() -> None:
    done = shell(f"{T} -c -- sh -c 'exit 7' | true; echo ${{PIPESTATUS[0]}}")
    assert done.stdout == "7\n" and TOTALS.search(done.stderr)


# files


def test_pid_file_names_the_one_tracer(trace, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    tracer = trace("-f", "virDomainSuspend", "-o", str(tmp_path / "log"), "--pid-file", str(path))
    assert path.read_text() == f"{tracer.pid}\n"
    other = shell(f"{T} --pid-file {path}")
    assert (other.returncode, other.stderr) == (
        1,
        f"libvirt-trace: the pid file {path} belongs to process {tracer.pid}\n",
    )
    os.kill(int(path.read_text()), 1)
    assert tracer.stop(lost=None).status == 0
    assert not path.exists()


def test_no_probe_stays_while_a_command_is_waited_for(trace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    tracer = trace(
        "--max-events",
        "1",
        "--",
        "sh",
        "-c",
        f"{VIRSH}; read line <{tmp_path}/go; exit 7",
        attached=False,
    )
    tracer.wait_for(lambda event: event["type"] == "end")
    assert links_of(tracer.pid) == set()
    (tmp_path / "go").write_text("\n")
    assert tracer.finish(lost=None).status == 7
