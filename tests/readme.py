# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's examples: its ```console blocks come in, commands and the lines that they must print
come out, comparable.

They compare on every release of libvirt: its version, the number of its functions and places in its
programs are left out.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from log.parsing.parse import parse
from log.render import text
from tests.needs import PATIENCE, PYTHON, ROOT

README = ROOT / "README.md"
INTERRUPT = "^C"
# messages in plain English; a size that no line is cut at
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "LANGUAGE": "en", "COLUMNS": "80", "TZ": "UTC"}

_BLOCK = re.compile(
    r"(?P<before>[^\n]*)\n\n```console\n(?P<block>.*?)```\n\n(?P<after>[^\n]*)", re.S
)
_EVENT = re.compile(r'[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6} |\{"type":')
_ATTACHED = re.compile(r'[0-9:.]{15} libvirt-trace: attached to |\{"type":"attached"')
# but for the first "attached"
_OF_OTHERS = re.compile(r'[0-9:.]{15} libvirt-trace: |\{"type":"(?:attached|unattached)"')
_PID = re.compile(r"^TIME ([0-9]+) ")
_VARYING = (
    (re.compile(r"^[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6} "), "TIME "),
    (re.compile(r"0x[0-9a-f]{6,}"), "POINTER"),
    (re.compile(r"(?<=<)[0-9.]+(?:ns|us|ms|s)(?=>$)"), "TIME"),
    (re.compile(r"(?<=<)[0-9.]+[num]?s, (\w+) [0-9.]+[num]?s(?=>$)"), r"TIME, \1 TIME"),
    (re.compile(r" (?:prio-rpc-libvir|rpc-libvirtd) "), " WORKER "),  # any of them
    (re.compile(r" for [0-9]+ "), " for CLIENT "),
    # the host's files come first; others are those of programs that run here now, also in other
    # roots; an older kernel has the other link
    (
        re.compile(
            r"[0-9]+ files(?: in [0-9]+ roots)?\), (?:/.*\), )?[0-9.]+m?s, "
            r"(?:uprobe_session|uprobe_multi|perf_event)$"
        ),
        "FILES), TIME, LINK",
    ),
    (re.compile(r"(?<= lost in )[0-9.]+s$"), "TIME"),
    # of whatever release is installed
    (re.compile(r"(?<= attached to )[0-9]+(?= functions )"), "SO MANY"),
    (re.compile(r"(?<=\(libvirt )[0-9.]+(?=, )"), "VERSION"),
    (re.compile(r"(?<==virsh\+)0x[0-9a-f]+"), "PLACE"),
)
_NUMBER = re.compile(r"\b[0-9]+(?:\.[0-9]+)?(?:[num]?s)?\b")
_ROW = re.compile(r"\w+(?: +[0-9]+){3} +[0-9.]+[num]?s")  # of the table of -c
_SPAN = re.compile(r" +[0-9.]+(?:ns|us|ms|s)\b")
_VARYING_FIELDS = frozenset(
    {
        "time",
        "id",
        "parent",
        "pid",
        "ppid",
        "tid",
        "functions",
        "attach_ms",
        "link",
        "duration_ns",
        "seconds",
    }
)
# depends on who runs the test
_WHENCE = frozenset({"loginuid", "unit", "container"})
# how a user came in, behind its name
_SESSION = re.compile(
    r" \((?!unproved\))(?:unset|[\w.-]+)(?: via [^()\"]+)?\)"
    r"(?= (?:\(unproved\) )?(?: *vir\w+\(|for |DENIED))"
)


class Example(NamedTuple):
    """A command in the README and what the README says that it prints."""

    command: str
    output: list[str]
    elsewhere: str | None  # the command that is run meanwhile; None: the first one ends by itself

    @property
    def needs_root(self) -> bool:
        """Whether it begins with sudo."""
        return self.command.startswith("sudo ")

    @property
    def needs_guest(self) -> bool:
        """Whether it shows what has happened to one: tests that have a guest hold its lines."""
        return self.elsewhere is None and any("web1" in line for line in self.output)


def examples() -> list[Example]:
    """Every example of the README, in its order."""
    found = []
    for match in _BLOCK.finditer(README.read_text()):
        first, *output = match["block"].splitlines()
        assert first.startswith("$ ") and not any(line.startswith("$ ") for line in output), match[
            "block"
        ]
        elsewhere = None
        if INTERRUPT in output:
            commands = re.findall(r"`(virsh [^`]+)`", match["before"] + match["after"])
            assert len(commands) == 1, f"what is run elsewhere, while {first}: {commands}"
            elsewhere = commands[0]
        found.append(Example(first.removeprefix("$ "), output, elsewhere))
    return found


def example(begin: str) -> Example:
    """The one example whose command begins like this."""
    (found,) = (example for example in examples() if f"{example.command} ".startswith(f"{begin} "))
    return found


def comparable(lines: Iterable[str]) -> list[str]:
    """The lines with time stamps, durations and pointers replaced, and process ids numbered in
    order of appearance.

    Without what is said of other files than the host's: other programs of this machine loaded them.
    """
    pids: dict[str, str] = {}
    attached: str | None = None
    found = []
    for line in lines:
        if attached is None and _ATTACHED.match(line):
            attached = line
        elif _OF_OTHERS.match(line):
            continue
        found.append(_comparable(line, pids))
    return found


def quotes(event: Mapping[str, object], begin: str, names: Mapping[str, str]) -> bool:
    """Whether the README has the line that tells the event, from where it begins so;
    `names`: what stands there for names that only a test has. Numbers are others each time.
    """
    told = parse(json.dumps(anonymous(event)).encode() + b"\n")
    assert told is not None
    line = text.line(told).rstrip("\n")
    for name, shown in names.items():
        line = line.replace(name, shown)
    prose = " ".join(README.read_text().split())
    return _NUMBER.sub("N", line[line.index(begin) :]) in _NUMBER.sub("N", prose)


def anonymous(value: object) -> object:
    """An event without how users came in: that is as whoever runs the tests has."""
    if isinstance(value, Mapping):
        return {key: anonymous(item) for key, item in value.items() if key != "session"}
    return value


def without_sessions(text: str) -> str:
    """The same of lines of text."""
    return _SESSION.sub("", text)


def separate(lines: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """The log, the table of -c sorted by function, and the rest, sorted: what else is printed comes
    between the lines of the log, in two streams.
    """
    log: list[str] = []
    table: list[str] = []
    rest: list[str] = []
    for line in lines:
        # a flood of other programs here may cost details
        line = re.sub("; [0-9]+ details? lost$", "", line)
        (log if _EVENT.match(line) else table if _ROW.match(line) else rest).append(line)
    return comparable(log), sorted(comparable(table)), sorted(comparable(rest))


def run(example: Example, bin_folder: Path) -> list[str]:
    """What an example that ends by itself prints, and then what it says on standard error: there, a
    command may be in the middle of a line when the log is written.
    """
    result = subprocess.run(
        ["sh", "-c", example.command.removeprefix("sudo ")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=_environment(bin_folder, {}),
        timeout=60 * PATIENCE,
    )
    return [*result.stdout.splitlines(), *result.stderr.splitlines()]


def run_meanwhile(
    example: Example, bin_folder: Path, environment: Mapping[str, str], pids: Iterable[int] = ()
) -> list[str]:
    """What an example prints, until Ctrl-C, of the command that is run elsewhere (and of the
    processes `pids`).
    """
    env = _environment(bin_folder, environment)
    tracer = subprocess.Popen(
        ["sh", "-c", f"exec {example.command.removeprefix('sudo ')}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
    )
    try:
        assert tracer.stdout and example.elsewhere
        attached = tracer.stdout.readline().rstrip("\n")
        assert " attached to " in attached, attached
        caller = subprocess.Popen(
            shlex.split(example.elsewhere),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
        )
        caller.wait(60 * PATIENCE)
        tracer.send_signal(signal.SIGINT)
        rest, _ = tracer.communicate(timeout=60 * PATIENCE)
        assert tracer.returncode == 0
    finally:
        if tracer.poll() is None:
            tracer.kill()
            tracer.wait()
    wanted = {str(pid) for pid in (caller.pid, *pids)}
    *log, end = rest.splitlines()
    mine = [line for line in log if line.split(" ", 2)[1] in wanted]
    if len(mine) < len(log):
        # other programs on this machine used libvirt meanwhile: they count too
        calls, failed, denied = (
            sum(word in line for line in mine) for word in (") = ", " VIR_ERR_", " DENIED ")
        )
        end = re.sub(
            r"[0-9]+ calls, [0-9]+ failed, [0-9]+ "
            r"denied",
            f"{calls} calls, {failed} failed, {denied} denied",
            end,
        )
    # those of others, too
    return [attached, *mine, INTERRUPT, re.sub("; [0-9]+ details? lost$", "", end)]


def bin_folder(folder: Path) -> Path:
    """The folder, with the command in it as it is installed."""
    command = folder / "libvirt-trace"
    command.write_text(f'#!/bin/sh\nexec {PYTHON} -E -s {ROOT}/tracer.py "$@"\n')
    command.chmod(0o755)
    return folder


def _environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT, **more, "PATH": f"{folder}:{os.environ['PATH']}"}


def _comparable(line: str, pids: dict[str, str]) -> str:
    if line.startswith('{"type":'):
        fields = anonymous(json.loads(line))
        assert isinstance(fields, dict)
        return json.dumps({key: _field(key, value, pids) for key, value in fields.items()})
    line = without_sessions(line)
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    if match := _PID.match(line):
        line = f"TIME {_number(match[1], pids)} {line[match.end() :]}"
    return " ".join(_SPAN.sub(" TIME", line).split()) if _ROW.match(line) else line


def _field(key: str, value: object, pids: dict[str, str]) -> object:
    if key == "pid":
        return _number(str(value), pids)
    if key == "cause" and isinstance(value, dict):
        return {inner: _field(inner, item, pids) for inner, item in value.items()}
    if key == "targets" and isinstance(value, list):
        # the host's
        return [
            re.sub(r"(?<=\.so\.0\.)[0-9.]+$", "VERSION", target["path"]) for target in value[:3]
        ]
    return key.upper() if key in _VARYING_FIELDS or key in _WHENCE else value


def _number(pid: str, pids: dict[str, str]) -> str:
    return pids.setdefault(pid, f"PID{len(pids) + 1}")
