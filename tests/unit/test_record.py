# SPDX-License-Identifier: LGPL-2.1-or-later
"""tests/record.sh keeps a row for each target, and is otherwise not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from tests.needs import ROOT


def test_each_target_has_its_last_result(tmp_path):
    script = shutil.copy(ROOT / "tests" / "record.sh", tmp_path)

    def run(target: str, command: str, record: str = "yes") -> tuple[int, str]:
        done = subprocess.run(
            [script, target, "sh", "-c", command],
            env={**os.environ, "RECORD": record},
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.returncode, done.stdout

    assert run("check", "echo '==== 3 passed in 0.10s ===='", record="") == (
        0,
        "==== 3 passed in 0.10s ====\n",
    )
    assert not (tmp_path / "MATRIX.md").exists()
    assert run("check", "echo '==== 1 failed, 2 passed in 0.10s ===='; exit 3")[0] == 3
    kernels = (
        "for v in 6.1.0-1 6.12.0-2; do echo Linux $v, BTF: yes; echo '==== 5 passed in "
        "9.99s (0:00:09) ===='; done"
    )
    assert run("check-kernels", kernels)[0] == 0
    roots = "echo Debian trixie, a fresh root:; echo '=== 7 passed, 1 error in 9.99s ==='"
    assert run("check-roots", roots)[0] == 0
    assert run("check", "echo '==== 3 passed in 0.10s ===='") == (
        0,
        "==== 3 passed in 0.10s ====\n",
    )

    rows = [
        line.split(" | ")
        for line in (tmp_path / "MATRIX.md").read_text().splitlines()
        if line.startswith("| check")
    ]
    assert [(target, result) for target, _, _, result in rows] == [
        ("| check", "3 passed |"),
        ("| check-kernels", "Linux 6.1.0-1: 5 passed Linux 6.12.0-2: 5 passed |"),
        ("| check-roots", "Debian trixie: 7 passed, 1 error |"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", when) for _, when, *_ in rows)
