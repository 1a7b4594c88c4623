# SPDX-License-Identifier: LGPL-2.1-or-later
"""The library built with sanitizers: in a real client, and its two readers on the fuzzer's
corpus.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.enforced import KEEP_TEST, library, put
from tests.needs import PATIENCE, PYTHON, ROOT

FUZZ = ROOT / "tests" / "fuzz"
CHECKED = {
    "ASAN_OPTIONS": "detect_leaks=0:symbolize=0:exitcode=77",
    "UBSAN_OPTIONS": "halt_on_error=1:exitcode=77",
}
SUSPEND = """
import libvirt
domain = libvirt.open("test:///default").lookupByName("test")
try:
    domain.suspend()
except libvirt.libvirtError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["xml", "policy"])
def test_corpus_does_no_harm(tmp_path, what):
    library()  # makes table.h
    program = tmp_path / what
    subprocess.run(
        [
            FUZZ / "build.sh",
            what,
            program,
            "gcc",
            "-fsanitize=address,undefined",
            FUZZ / "corpus.c",
        ],
        check=True,
    )
    files = sorted((FUZZ / "corpus" / what).iterdir())
    assert len(files) >= 3
    done = subprocess.run(
        [program, *files], capture_output=True, text=True, env={**os.environ, **CHECKED}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{len(files)}\n", "")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library with the address sanitizer in it."""
    library()
    shared = tmp_path_factory.mktemp("sanitized") / "libvirt-trace-enforcer.so"
    build = ROOT / "enforcer" / "build"
    sources = [
        *sorted((ROOT / "enforcer/library").rglob("*.c")),
        ROOT / "enforcer/library/machines/enter-x86-64.S",
        build / "stubs.S",
    ]
    # the runtime of -fsanitize=undefined upsets libc when it is preloaded
    flags = [
        "-std=gnu11",
        "-O1",
        "-g",
        "-fPIC",
        "-fvisibility=hidden",
        "-fsanitize=address",
        "-shared",
    ]
    flags += [f"-I{build}", f"-I{ROOT}/enforcer/library"]
    link = [
        f"-Wl,--version-script={ROOT}/enforcer/library/exports.map",
        "-Wl,-z,now",
        "-Wl,--hash-style=both",
    ]
    subprocess.run(["gcc", *flags, "-o", shared, *sources, *link], check=True)
    return shared


@pytest.mark.parametrize("client", ["virsh", "python", "forks"])
def test_sanitized_library_finds_nothing(caller, sanitized, tmp_path, client):
    runtime = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
    policy = put(tmp_path / "policy.bin", KEEP_TEST)
    env = {
        **os.environ,
        **CHECKED,
        "LD_PRELOAD": f"{runtime}:{sanitized}",
        "LIBVIRT_TRACE_POLICY": str(policy),
        "LC_ALL": "C.UTF-8",
    }
    commands = {
        "virsh": [
            "virsh",
            "-q",
            "-c",
            "test:///default",
            "suspend test; domstate test; vol-list default-pool",
        ],
        "python": [PYTHON, "-c", SUSPEND],
        "forks": [str(caller("forks"))],
    }
    done = subprocess.run(
        commands[client], capture_output=True, text=True, env=env, timeout=60 * PATIENCE
    )
    assert "Sanitizer" not in done.stderr, done.stderr
    expected = {
        "virsh": "running\n",
        "python": "access denied: ask the on-call engineer\n",
        "forks": "denied 101 allowed 0 handler yes\n",
    }
    assert (done.returncode, done.stdout) == (0, expected[client]), done
