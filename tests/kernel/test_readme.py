# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's examples on libvirt's test driver print what the README shows; `make demo` is as
it promises.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from probes.kernel.loading.confined import returns_kill_confined
from tests import readme
from tests.enforced import library
from tests.needs import PATIENCE, ROOT


@pytest.fixture(autouse=True)
def comparable_machine():
    """Results come from return probes."""
    if returns_kill_confined():
        pytest.skip("on this kernel there are no return probes, hence no results")


@pytest.mark.parametrize(
    "example",
    [
        each
        for each in readme.examples()
        if each.needs_root and not each.elsewhere and not each.needs_guest
    ],
    ids=lambda each: each.command,
)
def test_example_with_a_command_prints_what_the_readme_shows(example, tmp_path):
    library()
    printed = readme.run(example, readme.bin_folder(tmp_path))

    assert readme.separate(printed) == readme.separate(example.output)


def test_first_example_prints_what_the_readme_shows(tmp_path):
    example = readme.examples()[0]
    assert example.command == "sudo libvirt-trace"

    printed = readme.run_meanwhile(example, readme.bin_folder(tmp_path), {})

    assert readme.comparable(printed) == readme.comparable(example.output)


def test_demo_traces_31_calls_and_ends():
    result = subprocess.run(
        ["make", "--no-print-directory", "demo"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120 * PATIENCE,
        check=True,
    )

    # a flood of other programs here may cost details
    ending = (
        r"^libvirt-trace: 31 calls, 3 failed, 1 denied, 0 lost in [0-9.]+s(; [0-9]+ details "
        r"lost)?$"
    )
    assert re.search(ending, result.stderr, re.M), result.stderr
    lines = result.stdout.splitlines()
    traced = [line for line in lines if re.match(r"[0-9:.]{15} [0-9]+ (virsh|python3) ", line)]
    assert len(traced) == 31
    assert re.search(
        r" virDomainSetMemory\(domain=test, memory=1048576\) = 0 "
        r"<[0-9.]+[num]?s>$",
        traced[-11],
    )
    assert traced[-3].endswith(' virDomainDestroy(domain=test) = -1 DENIED by rule "keep-test"')
    # a word before and after
    assert not lines[0].startswith(traced[0][:3]) and lines[-1].startswith("Next: ")
