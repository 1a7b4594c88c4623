# SPDX-License-Identifier: LGPL-2.1-or-later
"""What scripts of all shells are made of: words that may follow each other, and commands that print
what only the host knows.
"""

from __future__ import annotations

from typing import NamedTuple

# commands that print the names of a kind, a line each
PRINT = {
    "domain": "timeout 2 virsh -q -r list --all --name 2>/dev/null | grep .",
    "function": "libvirt-trace list 2>/dev/null"
    " | sed -n 's/^[^ ]* *\\(vir[A-Za-z0-9]*\\)(.*/\\1/p'",
    "process": "ps -e -o pid= | tr -d ' '",
    "program": "ps -e -o comm= | sort -u",
    "service": "systemctl list-unit-files --no-legend 'libvirtd.service' 'virt*d.service'"
    " 2>/dev/null | sed 's/ .*//'",
    "user": "getent passwd | cut -d: -f1",
}


class Word(NamedTuple):
    """An option, or a position of a command line."""

    names: tuple[str, ...]  # of an option, short ones first
    help: str
    kind: str | None  # of its value; "": one that nobody can guess; None: it takes none
    choices: tuple[str, ...] = ()
    optional: bool = False  # the value may be left out
    repeats: bool = False


class Verb(NamedTuple):
    """What may follow the words of a verb ("": none, which traces)."""

    words: str
    help: str
    options: tuple[Word, ...]
    positions: tuple[Word, ...]


def quote(text: str) -> str:
    """A word of bash or zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def filled(template: str, parts: dict[str, list[str]]) -> str:
    """The template; a line with a place for lines becomes one for each."""
    lines = []
    for line in template.splitlines():
        name = line.strip().strip("@")
        if line.strip() == f"@{name}@":
            lines += [line.replace(f"@{name}@", part) for part in parts[name]]
        else:
            for name, part in parts.items():
                line = line.replace(f"@{name}@", part[0])
            lines.append(line)
    return "\n".join([*lines, ""])


def first_words(known: list[Verb]) -> list[str]:
    """What may be the first word."""
    return [verb.words for verb in known if verb.words and " " not in verb.words]


def second_words(known: list[Verb]) -> list[str]:
    """What may be behind `policy`."""
    return [verb.words.partition(" ")[2] for verb in known if " " in verb.words]
