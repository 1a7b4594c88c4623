# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes qmp.json, what words QEMU's monitor knows: QEMU's own description of its protocol comes in.

    python3 -m log.redact.generate_qmp --qemu qemu-system-x86_64 [--qemu ...] -o
    log/redact/qmp.json

`keys` are those whose values are numbers, truth values or words of `words` wherever they are used;
`texts` those that may hold any text. The bundled table is made from QEMU of Debian 12.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_CONSTRAINED = {"int", "number", "boolean", "null", "enum", "object"}
_NUMBER = re.compile(r"u?int[0-9]*|bool|size|OnOffAuto")  # types of a device's properties


class Qemu:
    """A QEMU without a machine, which answers."""

    def __init__(self, words: Iterable[str]) -> None:
        options = ["-M", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]
        self._process = subprocess.Popen(
            [*words, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self._process.stdout.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:
        """What the command returns; None: an error."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline()).get("return")

    def help(self, line: str) -> str:
        """What it tells people."""
        return str(self.ask("human-monitor-command", **{"command-line": line}))

    def properties(self) -> dict[str, set[str]]:
        """The types of all devices' properties by name."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for device in self.ask("qom-list-types", implements="device", abstract=False):
            if "-gl" in device["name"]:  # whose module need not be installed: QEMU 7.2 aborts
                continue
            for each in self.ask("device-list-properties", typename=device["name"]) or ():
                found[each["name"]].add("int" if _NUMBER.fullmatch(each["type"]) else "string")
        return found

    def close(self) -> None:
        """Ends it."""
        self.ask("quit")
        self._process.wait(60)


def _types(name: str, by_name: Mapping[str, dict[str, Any]]) -> set[str]:
    entry = by_name[name]
    kind = entry["meta-type"]
    if kind == "array":
        return _types(entry["element-type"], by_name)
    if kind == "alternate":
        return {one for member in entry["members"] for one in _types(member["type"], by_name)}
    if kind != "builtin":
        return {kind}
    return {"any" if name == "any" else entry["json-type"]}


def describe(qemu: Qemu) -> dict[str, set[str]]:
    """What one QEMU says."""
    schema = qemu.ask("query-qmp-schema")
    by_name = {entry["name"]: entry for entry in schema}
    types: defaultdict[str, set[str]] = defaultdict(set, qemu.properties())
    words: set[str] = set()
    for entry in schema:
        if entry["meta-type"] == "object":
            for member in entry["members"]:
                types[member["name"]] |= _types(member["type"], by_name)
        if entry["meta-type"] == "enum":
            words |= set(entry["values"])
    named = {
        kind: {entry["name"] for entry in schema if entry["meta-type"] == kind}
        for kind in ("command", "event")
    }
    keys = {name for name, kinds in types.items() if kinds <= _CONSTRAINED}
    hmp = {
        word
        for names in re.findall(r"^([a-z_|-]+)", qemu.help("help"), re.M)
        for word in names.split("|")
    }
    info = set(re.findall(r"^info ([a-z_-]+)", qemu.help("help info"), re.M))
    qemu.close()
    return {
        "keys": keys, "texts": set(types) - keys, "words": words, "commands": named["command"],
        "events": named["event"], "hmp": hmp, "info": info,
    }  # fmt: skip


def generate(qemus: Iterable[Iterable[str]]) -> str:
    """The text of qmp.json. What is free text in one release is so in all."""
    result: defaultdict[str, set[str]] = defaultdict(set)
    for qemu in qemus:
        for name, found in describe(Qemu(qemu)).items():
            result[name] |= found
    result["keys"] -= result["texts"]
    return (
        "{\n"
        + ",\n".join(
            (f"{json.dumps(name)}: {json.dumps(sorted(found))}") for name, found in result.items()
        )
        + "\n}\n"
    )


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description="Make the table of words of QEMU's monitor.")
    parser.add_argument(
        "--qemu",
        action="append",
        required=True,
        metavar="COMMAND",
        help="qemu-system-x86_64, or where it is (repeatable)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    chosen = parser.parse_args()
    chosen.output.write_text(generate(command.split() for command in chosen.qemu))


if __name__ == "__main__":
    main()
