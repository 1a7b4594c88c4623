# SPDX-License-Identifier: LGPL-2.1-or-later
"""A library on a file system that does not answer: nobody else waits for it, and it is attached
to when it does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcer.guard import GUARD
from probes.host.daemons.stacks import Stacks
from probes.host.libraries.enforcers import NOT_BELIEVED, Enforcers
from probes.host.libraries.modules import Modules
from probes.host.libraries.symbols import Symbols
from probes.host.looking import maps, opening
from probes.kernel.loading.features import TWO_LINKS
from probes.verbs.processes import list_processes
from tests.kernel.conftest import CALLS
from tests.kernel.test_neighbours import count
from tests.kernel.test_targets import LIBVIRT
from tests.needs import PATIENCE, PYTHON, ROOT, lack


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Serves a copy of the library in the folder."""
    if not os.path.exists("/dev/fuse"):
        lack("kernel", "the kernel has no FUSE")
    folder = tmp_path / "slow"
    folder.mkdir()
    process = subprocess.Popen(
        [PYTHON, ROOT / "tests" / "slow_files.py", folder, LIBVIRT],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "mounted\n"
    yield process
    subprocess.run(["umount", "-l", folder], check=True)
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_library_on_a_file_system_that_hangs(server, trace, steps, tmp_path: Path) -> None:
    path = tmp_path / "slow" / "libvirt.so.0"
    waits = steps(env={"LD_LIBRARY_PATH": str(path.parent)})
    other = steps()
    waits.call(0)  # what it needs of the library is in memory
    server.send_signal(signal.SIGSTOP)
    try:
        tracer = trace("-f", "virDomainGetName")
        assert str(path) not in [target["path"] for target in tracer.wait_attached()["targets"]]
        count(tracer, other)
        count(tracer, other)
    finally:
        server.send_signal(signal.SIGCONT)
    tracer.wait_for(
        lambda event: event["type"] == "attached" and event["targets"][0]["path"] == str(path)
    )
    count(tracer, waits)
    assert tracer.stop(lost=None).status == 0


def test_results_of_a_library_on_such_a_file_system(server, trace, steps, tmp_path: Path) -> None:
    """Where it returns is found when the file is read, and not later, as that could hang."""
    path = tmp_path / "slow" / "libvirt.so.0"
    other = steps(env={"LD_LIBRARY_PATH": str(path.parent)})
    env = {**os.environ, TWO_LINKS: "1"}
    tracer = trace("-p", str(other.pid), "-f", "virDomainGetName", env=env)
    tracer.wait_for(
        lambda event: (
            event["type"] == "attached"
            and str(path) in [target["path"] for target in event["targets"]]
        )
    )
    other.call()
    assert [call["type"] for call in tracer.stop().calls()] == ["call"] * CALLS


def test_tracing_ends_while_a_file_system_hangs(server, trace, steps, tmp_path: Path) -> None:
    path = tmp_path / "slow" / "libvirt.so.0"
    other = steps()
    tracer = trace("-f", "virDomainGetName")
    steps(env={"LD_LIBRARY_PATH": str(path.parent)})
    tracer.wait_for(
        lambda event: event["type"] == "attached" and event["targets"][0]["path"] == str(path)
    )
    server.send_signal(signal.SIGSTOP)
    try:
        count(tracer, other)
        result = tracer.stop(lost=None)
    finally:
        server.send_signal(signal.SIGCONT)
    assert (result.status, len(result.calls("virDomainGetName", other.pid))) == (0, CALLS)


def code_of(steps) -> maps.Mapping:
    """Where a process has the library's code."""
    return next(
        mapping for mapping in maps.read(steps.pid) if mapping.path.endswith("/slow/libvirt.so.0")
    )


def test_nothing_that_is_looked_up_waits_for_a_file_system(server, steps, tmp_path: Path) -> None:
    process = steps(env={"LD_LIBRARY_PATH": str(tmp_path / "slow")})
    code = code_of(process)
    found: list[object] = []

    def look() -> None:
        found.append(Modules().has(process.pid, code.start))
        found.append(Symbols().describe(process.pid, code.start))
        found.append(Enforcers(lambda: ()).of(code))
        found.append({row.pid: row.libvirt for row in list_processes(GUARD)}[process.pid])

    server.send_signal(signal.SIGSTOP)
    try:
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(60 * PATIENCE)
    finally:
        server.send_signal(signal.SIGCONT)
    assert len(found) == 4 and str(found.pop(1)).startswith("libvirt.so.0+0x"), found
    assert found == [False, None, ()]


# stays in a call of libvirt: its error handler waits
INSIDE = """
import sys, libvirt
libvirt.registerErrorHandler(lambda *_: (print("inside", flush=True), sys.stdin.read()), None)
try:
    libvirt.open("test:///default").lookupByName("nosuch")
except libvirt.libvirtError:
    pass
"""


def test_no_stack_waits_for_a_file_system(server, tmp_path: Path) -> None:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path / "slow")}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [PYTHON, "-c", INSIDE], env=environment, stdin=pipe, stdout=pipe
    ) as inside:
        assert inside.stdout and inside.stdout.readline() == b"inside\n"
        found: list[object] = []
        server.send_signal(signal.SIGSTOP)
        try:
            looking = threading.Thread(
                target=lambda: found.append(Stacks().scan([inside.pid])), daemon=True
            )
            looking.start()
            looking.join(60 * PATIENCE)
        finally:
            server.send_signal(signal.SIGCONT)
        inside.communicate(b"")
    assert found == [[]], "what is not read tells nothing"


def test_what_a_process_says_of_its_files_is_not_believed(server, steps, tmp_path: Path) -> None:
    """The file is root's, as its file system says."""
    process = steps(env={"LD_LIBRARY_PATH": str(tmp_path / "slow")})
    code = code_of(process)
    assert os.stat(code.path).st_uid == 0
    assert not Modules().has(process.pid, code.start)
    enforcers = Enforcers(lambda: ())
    assert enforcers.of(code) is None
    assert enforcers.refused == [(code.path, NOT_BELIEVED)]


def test_a_file_of_a_file_system_that_has_gone_is_closed(server, tmp_path: Path) -> None:
    path = tmp_path / "slow" / "libvirt.so.0"
    fd, other = (opening.open_file(str(path)) for _ in range(2))
    server.kill()
    server.wait()
    with pytest.raises(OSError):
        os.close(other)
    opening.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_file_system_that_has_gone_ends_nothing(server, trace, steps, tmp_path: Path) -> None:
    """To close what was open there fails, too."""
    path = tmp_path / "slow" / "libvirt.so.0"
    other = steps()
    tracer = trace("-f", "virDomainGetName")
    steps(env={"LD_LIBRARY_PATH": str(path.parent)}).call(0)
    tracer.wait_for(
        lambda event: event["type"] == "attached" and event["targets"][0]["path"] == str(path)
    )
    server.kill()
    server.wait()
    count(tracer, other)
    result = tracer.stop(lost=None)
    assert (result.status, len(result.calls("virDomainGetName", other.pid))) == (0, CALLS), (
        result.stderr
    )
    assert "Traceback" not in result.stderr


def test_a_file_system_that_had_gone_before_ends_nothing(
    server, trace, steps, tmp_path: Path
) -> None:
    path = tmp_path / "slow" / "libvirt.so.0"
    waits = steps(env={"LD_LIBRARY_PATH": str(path.parent)})
    waits.call(0)  # what it needs of the library is in memory
    other = steps()
    server.kill()
    server.wait()
    tracer = trace("-f", "virDomainGetName")
    tracer.wait_attached()
    count(tracer, other)
    late = steps()
    count(tracer, late)
    result = tracer.stop(lost=None)
    assert (result.status, len(result.calls("virDomainGetName", other.pid))) == (0, CALLS), (
        result.stderr
    )
    # that it is not attached to is told by name, unless others have so many such files that they
    # are summed up
    assert any(event["type"] == "unattached" for event in result.events)
    attached = [event for event in result.events if event["type"] == "attached"]
    assert str(path) not in {target["path"] for event in attached for target in event["targets"]}
