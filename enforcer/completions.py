# SPDX-License-Identifier: LGPL-2.1-or-later
"""Command lines that shells complete: the parsers of all verbs come in, a script for bash, zsh or
fish goes out (`python3 -m enforcer.completions SHELL`).

A script knows verbs, options and their choices by itself. Names that only the host knows are asked
for when they are wanted: functions of `libvirt-trace list`, domains of virsh, services of systemd.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

from enforcer.commands import enforce_parser, policy_parser
from log import VERSION
from log.options import export_parser, log_parser, report_parser, verify_parser
from probes.options import record_parser, tracing_parser
from probes.verbs import list_parser, open_parser, ps_parser, stuck_parser, top_parser

# what a word is, by its metavar and, where that stands for several things, by its dest
KINDS = {
    "COMM": "program",
    "DIR": "folder",
    "FILE": "file",
    "OTHER": "file",
    "PATH": "file",
    "PID": "process",
    "UNIT": "service",
    "USER": "user",
    "functions": "function",
    "globs": "function",
    "objects": "domain",
}
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


def verbs() -> list[Verb]:
    """All that tracer.py understands; sub-verbs of `policy` behind it."""
    found = [
        _verb("", tracing_parser(VERSION)),
        _verb("list", list_parser()),
        _verb("ps", ps_parser()),
        _verb("stuck", stuck_parser()),
        _verb("open", open_parser()),
        _verb("top", top_parser()),
        _verb("record", record_parser(VERSION)),
        _verb("log", log_parser()),
        _verb("report", report_parser()),
        _verb("verify", verify_parser()),
        _verb("export", export_parser()),
        _verb("enforce", enforce_parser()),
    ]
    policy = policy_parser()
    found.append(Verb("policy", policy.description or "", (_HELP,), ()))
    for action in policy._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for name, parser in action.choices.items():
                found.append(_verb(f"policy {name}", parser, helps.get(name)))
    return found


_HELP = Word(("-h", "--help"), "show what there is", None)


def _verb(words: str, parser: argparse.ArgumentParser, text: str | None = None) -> Verb:
    options: list[Word] = []
    positions: list[Word] = []
    for action in parser._actions:
        if action.help is argparse.SUPPRESS:
            continue
        if isinstance(action, argparse._HelpAction):
            options.append(_HELP)
        else:
            (options if action.option_strings else positions).append(_word(action))
    text = (text or parser.description or "").partition("\n")[0].rstrip(".")
    return Verb(words, text, tuple(options), tuple(positions))


def _word(action: argparse.Action) -> Word:
    kind = None
    if action.nargs != 0:
        kind = KINDS.get(action.dest, KINDS.get(str(action.metavar), ""))
    return Word(
        tuple(sorted(action.option_strings, key=len)),
        action.help or "",
        kind,
        tuple(map(str, action.choices or ())),
        action.nargs == "?",
        isinstance(action, argparse._AppendAction) or action.nargs == "*",
    )


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# bash

# Names come from others: they are compared and quoted, never expanded, as compgen -W would do.
BASH = """\
# Completes libvirt-trace in bash; generated from the parsers of its command lines.
_libvirt_trace_words() {
	local word
	while IFS= read -r word; do
		[[ -n $word && $word == "$cur"* ]] && COMPREPLY+=("$(printf %q "$word")")
	done
}

_libvirt_trace_kind() {
	case "$1" in
	@KINDS@
	folder) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	*) _libvirt_trace_words < <(tr ' ' '\\n' <<<"$1") ;;
	esac
}

_libvirt_trace() {
	local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= options= i
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		if [[ ${COMP_WORDS[i]} == -- ]]; then
			declare -F _command_offset >/dev/null && _command_offset $((i + 1))
			return
		fi
	done
	if [[ $cur == = ]]; then
		cur=
	elif [[ $before == = ]]; then
		before=${COMP_WORDS[COMP_CWORD-2]}
	fi
	if ((COMP_CWORD > 1)); then
		case ${COMP_WORDS[1]} in @VERBS@) verb=${COMP_WORDS[1]} ;; esac
	fi
	if ((COMP_CWORD > 2)) && [[ $verb == policy ]]; then
		verb="policy ${COMP_WORDS[2]}"
	fi
	case "$verb $before" in
	@VALUES@
	esac
	if [[ $cur == -* ]]; then
		case "$verb" in
		@OPTIONS@
		esac
		_libvirt_trace_kind "$options"
		return
	fi
	case "$verb" in
	'') ((COMP_CWORD == 1)) && _libvirt_trace_kind '@FIRST@' ;;
	policy) _libvirt_trace_kind '@SECOND@' ;;
	@POSITIONS@
	esac
}
complete -F _libvirt_trace libvirt-trace
"""


def bash() -> str:
    """The script for bash, 4.4 or later; bash-completion is made use of where it is loaded."""
    known = verbs()
    parts = {
        "KINDS": [
            f"{kind}) _libvirt_trace_words < <({command}) ;;" for kind, command in PRINT.items()
        ],
        "VERBS": ["|".join(_first(known))],
        "VALUES": list(_bash_values(known)),
        "OPTIONS": [
            f"{_quote(verb.words)}) options={_quote(_option_names(verb))} ;;" for verb in known
        ],
        "FIRST": [" ".join(_first(known))],
        "SECOND": [" ".join(_second(known))],
        "POSITIONS": [
            f"{_quote(verb.words)}) _libvirt_trace_kind {_bash_kind(verb.positions[0])} ;;"
            for verb in known
            if verb.positions
        ],
    }
    return _filled(BASH, parts)


def _filled(template: str, parts: dict[str, list[str]]) -> str:
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


def _option_names(verb: Verb) -> str:
    return " ".join(name for option in verb.options for name in option.names)


def _bash_values(known: list[Verb]) -> Iterator[str]:
    for verb in known:
        for option in verb.options:
            if option.kind is not None and not option.optional:
                names = "|".join(_quote(f"{verb.words} {name}") for name in option.names)
                yield f"{names}) _libvirt_trace_kind {_bash_kind(option)}; return ;;"


def _bash_kind(word: Word) -> str:
    return _quote(" ".join(word.choices) or word.kind or "")


def _first(known: list[Verb]) -> list[str]:
    return [verb.words for verb in known if verb.words and " " not in verb.words]


def _second(known: list[Verb]) -> list[str]:
    return [verb.words.partition(" ")[2] for verb in known if " " in verb.words]


# zsh

ZSH = """\
#compdef libvirt-trace
# Generated from the parsers of its command lines.
@KINDS@
_libvirt_trace_verb() {
	local -a verbs=(
		@FIRST@
	)
	_describe verb verbs
}
_libvirt_trace_action() {
	local -a actions=(
		@SECOND@
	)
	_describe action actions
}
local verb=
if ((CURRENT > 2)); then
	case ${words[2]} in @VERBS@) verb=${words[2]} ;; esac
fi
if ((CURRENT > 3)) && [[ $verb == policy ]]; then
	verb="policy ${words[3]}"
	shift words; ((CURRENT--))
fi
if [[ -n $verb ]]; then
	shift words; ((CURRENT--))
fi
case "$verb" in
@CASES@
esac
"""


def zsh() -> str:
    """The script for zsh: a file `_libvirt-trace` of its $fpath."""
    known = verbs()
    parts = {
        "KINDS": [
            f'_libvirt_trace_{kind}() {{ compadd -- "${{(@f)$({command})}}" }}'
            for kind, command in PRINT.items()
        ],
        "FIRST": [_zsh_item(verb, verb.words) for verb in known if verb.words in _first(known)],
        "SECOND": [
            _zsh_item(verb, verb.words.partition(" ")[2]) for verb in known if " " in verb.words
        ],
        "VERBS": ["|".join(_first(known))],
        "CASES": [line for verb in known for line in _zsh_case(verb)],
    }
    return _filled(ZSH, parts)


def _zsh_item(verb: Verb, name: str) -> str:
    return _quote(name + ":" + verb.help.replace(":", "\\:"))


def _zsh_case(verb: Verb) -> Iterator[str]:
    yield f"{_quote(verb.words)})"
    yield "\t_arguments -s -S \\"
    for option in verb.options:
        text = _zsh_text(option.help)
        others = "*" if option.repeats else f"({' '.join(option.names)})"
        value = "" if option.kind is None else _zsh_value(option)
        for name in option.names:
            equals = "" if option.kind is None or not name.startswith("--") else "="
            yield f"\t\t{_quote(f'{others}{name}{equals}[{text}]{value}')} \\"
    for at, position in enumerate(verb.positions, 1):
        where = "*" if position.repeats else str(at)
        yield f"\t\t{_quote(f'{where}{_zsh_value(position)}')} \\"
    if not verb.words:
        yield "\t\t'1: :_libvirt_trace_verb' \\"
    if verb.words == "policy":
        yield "\t\t'1: :_libvirt_trace_action' \\"
    if verb.words in ("", "record", "enforce"):
        yield "\t\t'*::command:_normal' \\"
    yield "\t\t&& return"
    yield "\t;;"


def _zsh_text(text: str) -> str:
    for special in "\\[]:":
        text = text.replace(special, f"\\{special}")
    return text


def _zsh_value(word: Word) -> str:
    colon = "::" if word.optional else ":"
    if word.choices:
        return f"{colon}{word.names[-1] if word.names else 'word'}:({' '.join(word.choices)})"
    how = {"file": "_files", "folder": "_files -/", "": " "}
    kind = word.kind or ""
    return f"{colon}{kind or 'value'}:{how.get(kind, f'_libvirt_trace_{kind}')}"


# fish


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


def fish() -> str:
    """The script for fish."""
    known = verbs()
    parts = {
        "FIRST": [" ".join(_first(known))],
        "SECOND": [" ".join(_second(known))],
        "LINES": list(_fish_lines(known)),
    }
    return _filled(FISH, parts)


def _fish_lines(known: list[Verb]) -> Iterator[str]:
    for verb in known:
        where = f"""-n 'test (__libvirt_trace_verb) = "{verb.words}"'"""
        if verb.words in _first(known):
            first = """-n 'test (count (commandline -opc)) -eq 1'"""
            yield _fish(first, f"-a {verb.words}", verb.help)
        elif " " in verb.words:
            second = """-n 'test (__libvirt_trace_verb) = policy'"""
            yield _fish(second, f"-a {verb.words.partition(' ')[2]}", verb.help)
        for option in verb.options:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            )
            yield _fish(where, f"{names}{_fish_value(option, '-x', '-r -F')}", option.help)
        for position in verb.positions:
            yield _fish(where, _fish_value(position, "-f", "-F").strip(), position.help)


def _fish(where: str, what: str, text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"complete -c libvirt-trace {where} {what} -d '{quoted}'"


def _fish_value(word: Word, none: str, files: str) -> str:
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


if __name__ == "__main__":
    print({"bash": bash, "zsh": zsh, "fish": fish}[sys.argv[1]](), end="")
