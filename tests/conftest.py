# SPDX-License-Identifier: LGPL-2.1-or-later
"""A test's folder becomes its marker, and what a folder needs is checked before its tests; the
fixtures that all folders share.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import needs
from tests.daemon import Daemon, Guest
from tests.tracing import Tracer

TESTS = Path(__file__).parent

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell starts what is to run in the background so, and whoever is started by the tests would
    # inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# how long an example takes says more of the machine than of the code
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def folder_of(item: pytest.Item) -> str:
    """The folder below tests/ that the test is in."""
    return item.path.relative_to(TESTS).parts[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its folder. Of tests that run side by side, those that look at the whole
    host run one after the other: some flood it, some count every call.
    """
    for item in items:
        folder = folder_of(item)
        item.add_marker(folder)
        alone = str(item.path) if folder in ("unit", "preload") else "host"
        item.add_marker(pytest.mark.xdist_group(alone))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test that the machine can't run, before its fixtures are built."""
    needs.check(folder_of(item))


@pytest.fixture(scope="session")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """caller(NAME, FLAG...): the program that tests/callers/NAME.c compiles to, linked to
    libvirt; compiled once.
    """
    folder = tmp_path_factory.mktemp("callers")
    programs: dict[tuple[str, ...], Path] = {}

    def build(name: str, *flags: str) -> Path:
        key = (name, *flags)
        if key not in programs:
            libvirt = subprocess.check_output(
                ["pkg-config", "--cflags", "--libs", "libvirt"], text=True
            ).split()
            program = folder / f"{name}-{len(programs)}"
            source = TESTS / "callers" / f"{name}.c"
            strict = ["-O2", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"]
            subprocess.run(["gcc", *strict, "-o", program, source, *flags, *libvirt], check=True)
            programs[key] = program
        return programs[key]

    return build


@pytest.fixture
def trace() -> Iterator[Callable[..., Tracer]]:
    """trace(OPTION..., attached=True): a running tracer whose probes are attached. One that a
    test leaves behind is ended.
    """
    tracers: list[Tracer] = []

    def start(*options: str, attached: bool = True, env: dict[str, str] | None = None) -> Tracer:
        tracer = Tracer(*options, env=env)
        tracers.append(tracer)
        if attached:
            tracer.wait_attached()
        return tracer

    yield start
    for tracer in tracers:
        tracer.kill()


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[Daemon]:
    """A private libvirtd with the QEMU driver; clients of it use `libvirtd.uri`."""
    with Daemon() as daemon:
        yield daemon


_numbers = itertools.count(1)


@pytest.fixture
def guest(libvirtd: Daemon) -> Iterator[Guest]:
    """A running QEMU domain, 64 MiB, no disk, under a name of its own."""
    guest = libvirtd.create(f"guest-{os.getpid()}-{next(_numbers)}")
    yield guest
    libvirtd.end(guest)
