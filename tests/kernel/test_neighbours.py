# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that somebody without rights has mapped: they may cost their owner's calls, and nobody
else's.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probes.host.libraries import refusals, targets
from tests.kernel.conftest import CALLS, Steps
from tests.kernel.test_targets import LIBVIRT
from tests.needs import PYTHON, ROOT
from tests.neighbours import NOBODY, Neighbour, made_up
from tests.tracing import Event, Tracer

INT3, INVALID = ".byte 0xcc\n ret", ".byte 0x06\n ret"
NAMES = [
    "virDomainSuspend",
    "virDomainResume",
    "virDomainGetName",
    "virDomainGetID",
    "virDomainDestroy",
]
NOT_PROBED = "the kernel can't probe the instruction there"
LOAD = """
import ctypes, sys
sys.stdin.readline()
library = ctypes.CDLL(sys.argv[1])
print("loaded", flush=True)
sys.stdin.readline()
library.virOfRoot()
print("called", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """What a neighbour has mapped before the tracer starts."""
    folder = tmp_path_factory.mktemp("libraries")
    libraries = {
        "int3": made_up(folder, NAMES, virDomainSuspend=INT3),
        "invalid": made_up(folder, NAMES, virDomainSuspend=INVALID),
        "nothing": made_up(folder, NAMES, INT3),
        "cut": made_up(folder, [f"virCut{number}" for number in range(1000)]),
        **{
            (f"made up {n}"): made_up(folder, [f"virMadeUp{n}x{number}" for number in range(1000)])
            for n in range(5)
        },
    }
    with Neighbour() as neighbour:
        paths = {
            name: neighbour.file(f"{name}/libvirt.so.0", data) for name, data in libraries.items()
        }
        neighbour.map(*paths.values())
        os.truncate(paths["cut"], 0x10000)
        yield paths


@pytest.fixture(scope="module")
def tracer(files, caller) -> Iterator[Tracer]:
    started = Tracer(
        "-n", caller("steps").name, "-n", "of-root", "-f", "virDomainGetName", "-f", "virOfRoot"
    )
    started.wait_attached()
    yield started
    started.stop()


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    with Neighbour() as someone:
        yield someone


def wait_unattached(tracer: Tracer, path: Path | str, reason: str = "") -> None:
    """Until such a reason is told."""
    tracer.wait_for(
        lambda event: (
            event["type"] == "unattached"
            and event["path"] == str(path)
            and reason in event["reason"]
        )
    )


def is_call(function: str, pid: int) -> Callable[[Event], bool]:
    return lambda event: (
        event["type"] == "call" and event["function"] == function and event["pid"] == pid
    )


def count(tracer: Tracer, step: Steps) -> None:
    """A caller's calls are seen, all of them."""
    before = len(tracer.calls("virDomainGetName", step.pid))
    step.call()
    tracer.wait_for(is_call("virDomainGetName", step.pid), count=before + CALLS)
    assert len(tracer.calls("virDomainGetName", step.pid)) == before + CALLS


def test_what_cannot_be_attached_to_is_told_and_costs_nobody_a_call(tracer, files, steps) -> None:
    for name in ("int3", "invalid"):
        wait_unattached(tracer, files[name], f"virDomainSuspend: {NOT_PROBED}")
    wait_unattached(tracer, files["nothing"], NOT_PROBED)
    wait_unattached(tracer, files["cut"])
    wait_unattached(tracer, files["made up 4"], "room")
    count(tracer, steps())


def test_files_that_come_later(tracer, files, neighbour: Neighbour, steps) -> None:
    bad = neighbour.file("libvirt.so.0", files["int3"].read_bytes())
    neighbour.map(bad)
    wait_unattached(tracer, bad, f"virDomainSuspend: {NOT_PROBED}")
    (attached,) = [
        event
        for event in tracer.events
        if event["type"] == "attached" and event["targets"][0]["path"] == str(bad)
    ]
    assert attached["functions"] == len(NAMES) - 1
    count(tracer, steps())


def test_there_is_room_for_unknown_functions_of_roots(tracer, files, tmp_path: Path) -> None:
    wait_unattached(tracer, files["made up 4"], "room")  # that of others is used up
    mine = tmp_path / "libvirt.so.0"
    mine.write_bytes(made_up(tmp_path, ["virOfRoot"]))
    named = [
        "sh",
        "-c",
        f'exec {PYTHON} -c "$0" "$1"',
        ("import ctypes; ctypes.CDLL(None).prctl(15, b'of-root')\n") + LOAD,
        str(mine),
    ]
    held = subprocess.Popen(named, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert held.stdin and held.stdout
    for word in ("loaded", "called"):
        held.stdin.write("\n")
        held.stdin.flush()
        assert held.stdout.readline() == f"{word}\n"
        if word == "loaded":
            tracer.wait_for(
                lambda event: (
                    event["type"] == "attached" and event["targets"][0]["path"] == str(mine)
                )
            )
    tracer.wait_for(is_call("virOfRoot", held.pid))
    held.communicate()


def test_files_without_a_function_take_no_descriptors(
    tracer, neighbour: Neighbour, steps, tmp_path: Path
) -> None:
    empty, before = made_up(tmp_path, []), len(os.listdir(f"/proc/{tracer.pid}/fd"))
    neighbour.map(
        *(
            neighbour.file(f"{number}/libvirt.so.0", empty + number.to_bytes(2, "little"))
            for number in range(300)
        )
    )
    copy = Path(shutil.copy(LIBVIRT, tmp_path / "libvirt.so.0"))
    step = steps(env={"LD_LIBRARY_PATH": str(copy.parent)})
    tracer.wait_for(
        lambda event: event["type"] == "attached" and event["targets"][0]["path"] == str(copy)
    )
    count(tracer, step)
    assert len(os.listdir(f"/proc/{tracer.pid}/fd")) < before + 50


def test_a_library_of_the_users_that_cannot_be_attached_to(files) -> None:
    command = [PYTHON, "-E", "-s", ROOT / "tracer.py", "-d", "0", "--library", files["nothing"]]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1
    # before it there may be a line about how many processes it has to attach in
    assert failed.stderr.endswith(
        f"libvirt-trace: can't attach to {files['nothing']}: {NOT_PROBED}\n"
    )
    assert failed.stderr.count("\n") <= 2


def mutations(library: bytes, seed: int, number: int) -> Iterator[bytes]:
    """Copies of the library with bytes changed or cut off; mostly where the loader looks."""
    source = random.Random(seed)
    for _ in range(number):
        data = bytearray(library)
        for _ in range(source.choice((1, 3, 20, 200))):
            at = source.choice(
                (
                    source.randrange(0x400),
                    source.randrange(len(data)),
                    source.randrange(len(data) // 4),
                )
            )
            data[at] = source.choice((0, 1, 0x7F, 0x80, 0xCC, 0xFF, source.randrange(256)))
        if source.random() < 0.2:
            del data[source.randrange(0x1000, len(data)) :]
        yield bytes(data)


def test_mutated_libraries_and_more_than_there_is_room_for(
    trace, neighbour: Neighbour, steps, tmp_path: Path
) -> None:
    caller = steps()
    tracer = trace("-p", str(caller.pid), "-f", "virDomainGetName")
    qemu = (
        Path(LIBVIRT)
        .with_name(Path(LIBVIRT).name.replace("libvirt.", "libvirt-qemu."))
        .read_bytes()
    )
    for number, data in enumerate(mutations(qemu, 9, 60)):
        neighbour.end(neighbour.map(neighbour.file(f"mutated{number}/libvirt-qemu.so.0", data)))
        if number % 20 == 0:
            count(tracer, caller)
    library = made_up(tmp_path, ["virDomainSuspend"])
    more = range(targets.MOST_OF_ONE + 30)
    with Neighbour(NOBODY - 1) as another:
        another.map(
            *(another.file(f"{number}/libvirt.so.0", library + bytes([number])) for number in more)
        )
        wanted = f"user {NOBODY - 1} has {targets.MOST_OF_ONE} such files in use, which is the most"
        tracer.wait_for(lambda event: event["type"] == "attached", count=targets.MOST_OF_ONE)
        count(tracer, caller)
        result = tracer.stop()
        theirs = str(another.folder)
    assert len(result.calls("virDomainGetName", caller.pid)) == 4 * CALLS
    events = [
        event
        for event in result.events
        if event["type"] == "unattached" and event["path"].startswith(theirs)
    ]
    assert any(event["reason"].startswith(wanted) for event in events)
    assert len(events) <= refusals.MOST_OF_ONE + 1  # and the rest in a sum
    assert any(event["reason"].endswith(" other files)") for event in events)


SLOW = """
import os, time
from probes.kernel import links
attach = links.Links.__init__

def slowly(self, path, *arguments, **options):
    if "neighbour-" in os.readlink(path):  # as if thousands of processes had it mapped
        while not os.path.exists({go!r}):
            time.sleep(0.01)
    attach(self, path, *arguments, **options)

links.Links.__init__ = slowly
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_nobody_waits_for_a_neighbours_file(
    neighbour: Neighbour, steps, tmp_path: Path, when: str
) -> None:
    go, caller = tmp_path / "go", steps()
    path = neighbour.file("libvirt.so.0", made_up(tmp_path, NAMES))
    if when == "before":
        neighbour.map(path)
    tracer = Tracer("-p", str(caller.pid), "-f", "virDomainGetName", before=SLOW.format(go=str(go)))
    try:
        assert str(path) not in [target["path"] for target in tracer.wait_attached()["targets"]]
        if when == "after":
            neighbour.map(path)
        count(tracer, caller)
        if when == "before":
            go.touch()
            tracer.wait_for(
                lambda event: (
                    event["type"] == "attached" and event["targets"][0]["path"] == str(path)
                )
            )
        count(tracer, caller)
        assert tracer.stop().status == 0
    finally:
        tracer.kill()
