# SPDX-License-Identifier: LGPL-2.1-or-later
"""Configurations that are shipped, as far as nothing else runs them: they fit what they are for."""

from __future__ import annotations

import shlex

from log.verbs.usage import split_command
from probes.verbs.options import record_parser
from tests.needs import ROOT


def settings(text: str) -> list[tuple[str, str]]:
    """Of a systemd unit, in order."""
    lines = text.replace("\\\n", " ").splitlines()
    pairs = [line.partition("=") for line in lines if line[:1].isalpha() and "=" in line]
    return [(key, value) for key, _, value in pairs]


def test_drop_in_for_the_service_changes_what_the_service_has():
    unit = dict(settings((ROOT / "libvirt-trace.service").read_text()))
    drop_in = settings((ROOT / "integrations/systemd/exports.conf").read_text())
    assert {key for key, _ in drop_in} - {"EnvironmentFile"} <= set(unit)
    assert unit["PrivateNetwork"] == "yes" and ("PrivateNetwork", "no") in drop_in
    (command,) = (value for key, value in drop_in if key == "ExecStart" and value)
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("/usr/bin/libvirt-trace", "record")
    options = record_parser("0").parse_args(split_command(words)[0])
    assert [word.partition("=")[0] for word in options.exports] == ["journal", "prometheus", "otlp"]
