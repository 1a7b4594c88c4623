# SPDX-License-Identifier: LGPL-2.1-or-later
"""A command line comes in; the same goes out with as many words, of which only those are shown that
are known to be harmless.

Shown are the program, options and commands that a known program has, and the values of its options
and positions that hold no secret (tools.py, shell.json). What is not understood hides all values
behind it: nothing is shown because it does not look like a secret.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from log.redact import kinds
from log.redact.json import plain_words
from log.redact.marker import REDACTED
from log.redact.tools import INTERPRETERS, SHELLS, TOOLS, Tool

TABLE = Path(__file__).with_name("shell.json")
CUT = "..."  # stands for the words of a command line that were not kept
_PROGRAM = re.compile(r"[\w./+@-]{1,4096}:?")
_SCRIPT = re.compile(r"/?[\w.+][\w.+-]*(?:/[\w.+-]+)*", re.A)

Commands = Mapping[str, Mapping[str, str]]


def redact_cmdline(words: Sequence[str]) -> tuple[str, ...]:
    """A command line's words without what may be secret."""
    if words and words[-1] == CUT:
        return (*_redacted(tuple(words[:-1])), CUT)
    return _redacted(tuple(words))


def _redacted(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        return ()
    program, arguments = words[0], list(words[1:])
    if not _PROGRAM.fullmatch(program):  # a title that a process has given itself
        first = program.split()[:1]
        return (
            f"{first[0]} {REDACTED}"
            if first and _PROGRAM.fullmatch(first[0]) and len(program.split()) > 1
            else REDACTED,
            *_unknown(arguments),
        )
    return (program, *_arguments(program.rpartition("/")[2].lstrip("-"), arguments))


def _arguments(program: str, words: list[str]) -> list[str]:
    if program in SHELLS:
        return _shell(words, SHELLS[program], commands()[SHELLS[program].commands])
    if program in TOOLS:
        return _tool(words, TOOLS[program])
    if INTERPRETERS.fullmatch(program):
        return _script(words)
    return _unknown(words)


def read_tables() -> None:
    """Reads what is needed to tell which words are harmless."""
    commands()
    _vocabulary()


@functools.cache
def commands() -> dict[str, dict[str, dict[str, str]]]:
    """The commands of virsh and its like: see generate_shell.py."""
    table: dict[str, dict[str, dict[str, str]]] = json.loads(TABLE.read_bytes())
    return table


@functools.cache
def _vocabulary() -> frozenset[str]:
    """Every option that some known program has."""
    known = {
        option
        for tool in (*TOOLS.values(), *SHELLS.values())
        for option in tool.options
        if option.startswith("--")
    }
    for shell in commands().values():
        known |= {f"--{option}" for options in shell.values() for option in options}
    return frozenset(known | {"--", "-"})


def _unknown(words: Sequence[str]) -> list[str]:
    """Words of which nobody knows what they are: options by their name alone, if some program
    has one of that name.
    """
    return [_option_name(word) for word in words]


def _option_name(word: str) -> str:
    name, equals, _ = word.partition("=")
    if name not in _vocabulary():
        return REDACTED
    return f"{name}={REDACTED}" if equals else word


def _script(words: list[str]) -> list[str]:
    """Behind an interpreter: its flags, and a script, which may be a known program."""
    at = 0
    while at < len(words) and re.fullmatch(r"-[BEIOPSbdiqsuvwx]+", words[at]):
        at += 1
    if at == len(words) or not _SCRIPT.fullmatch(words[at]):
        # -c, -e, -m: a program, or what to run
        shown = (
            words[: at + 1] if words[at : at + 1] in (["-c"], ["-e"], ["-m"], ["-"]) else words[:at]
        )
        return [*shown, *_unknown(words[len(shown) :])]
    program = words[at].rpartition("/")[2].removesuffix(".py")
    return [
        *words[: at + 1],
        *(_arguments(program, words[at + 1 :]) if program in TOOLS else _unknown(words[at + 1 :])),
    ]


class _Options:
    """Goes through words as getopt does; `shown` is what is shown of those it went through."""

    def __init__(self, words: Sequence[str], tool: Tool) -> None:
        self._words, self._options = words, tool.options
        self.at = 0
        self.shown: list[str] = []

    def positions(self) -> Iterator[str]:
        """The words that are no options; whoever asks for the next one has appended what is
        shown of the last.
        """
        while self.at < len(self._words):
            word = self._words[self.at]
            self.at += 1
            if word == "--":
                self.shown.append(word)
                for word in self._words[self.at :]:
                    self.at += 1
                    yield word
            elif word.startswith("--"):
                if not self._long(word):
                    return
            elif word.startswith("-") and len(word) > 1:
                if not self._short(word):
                    return
            else:
                yield word

    def _value(self, kind: str) -> bool:
        """The next word is an option's value; one that looks like an option itself leaves in
        doubt which it is.
        """
        if self.at == len(self._words) or (
            self._words[self.at].startswith("-")
            and not re.fullmatch(r"-[0-9]+", self._words[self.at])
        ):
            return False
        self.shown.append(kinds.show(kind, self._words[self.at]))
        self.at += 1
        return True

    def _long(self, word: str) -> bool:
        name, equals, value = word.partition("=")
        kind = self._options.get(name)
        if kind is None or (equals and not kind):
            self.at -= 1
            return False
        if equals:
            self.shown.append(f"{name}={kinds.show(kind.removesuffix('?'), value)}")
            return True
        self.shown.append(word)
        if kind.endswith("?") and (
            self.at == len(self._words) or self._words[self.at].startswith("-")
        ):
            return True
        return not kind or self._value(kind.removesuffix("?"))

    def _short(self, word: str) -> bool:
        for i in range(1, len(word)):
            kind = self._options.get(f"-{word[i]}")
            if kind is None:
                break
            if kind:
                value = word[i + 1 :]
                self.shown.append(word[: i + 1] + (kinds.show(kind, value) if value else ""))
                return bool(value) or self._value(kind)
        else:
            self.shown.append(word)
            return True
        self.at -= 1
        return False

    def rest(self) -> list[str]:
        """What is shown in all: of the words that it did not go through hardly anything."""
        return [*self.shown, *_unknown(self._words[len(self.shown) :])]


def _tool(words: list[str], tool: Tool) -> list[str]:
    options = _Options(words, tool)
    open_positions = list(tool.positions)
    for word in options.positions():
        if not open_positions:
            break
        kind = open_positions[0] if open_positions[0].endswith("...") else open_positions.pop(0)
        options.shown.append(kinds.show(kind.removesuffix("..."), word))
    return options.rest()


def _shell(words: list[str], tool: Tool, known: Commands) -> list[str]:
    """virsh: options, then one command of several words, or several commands in one word."""
    options = _Options(words, tool)
    first = next(options.positions(), None)
    if first is None:
        return options.rest()
    rest = words[options.at - 1 :]
    if len(rest) == 1 and first not in known:
        return [*options.shown, show_line(rest[0], known)]
    shown = _command(rest, known)
    if shown is None:
        shown = [first if first in known else REDACTED, *_unknown(rest[1:])]
    return [*options.shown, *shown]


def _command(words: Sequence[str], known: Commands) -> list[str] | None:
    """One command; None: the program itself would refuse it, so nobody knows what was meant."""
    options = known.get(words[0])
    if options is None:
        return None
    positions = _Positions(options)
    shown, values, only_data = [words[0]], iter(words[1:]), False
    for word in values:
        name, equals, value = word.partition("=")
        if not only_data and word == "--":
            only_data = True
            shown.append(word)
        elif not only_data and re.match(r"--[A-Za-z0-9]", word):
            kind = options.get(name[2:])
            if kind is None or (equals and not kind):
                return None
            shown.append(word)
            if kind:
                if not equals:
                    value = next(values, "")
                    shown.append("")
                if value.startswith("--") or not (value or equals):
                    return None
                text = positions.named(name[2:], value)
                if text is None:
                    return None
                shown[-1] = f"{name}={text}" if equals else text
        elif (data := positions.next(word)) is not None:
            shown.append(data)
        else:
            return None
    return shown if positions.are_filled() else None


class _Positions:
    """What the words of a command are that are no options. Those that must be there come first; of
    the others its help does not say whether they may go without their name, so one is only known if
    there is no other.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options
        self._needed = [option for option, kind in options.items() if kind.endswith(("!", "..."))]
        self._others = [
            option for option, kind in options.items() if kind and not kind.endswith(("!", "..."))
        ]
        self._unnamed = 0  # words for one of the others
        self._command: list[str] = []

    def named(self, option: str, value: str) -> str | None:
        """What is shown of the value of an option that is named; None: it has one already."""
        left = self._needed if option in self._needed else self._others
        if option not in left:
            return None
        if not self._options[option].endswith("..."):
            left.remove(option)
        return self._show(self._options[option], value)

    def next(self, value: str) -> str | None:
        """What is shown of the next word; None: there is no room for it."""
        if self._needed:
            option = self._needed[0]
            if not self._options[option].endswith("..."):
                self._needed.pop(0)
            return self._show(self._options[option], value)
        self._unnamed += 1
        if self._unnamed > len(self._others):
            return None
        return self._show(
            self._options[self._others[0]] if len(self._others) == 1 else "masked", value
        )

    def are_filled(self) -> bool:
        """Whether nothing is missing."""
        return not any(self._options[option].endswith("!") for option in self._needed)

    def _show(self, kind: str, value: str) -> str:
        kind = kind.removesuffix("!").removesuffix("...")
        if kind != "command":
            return kinds.show(kind, value)
        self._command.append(value)
        if len(self._command) == 1:
            return kinds.show(kind, value)
        return value if plain_words(self._command) == len(self._command) else REDACTED


_TOKEN = re.compile(
    r"(?P<blank>[ \t]+)|(?P<end>[;\n])|"
    r"""(?P<word>(?:[^ \t\n;'"\\]|\\[^\n]|'[^']*'|"(?:[^"\\]|\\[^\n])*")+)"""
)
_QUOTED = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\[^\n])*)"|\\(.)""", re.S)


def show_line(line: str, known: Commands) -> str:
    """Commands in one string, as virsh takes them; hidden as a whole if it would refuse one of
    them.
    """
    parts: list[list[re.Match[str]]] = [[]]
    at = 0
    while at < len(line):
        match = _TOKEN.match(line, at)
        if match is None or (match["word"] or "").startswith("#"):
            return REDACTED
        at = match.end()
        if match["end"]:
            parts.append([])
        elif match["word"]:
            parts[-1].append(match)
    shown, at = [], 0
    for part in filter(None, parts):
        words = [_unquoted(match[0]) for match in part]
        texts = _command(words, known)
        if texts is None:
            return REDACTED
        for match, word, text in zip(part, words, texts, strict=True):
            shown += [line[at : match.start()], match[0] if text == word else text]
            at = match.end()
    return "".join([*shown, line[at:]])


def _unquoted(word: str) -> str:
    def plain(match: re.Match[str]) -> str:
        if match[2] is not None:
            return re.sub(r"\\(.)", r"\1", match[2])
        return match[1] if match[1] is not None else match[3]

    return _QUOTED.sub(plain, word)
