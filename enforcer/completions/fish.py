# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may follow which words comes in; a script for fish goes out."""

from __future__ import annotations

from collections.abc import Iterator

from enforcer.completions.words import PRINT, Verb, Word, filled, first_words, second_words

FISH = """\
# Completes libvirt-trace in fish; generated from the parsers of its command lines.
function __libvirt_trace_verb
    set -l words (commandline -opc)
    if contains -- -- $words
        echo command
    else if not contains -- "$words[2]" @FIRST@
        echo
    else if test $words[2] = policy; and contains -- "$words[3]" @SECOND@
        echo "policy $words[3]"
    else
        echo $words[2]
    end
end
complete -c libvirt-trace -f
complete -c libvirt-trace -n 'test (__libvirt_trace_verb) = command' -F
@LINES@
"""


def fish(known: list[Verb]) -> str:
    """The script for fish."""
    parts = {
        "FIRST": [" ".join(first_words(known))],
        "SECOND": [" ".join(second_words(known))],
        "LINES": list(_lines(known)),
    }
    return filled(FISH, parts)


def _lines(known: list[Verb]) -> Iterator[str]:
    for verb in known:
        where = f"""-n 'test (__libvirt_trace_verb) = "{verb.words}"'"""
        if verb.words in first_words(known):
            first = """-n 'test (count (commandline -opc)) -eq 1'"""
            yield _line(first, f"-a {verb.words}", verb.help)
        elif " " in verb.words:
            second = """-n 'test (__libvirt_trace_verb) = policy'"""
            yield _line(second, f"-a {verb.words.partition(' ')[2]}", verb.help)
        for option in verb.options:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            )
            yield _line(where, f"{names}{_value(option, '-x', '-r -F')}", option.help)
        for position in verb.positions:
            yield _line(where, _value(position, "-f", "-F").strip(), position.help)


def _line(where: str, what: str, text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"complete -c libvirt-trace {where} {what} -d '{quoted}'"


def _value(word: Word, none: str, files: str) -> str:
    """`none`: how to say that the value is no file; `files`: that it is one."""
    if word.kind is None:
        return ""
    if word.choices:
        return f" {none} -a '{' '.join(word.choices)}'"
    if word.kind in ("file", "folder"):
        return f" {files}"
    if not word.kind:
        return "" if word.optional else f" {none}"
    command = PRINT[word.kind].replace("\\", "\\\\").replace("'", "\\'")
    return f" {none} -a '({command})'"
