# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes shell.json, what the words of virsh's and virt-admin's commands are: the help of several
releases comes in.

    python3 -m log.redact.generate_shell --shell virsh virt-admin [--shell ...] -o
    log/redact/shell.json

Of each command its options in order, each with its kind (see kinds.py; "" is one without a value).
"!" behind it: a word that is no option fills it if none before it is open; "...": all further words
do. The bundled table is made from Debian 12, 13 and sid.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from log.redact.marker import REDACTED

# (globs of commands, of options, of their descriptions) -> kind; the first that fits; what none
# fits is masked
RULES = (
    ("set-user-password", "user password", "*", "masked"),
    ("secret-set-value", "base64", "*", "masked"),
    ("qemu-monitor-command qemu-agent-command", "cmd", "*", "command"),
    ("qemu-monitor-event", "event", "*", "word"),
    ("*", "*", "XML file|*file containing*|filename containing*|*file of source xml*|name of "
               "file*|config data file*", "xml"),
    ("*", "domain", "*", "name"),
    ("secret-*", "secret", "*UUID*", "uuid"),
    ("domsetlaunchsecstate", "secret secrethdr", "*", "path"),
    ("*", "secret-uuid", "*", "uuid"),
    ("migrate*", "desturi migrateuri graphicsuri disks-uri", "*", "uri"),
    ("connect domdisplay", "name", "*URI*", "uri"),
    ("*", "pool inputpool network interface nwfilter binding vol newname new-name dname "
          "snapshotname checkpointname", "*", "name"),
    ("*", "backing-vol device", "*", "name"),
    ("*", "bridge mac port group-name fdgroup current from devname dev target targetbus "
          "migrate-disks mountpoint cap alias", "*", "name"),
    ("pool-* vol-* snapshot-* checkpoint-* dom-fd-associate net-* iface-* nwfilter-* "
     "nodedev-*", "name", "*", "name"),
    ("*", "file path dest base top emulator emulatorbin dir xmlfile xml persistent-xml "
          "checkpointxml backupxml script", "*", "path"),
    ("*", "mode type format virttype machine arch model codeset event action state source-format "
          "backing-vol-format cache io", "*", "word"),
    ("*", "algorithm section command driver subdriver sourcetype targetbus comp-methods nodeset "
          "cpulist vcpulist signame pid", "*", "word"),
    ("*", "keycode enable disable source-protocol-ver source-mode source-host-transport capacity "
          "allocation wwn", "*", "word"),
    ("send-process-signal", "pid signame", "*", "word"),
    ("attach-disk", "source target", "*", "path"),
    ("attach-interface detach-interface domiflist domif*", "source target model", "*", "name"),
    ("change-media", "source", "*", "path"),
    ("domifaddr", "source", "*", "word"),
    ("*", "listen-address tls-destination source-host-name source-host source-path source-dev "
          "target-path host", "*", "name"),
    ("find-storage-pool-sources*", "port", "*", "word"),
    ("dompmsuspend nodesuspend", "target", "*", "word"),
    ("server-* client-* daemon-*", "server", "*", "word"),
    ("client-*", "client", "*", "number"),
)  # fmt: skip


def kind(command: str, option: str, meta: str, description: str) -> str:
    """What the option's value is."""
    if meta == "number":
        return "number"

    def fits(globs: str, text: str, between: str = " ") -> bool:
        return any(fnmatch.fnmatchcase(text, glob) for glob in globs.split(between))

    found = (
        rule[3]
        for rule in RULES
        if fits(rule[0], command) and fits(rule[1], option) and fits(rule[2], description, "|")
    )
    return next(found, "masked")


_OPTION = re.compile(
    r"    (\[*)(?:--)?([a-z0-9][a-zA-Z0-9-]*)?(\]*)(?: "
    r"?<(string|number)>)?(\]?)(\.\.\.)?(?:  ?\s*(\S.*))?"
)


def options(command: str, text: str) -> dict[str, str]:
    """The options that a command's help describes, with their kinds."""
    found = {}
    for line in text.partition("  OPTIONS\n")[2].splitlines():
        match = _OPTION.fullmatch(line.rstrip())
        if not match:
            continue
        bracket, name, _, meta, _, many, description = match.groups()
        if meta is None:
            found[name] = ""
            continue
        required = len(bracket) == 1 or name is None
        what = kind(command, name or "", meta, description or "")
        found[name or ""] = what + ("..." if many or name is None else "!" if required else "")
    usage = text.partition("SYNOPSIS\n")[2].partition("\n")[0]
    # of these the description does not say that it is many
    for name in re.findall(r"\[--([a-z-]+)\] <string>[}>\]]*\.\.\.", usage):
        if name in found:
            found[name] = found[name].removesuffix("!").removesuffix("...") + "..."
    return found


def describe(shell: Iterable[str]) -> dict[str, dict[str, str]]:
    """The commands that a shell's help knows."""

    def ask(*words: str) -> str:
        return subprocess.run(
            [*shell, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        ).stdout

    commands = re.findall(r"^    ([a-z][a-z0-9-]*) ", ask("help"), re.M)
    return {command: options(command, ask("help", command)) for command in commands}


def merge(
    older: Mapping[str, Mapping[str, str]], newer: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """Both releases' commands; where they differ in what an option is, it is masked."""
    result = {command: dict(known) for command, known in older.items()}
    for command, known in newer.items():
        merged = result.setdefault(command, {})
        for option, what in known.items():
            if merged.get(option, what).rstrip("!.") != what.rstrip("!."):
                raise ValueError(f"{command} --{option} is {merged[option]} and {what}")
            merged[option] = merged.get(option, what)
    return result


def generate(shells: Iterable[Iterable[str]]) -> str:
    """The text of shell.json: one line a command, programs by the name that ends each command
    line.
    """
    programs: dict[str, dict[str, dict[str, str]]] = {}
    for shell in shells:
        words = list(shell)
        program = Path(words[-1]).name
        programs[program] = merge(programs.get(program, {}), describe(words))
    parts = []
    for program, commands in sorted(programs.items()):
        lines = ",\n".join(
            f"{json.dumps(command)}: {json.dumps(known)}"
            for command, known in sorted(commands.items())
        )
        parts.append(f"{json.dumps(program)}: {{\n{lines}\n}}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(
        description=(
            f"Make the table of shells' commands, which says what is shown and what is {REDACTED}."
        )
    )
    parser.add_argument(
        "--shell",
        action="append",
        required=True,
        metavar="COMMAND",
        help="virsh, with the words before it (repeatable)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    chosen = parser.parse_args()
    chosen.output.write_text(generate(command.split() for command in chosen.shell))


if __name__ == "__main__":
    main()
