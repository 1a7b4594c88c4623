# SPDX-License-Identifier: LGPL-2.1-or-later
"""Takes secrets out: command lines and URIs come in, the same with `<redacted>` in place of passwords come out.

A secret is known by where it stands, so too much is hidden rather than too little: the word behind `--password` always is,
whatever it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from log.events import CutText, Value

REDACTED = "<redacted>"
DEEPEST = 4  # command lines inside command lines: sudo sh -c "ssh host 'virsh ...'"

# the words that name a secret, at the end of an option or key: --root-password, vncPasswd, but not password-file or compass
_SECRET_WORD = r"(?:pass(?:word|wd|phrase)|(?<![a-z0-9])(?:pass|pwd|passcode|token|secret[_-]?key|api[_-]?key))"


class Pattern(NamedTuple):
    """Text in which the group `secret` is hidden."""

    reason: str
    text: re.Pattern[str]


def _pattern(reason: str, text: str) -> Pattern:
    return Pattern(reason, re.compile(text, re.I | re.S))


# looked for anywhere in a word of a command line; what a quoted value holds ends with its quote, another one at a comma or blank
PATTERNS = (
    _pattern("user info in URIs: qemu+tcp://user:secret@host/", r"[a-z0-9+.-]://[^\s/?#:@'\"]*:(?P<secret>[^\s/'\"]*)@"),
    _pattern(
        "key=value: virt-install --graphics vnc,password=secret, XML attributes, PASSWORD=secret in front of a command",
        rf"{_SECRET_WORD}\s*=\s*(?:'(?P<secret>[^']*)|\"(?P<secret2>[^\"]*)|(?P<secret3>[^\s,;&'\"]+))",
    ),
    _pattern(
        "JSON: virsh qemu-monitor-command and qemu-agent-command",
        rf"{_SECRET_WORD}(?P<quote>\\{{0,7}}[\"'])\s*:\s*(?P=quote)(?P<secret>.*?)(?P=quote)",
    ),
    _pattern("XML elements", rf"<[a-z0-9_.-]{{0,40}}?{_SECRET_WORD}(?:\s[^<>]*)?>(?P<secret>[^<]*)"),
    _pattern("XML elements that hold a secret's value, not those that refer to one", r"<secret(?:\s[^<>]*)?>\s*(?P<secret>[^<\s][^<]*)"),
    _pattern("QEMU's monitor: set_password vnc secret", r"\bset_password\s+\w+\s+(?P<secret>\S+)"),
    _pattern("the same: change vnc password secret", r"\bchange\s+vnc\s+password\s+(?P<secret>\S+)"),
    _pattern("QEMU's secrets: -object secret,id=a,data=secret", r"\bsecret,(?:(?:(?!secret,)\S)*?,)?data=(?P<secret>[^\s,]+)"),
    _pattern("QEMU's secrets in JSON", r'"qom-type"\s*:\s*"secret"(?:(?!"qom-type").)*?"data"\s*:\s*"(?P<secret>[^"]*)'),
    _pattern("libguestfs: --root-password password:secret, --password user:password:secret", r"(?:^|[\s=:])password:(?P<secret>[^\s:]+)"),
    _pattern("libguestfs: --key disk:key:secret", r":key:(?P<secret>\S+)"),
)

# --root-password secret, --password=secret; an option word of its own, so the words around it are needed
_OPTION = re.compile(rf"--?[a-z0-9_.-]*{_SECRET_WORD}", re.I)


class Command(NamedTuple):
    """A command of virsh with a secret among its arguments: what its words mean when they are not options."""

    positions: tuple[str, ...]
    options: tuple[str, ...]  # further options that take a value
    secret: str


COMMANDS = {
    "set-user-password": Command(("domain", "user", "password"), (), "password"),
    "secret-set-value": Command(("secret", "base64"), ("file",), "base64"),
}

_SECRET_FIELD = re.compile(rf"{_SECRET_WORD}|(?<![a-z])secret(?!-header)", re.I)
_WORTH_A_LOOK = re.compile(rf"{_SECRET_WORD}|://|:key:|secret|set-user-password", re.I)
# words of a shell command line and what separates commands
_WORD = re.compile(r"(?:[^\s;&|'\"\\]|\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\"|['\"\\])+|[;&|\n]+", re.S)
_BLANK = re.compile(r"\s")
_SEPARATOR = re.compile(r"[;&|\n]+")
_QUOTING = re.compile(r"\\(.)|['\"]", re.S)


def redact_cmdline(words: Sequence[str]) -> tuple[str, ...]:
    """A command line's words without its secrets."""
    if not any(map(_WORTH_A_LOOK.search, words)):
        return tuple(words)
    return tuple(_redact_words(words, 0))


def redact_text(text: str) -> str:
    """Text of any kind, an XML document or a command for QEMU's monitor, without what stands where passwords do."""
    return _redact_text(text) if _WORTH_A_LOOK.search(text) else text


def is_secret_name(field: str) -> bool:
    """Whether what has this name is a secret."""
    return bool(_SECRET_FIELD.search(field))


def redact_uri(uri: str) -> str:
    """A URI, or text with URIs in it, without the passwords of their user info and parameters."""
    return _redact_text(uri) if _WORTH_A_LOOK.search(uri) else uri


def redact_json(value: Value) -> Value:
    """A message to a monitor without its secrets, and without the end of its line."""
    if isinstance(value, str):
        return redact_uri(value.rstrip("\r\n"))
    if isinstance(value, CutText):
        return value._replace(text=redact_uri(value.text + '"').removesuffix('"'))  # a value that was cut ends there
    return value


def _redact_words(words: Sequence[str], depth: int) -> list[str]:
    result = [word if hidden is None else hidden for word, hidden in zip(words, _hide(words), strict=True)]
    for at, word in enumerate(result):
        if word == words[at]:
            word = _redact_text(word)  # before quotes are taken off
            result[at] = _redact_line(word, depth + 1) if depth < DEEPEST and _BLANK.search(word) else word
    return result


def _redact_line(line: str, depth: int) -> str:
    """A command line in one string, as `sh -c` and virsh take it."""
    spans = [match.span() for match in _WORD.finditer(line)]
    words = [line[start:end] for start, end in spans]
    for (start, end), raw in zip(reversed(spans), reversed(_redact_quoted(words, depth)), strict=True):
        line = line[:start] + raw + line[end:]
    return line


def _redact_quoted(words: list[str], depth: int) -> list[str]:
    """Words with their quotes, redacted; one without a secret stays as it is, to the letter."""
    plain = [_QUOTING.sub(lambda match: match[1] or "", word) for word in words]
    redacted = _redact_words(plain, depth)
    return [new if new != old else word for word, old, new in zip(words, plain, redacted, strict=True)]


def _redact_text(text: str) -> str:
    for pattern in PATTERNS:
        text = pattern.text.sub(_without_secret, text)
    return text


def _without_secret(match: re.Match[str]) -> str:
    for group in match.re.groupindex:
        if group.startswith("secret") and match[group]:
            start, end = match.start(group) - match.start(), match.end(group) - match.start()
            return match[0][:start] + REDACTED + match[0][end:]
    return match[0]


def _hide(words: Sequence[str]) -> list[str | None]:
    """For each word that is a secret because of the words before it, what is shown instead."""
    hidden: list[str | None] = [None] * len(words)
    command: Command | None = None
    left: list[str] = []  # what the next words mean that are no options
    value_of: str | None = None  # the option whose value this word is
    for at, word in enumerate(words):
        name, equals, _ = word.partition("=")
        option = name.lstrip("-") if name.startswith("-") and len(name) > 1 else None
        if value_of is not None:
            hidden[at] = REDACTED if value_of == "secret" else None
            value_of = None
        elif _SEPARATOR.fullmatch(word):
            command = None
        elif word in COMMANDS:
            command, left = COMMANDS[word], list(COMMANDS[word].positions)
        elif option is not None and (_OPTION.fullmatch(name) or (command and option == command.secret)):
            if equals:
                hidden[at] = f"{name}={REDACTED}"
            else:
                value_of = "secret"
            if command and option in left:
                left.remove(option)
        elif command and option is not None:
            if option in left or option in command.options:
                left = [meaning for meaning in left if meaning != option]
                value_of = None if equals else "other"
        elif command and left and left.pop(0) == command.secret:
            hidden[at] = REDACTED
    return hidden
