# SPDX-License-Identifier: LGPL-2.1-or-later
"""More calls than the tracer can keep up with: calls that change something are all there, and
of the others none goes uncounted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from probes.internals.elf import read_elf
from probes.kernel import bpf, links
from probes.kernel.loading.features import RETURN_0, has_uprobe_multi
from probes.tracing import attachments
from tests.kernel.conftest import CALLS, TO_FILE, TRACER, read_facts
from tests.needs import PYTHON
from tests.neighbours import made_up
from tests.tracing import Event

# a million calls where the machine is quiet
SECONDS = float(os.environ.get("LIBVIRT_TRACE_FLOOD", "5"))


def test_a_flood_of_reads_loses_no_write_and_every_loss_is_counted(caller, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    argv = [
        *TRACER,
        "--json",
        "--buffer-size",
        "1",
        "--",
        *TO_FILE,
        str(facts),
        str(caller("flood")),
        str(SECONDS),
    ]
    seen: Counter[tuple[int, str]] = Counter()
    lost: Counter[str] = Counter()
    others = 0
    unfinished: Counter[str] = Counter()
    writes: list[Event] = []
    end: Event = {}
    # to a file: of what a pipe's reader takes too slowly calls are left out, whatever they do
    with (tmp_path / "log").open("w+") as log:
        status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, check=False).returncode
        log.seek(0)
        for line in log:
            # a million lines: most are only counted
            if (
                line.startswith('{"type":"call"')
                and '"function":"virDomainGetName"' in line
                and '"args":{' in line
            ):
                seen[int(line.split('"pid":', 1)[1].split(",", 1)[0]), "virDomainGetName"] += 1
                continue
            event = end = json.loads(line)
            # by other programs on this host
            if event["type"] == "lost" and event["reason"] == "buffer full, in a daemon":
                others += event["count"]
            elif event["type"] == "lost":
                lost[event["ring"]] += event["count"]
            elif event["type"] in ("call", "unfinished"):
                seen[event["pid"], event["function"]] += 1
                unfinished[event.get("reason", "")] += 1
                if event["write"]:
                    writes.append(event)
    (tmp_path / "log").unlink()  # a gigabyte
    assert status == 0
    made: Counter[tuple[int, str]] = Counter()
    for fact in read_facts(facts):
        made[fact["pid"], fact["function"]] += fact["made"]
    assert end["type"] == "end"
    assert lost["write"] == 0
    assert [call["type"] for call in writes] == ["call"] * CALLS
    assert [(call["function"], call["args"]["domain"]["name"], call["ret"]) for call in writes] == [
        ("virDomainResume" if i & 1 else "virDomainSuspend", "test", 0) for i in range(CALLS)
    ]
    print(
        f"made {made.total()}, seen {seen.total()}, lost {dict(lost)}, without result "
        f"{dict(unfinished)}"
    )
    assert seen.total() + lost.total() == made.total()
    assert all(count <= made[key] for key, count in seen.items())
    # the last call of a process may have lost its result too: that looks like one that did not
    # return
    assert unfinished["process exited"] <= 2
    assert set(unfinished) <= {"", "result lost", "process exited"}
    assert end["lost"] == lost["read"] + others
    assert end["calls"] == sum(seen.values())


FORKS = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
held = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
waiting, go = os.pipe()
for _ in range(int(sys.argv[2])):
    if not os.fork():
        os.close(go)
        os.read(waiting, 1)
        os._exit(0)
print("forked", flush=True)
sys.stdin.read()
"""


def test_many_processes_are_said_to_take_time(trace, monkeypatch, tmp_path: Path) -> None:
    library = tmp_path / "libvirt.so.0"
    library.write_bytes(made_up(tmp_path, ["virDomainSuspend"]))
    command = [PYTHON, "-c", FORKS, str(library), str(attachments.MANY + CALLS)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as many:
        assert many.stdin and many.stdout and many.stdout.readline() == "forked\n"
        tracer = trace("-p", str(many.pid))
        result = tracer.stop()
        many.stdin.close()
    said = re.search(r"attaching in ([0-9]+) processes", result.stderr)
    assert said and int(said[1]) > attachments.MANY + CALLS


def test_what_takes_long_to_detach_goes_in_the_background(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(links, "QUICK", -1)
    library = tmp_path / "libvirt.so.0"
    library.write_bytes(made_up(tmp_path, ["virDomainSuspend"]))
    with library.open("rb") as file:
        offset = next(function.offset for function in read_elf(file.fileno(), "x").functions)
    multi = has_uprobe_multi()
    program = bpf.load_program(RETURN_0, "nothing", sleepable=False, multi=multi)
    held = links.Links(str(library), [links.Probe(offset, 0, True)], program, program, multi=multi)
    started: list[list[str]] = []
    popen = subprocess.Popen

    def note(command, **options):
        started.append(command)
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", note)
    fds = list(held.fds)
    held.close()
    os.close(program)
    assert (started, held.fds) == ([["libvirt-trace-detach", "-c", "read end"]], [])
    for fd in fds:
        with pytest.raises(OSError):
            os.fstat(fd)
