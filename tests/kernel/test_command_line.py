# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command as a user meets it: how it ends, what it says on standard error, what a terminal
shows.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest

from probes.tracing.session import PRIORITY
from tests.needs import PATIENCE, PYTHON, ROOT

TRACER = [PYTHON, "-E", "-s", str(ROOT / "tracer.py")]
VIRSH = ["virsh", "-q", "-c", "test:///default"]
SECONDS = 60 * PATIENCE
TOTALS = re.compile(r"libvirt-trace: [0-9]+ calls?, [0-9]+ failed, 0 denied, 0 lost in [0-9.]+s")


def run(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRACER, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        **options,
    )


def on_terminal(*words: str, **environment: str) -> str:
    """What a terminal gets to see until the command has ended."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", **environment}
    tracer = subprocess.Popen([*TRACER, *words], stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 65536)
        except OSError:  # the last one that had it open has ended
            break
    os.close(master)
    assert tracer.wait(SECONDS) == 0, shown
    return shown.decode()


@pytest.mark.parametrize("status", [0, 7])
def test_exit_status_is_that_of_the_command(status):
    assert run("--", "sh", "-c", f"exit {status}").returncode == status


def test_tracer_goes_before_others_and_its_command_does_not():
    """Busy neighbours would fill the buffers that nobody reads meanwhile."""
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    done = run("-f", "virDomainSuspend", "--", "sh", "-c", "nice; cut -d' ' -f19 /proc/$PPID/stat")
    numbers = [int(line) for line in done.stdout.splitlines() if line.lstrip("-").isdigit()]
    assert numbers == [mine, min(mine, PRIORITY)]


def test_command_that_can_not_be_started_is_said_and_the_log_has_an_end():
    result = run("--json", "--", "/nonexistent/command")

    assert result.returncode == 125
    assert result.stdout.splitlines()[-1].startswith('{"type":"end",')
    assert result.stderr.splitlines()[-1] == (
        "libvirt-trace: can't start /nonexistent/command: no such file or directory"
    )


def test_command_that_outlives_its_tracing_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "go")
    words = ("-d", "0.1", "--", "sh", "-c", f"read line <{tmp_path}/go; exit 7")
    with subprocess.Popen(
        [*TRACER, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as tracer:
        assert tracer.stderr
        assert any(
            re.fullmatch("libvirt-trace: waiting for the command, process [0-9]+\n", line)
            for line in tracer.stderr
        )
        (tmp_path / "go").write_text("\n")

    assert tracer.returncode == 7


def test_termination_is_passed_on_to_the_command(trace):
    tracer = trace("--", "sleep", "1000")

    assert tracer.stop(signal.SIGTERM).status == 128 + signal.SIGTERM


def test_reader_that_goes_away_ends_tracing_without_a_word_too_many(tmp_path):
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    assert reader.stdin and reader.wait(SECONDS) == 0
    command = ["sh", "-c", f"touch {tmp_path}/done; exit 7"]

    result = subprocess.run(
        [*TRACER, "--", *command],
        stdout=reader.stdin,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
    )

    said = [line for line in result.stderr.splitlines() if not TOTALS.fullmatch(line)]
    assert [
        line for line in said if not line.startswith("libvirt-trace: waiting for the command")
    ] == []
    assert (tmp_path / "done").exists()
    assert result.returncode == 7


def test_hangup_ends_tracing_where_no_file_can_be_opened_anew(trace):
    assert trace().stop(signal.SIGHUP).status == 0


def test_hangup_begins_a_new_file(trace, steps, tmp_path):
    file, moved = tmp_path / "log", tmp_path / "log.1"
    step = steps()
    tracer = trace("-p", str(step.pid), "-o", str(file))
    step.call(1)
    tracer.wait_for(lambda event: event["type"] == "call")
    file.rename(moved)
    tracer.process.send_signal(signal.SIGHUP)
    while not file.exists():
        assert tracer.process.poll() is None
    step.call(2)
    tracer.stop()

    assert types_in(moved) == ["attached", "call"]
    assert types_in(file) == ["call", "call", "end"]


def types_in(log: Path) -> list[str]:
    """Of the first event, of calls and of the end: a domain's event, or a library, may be other
    programs'.
    """
    kinds = [json.loads(line)["type"] for line in log.read_text().splitlines()]
    return [kind for number, kind in enumerate(kinds) if not number or kind in ("call", "end")]


def test_misspelt_function_is_complained_of():
    result = run("-f", "virDomainDestory", "-d", "0")

    assert (
        'libvirt-trace: no function is called "virDomainDestory"; did you mean "virDomainDestroy"?'
    ) in result.stderr.splitlines()


@pytest.mark.parametrize(
    "module, complaint",
    [
        ("bcc", "BCC's Python module is missing: install the package python3-bpfcc"),
        ("rich", "Python's module rich is missing: install the package python3-rich"),
    ],
)
def test_missing_module_is_named_with_its_package(module, complaint, tmp_path):
    (tmp_path / f"{module}.py").write_text(
        f"raise ModuleNotFoundError('No module named {module}')\n"
    )
    command = [PYTHON, str(ROOT / "tracer.py"), "--", "touch", str(tmp_path / "started")]
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )

    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "",
        f"libvirt-trace: {complaint}\n",
    )
    assert not Path(tmp_path / "started").exists()


# with a compiler that fails
COMPILED_ALREADY = """
import os, sys
from probes.kernel.loading import compiling
compiling._compile = None
import tracer
status = tracer.main(["-d", "0", "-p", str(os.getpid())])
print(status, sorted(sys.modules.keys() & {"bcc", "rich.console", "rich.table"}))
"""


def test_program_is_compiled_once(tmp_path):
    """Whatever descriptors are open; what else takes long to import is not needed either."""
    assert run("-d", "0").returncode == 0
    with (tmp_path / "open").open("w") as one, (tmp_path / "too").open("w") as other:
        done = subprocess.run(
            [PYTHON, "-c", COMPILED_ALREADY],
            capture_output=True,
            text=True,
            cwd=ROOT,
            pass_fds=(one.fileno(), other.fileno()),
        )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["list", "virDomainSuspend"]])
def test_answers_that_need_no_kernel_are_quick(words):
    """What knows the kernel, the record and the policies takes most of the time of a start."""
    code = (
        f"import sys, tracer\ntry: tracer.main({words})\nexcept SystemExit: pass\n"
        "print(sorted({name.split('.')[0] + '.' + name.split('.')[1] for name in sys.modules if "
        "name.startswith(('enforcer.', 'probes.kernel', 'log.recording', 'rich', 'ctypes'))}))"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_terminal_shows_colours_and_a_status_line():
    shown = on_terminal("-n", "no-such-name", "-d", "1")

    assert "\x1b[2m" in shown
    assert "starting ..." in shown
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "0 calls/s, 0 open, 0 denied, 0 lost" in shown
    # the status line is gone
    assert TOTALS.fullmatch(shown.splitlines()[-1].rpartition("\x1b[2K")[2])


def test_terminal_that_the_command_uses_has_no_status_line():
    assert " calls/s" not in on_terminal("--", "sleep", "0.5")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_plain_terminal_gets_no_colours(environment):
    shown = on_terminal("-f", "virDomainSuspend", "--", *VIRSH, "suspend", "test", **environment)

    assert " virDomainSuspend(domain=test) = 0 <" in shown
    assert "\x1b" not in shown


def test_process_goes_by_the_name_of_the_command(trace):
    assert Path(f"/proc/{trace().pid}/comm").read_text() == "libvirt-trace\n"
