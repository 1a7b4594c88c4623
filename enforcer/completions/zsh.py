# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may follow which words comes in; a script for zsh goes out."""

from __future__ import annotations

from collections.abc import Iterator

from enforcer.completions.words import PRINT, Verb, Word, filled, first_words, quote

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


def zsh(known: list[Verb]) -> str:
    """The script for zsh: a file `_libvirt-trace` of its $fpath."""
    parts = {
        "KINDS": [
            f'_libvirt_trace_{kind}() {{ compadd -- "${{(@f)$({command})}}" }}'
            for kind, command in PRINT.items()
        ],
        "FIRST": [_item(verb, verb.words) for verb in known if verb.words in first_words(known)],
        "SECOND": [
            _item(verb, verb.words.partition(" ")[2]) for verb in known if " " in verb.words
        ],
        "VERBS": ["|".join(first_words(known))],
        "CASES": [line for verb in known for line in _case(verb)],
    }
    return filled(ZSH, parts)


def _item(verb: Verb, name: str) -> str:
    return quote(name + ":" + verb.help.replace(":", "\\:"))


def _case(verb: Verb) -> Iterator[str]:
    yield f"{quote(verb.words)})"
    yield "\t_arguments -s -S \\"
    for option in verb.options:
        text = _text(option.help)
        others = "*" if option.repeats else f"({' '.join(option.names)})"
        value = "" if option.kind is None else _value(option)
        for name in option.names:
            equals = "" if option.kind is None or not name.startswith("--") else "="
            yield f"\t\t{quote(f'{others}{name}{equals}[{text}]{value}')} \\"
    for at, position in enumerate(verb.positions, 1):
        where = "*" if position.repeats else str(at)
        yield f"\t\t{quote(f'{where}{_value(position)}')} \\"
    if not verb.words:
        yield "\t\t'1: :_libvirt_trace_verb' \\"
    if verb.words == "policy":
        yield "\t\t'1: :_libvirt_trace_action' \\"
    if verb.words in ("", "record", "enforce"):
        yield "\t\t'*::command:_normal' \\"
    yield "\t\t&& return"
    yield "\t;;"


def _text(text: str) -> str:
    for special in "\\[]:":
        text = text.replace(special, f"\\{special}")
    return text


def _value(word: Word) -> str:
    colon = "::" if word.optional else ":"
    if word.choices:
        return f"{colon}{word.names[-1] if word.names else 'word'}:({' '.join(word.choices)})"
    how = {"file": "_files", "folder": "_files -/", "": " "}
    kind = word.kind or ""
    return f"{colon}{kind or 'value'}:{how.get(kind, f'_libvirt_trace_{kind}')}"
