# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every function with valid objects, through its stub and under rules that look at it: the
results are those without the enforcer.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.enforced import enforced_environment, put
from tests.needs import PATIENCE, PYTHON, ROOT

PROGRAM = Path(__file__).with_name("every_stub.py")
LOOKS = """
[[rule]]
name = "looks"
action = "audit"
function = "*"
object = ["?*"]
user = ["!4711"]
uri = ["test:*"]

[[rule]]
name = "allows"
action = "allow"
function = "*"
exe = ["*python*"]
"""


def calls(environment: dict[str, str]) -> dict[str, list[str]]:
    """Function -> where it was found, result, error."""
    done = subprocess.run(
        [PYTHON, PROGRAM],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
    )
    assert done.returncode == 0, done
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


def test_results_are_those_of_an_unenforced_program(tmp_path):
    plain = calls(dict(os.environ))
    assert len(plain) > 300
    assert {where for where, *_ in plain.values()} == {"libvirt"}
    assert sum(error == "0" for *_, error in plain.values()) > 60
    for policy in (None, put(tmp_path / "policy.bin", LOOKS)):
        enforced = calls(enforced_environment(policy))
        assert {name: ["libvirt", *rest] for name, (_, *rest) in enforced.items()} == plain
        assert {where for where, *_ in enforced.values()} == {"stub"}
