# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may follow which words comes in; a script for bash goes out."""

from __future__ import annotations

from collections.abc import Iterator

from enforcer.completions.words import (
    PRINT,
    Verb,
    Word,
    filled,
    first_words,
    quote,
    second_words,
)

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


def bash(known: list[Verb]) -> str:
    """The script for bash, 4.4 or later; bash-completion is made use of where it is loaded."""
    parts = {
        "KINDS": [
            f"{kind}) _libvirt_trace_words < <({command}) ;;" for kind, command in PRINT.items()
        ],
        "VERBS": ["|".join(first_words(known))],
        "VALUES": list(_values(known)),
        "OPTIONS": [
            f"{quote(verb.words)}) options={quote(_option_names(verb))} ;;" for verb in known
        ],
        "FIRST": [" ".join(first_words(known))],
        "SECOND": [" ".join(second_words(known))],
        "POSITIONS": [
            f"{quote(verb.words)}) _libvirt_trace_kind {_kind(verb.positions[0])} ;;"
            for verb in known
            if verb.positions
        ],
    }
    return filled(BASH, parts)


def _option_names(verb: Verb) -> str:
    return " ".join(name for option in verb.options for name in option.names)


def _values(known: list[Verb]) -> Iterator[str]:
    for verb in known:
        for option in verb.options:
            if option.kind is not None and not option.optional:
                names = "|".join(quote(f"{verb.words} {name}") for name in option.names)
                yield f"{names}) _libvirt_trace_kind {_kind(option)}; return ;;"


def _kind(word: Word) -> str:
    return quote(" ".join(word.choices) or word.kind or "")
