# SPDX-License-Identifier: LGPL-2.1-or-later
"""Errors are those that the program itself is told of, word for word: raised and received, in
libvirt's releases and languages.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.needs import PYTHON

SCRIPT = Path(__file__).with_name("failures.py")


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """More environment by language; German as every host can have it, whatever it has installed."""
    folder = tmp_path_factory.mktemp("locales")
    subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")],
        capture_output=True,
        check=False,
    )
    assert (folder / "de_DE.UTF-8").exists()
    english = {"LC_ALL": "C.UTF-8"}
    return {
        "en": english,
        "de": {"LOCPATH": str(folder), "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"},
    }


@pytest.mark.parametrize("language", ["en", "de"])
def test_errors_are_those_that_the_program_is_told_of(trace, tmp_path, languages, language):
    told = tmp_path / "told"
    command = ("sh", "-c", 'exec "$@" >"$0" 2>/dev/null', str(told), PYTHON, str(SCRIPT))
    env = {**os.environ, **languages[language]}
    result = trace(
        "--no-redact", "-x", "-s", "4096", "--", *command, attached=False, env=env
    ).finish(60)
    expected = [tuple(json.loads(line)) for line in told.read_text().splitlines()]
    seen = [
        (call["error"]["code"], call["error"]["message"])
        for call in result.calls()
        if call["error"]
    ]
    assert len(expected) > 100
    assert any("fehlgeschlagen" in message for _, message in expected) == (language == "de")
    assert seen == expected
