# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles name globs into the automaton that the BPF program runs: patterns come in, bit masks
go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

STATES = 64


class Automaton(NamedTuple):
    """All patterns at once; a bit is a place in a pattern (as many places as it has characters, and
    its end).

    A byte moves a state on where `accepts[byte]` has its bit; `stay`: a star keeps it; `char`: it
    is behind a wildcard, and the further bytes of a UTF-8 character keep it.
    """

    accepts: tuple[int, ...]  # 256
    start: int
    stay: int
    char: int
    end: int

    def matches(self, text: bytes) -> bool:
        """What the BPF program computes."""
        state = self.start
        for byte in text:
            stay = self.stay | (self.char if byte & 0xC0 == 0x80 else 0)
            state = ((state & self.accepts[byte]) << 1) | (state & stay)
        return bool(state & self.end)


def compile_globs(patterns: Sequence[str]) -> Automaton | None:
    """Globs as fnmatch.fnmatchcase() reads them; None where they need more than 64 places or
    sets of non-ASCII characters.
    """
    accepts = [0] * 256
    start = stay = char = end = 0
    place = 0
    for pattern in patterns:
        start |= 1 << place
        tokens = _tokens(pattern)
        if tokens is None:
            return None
        for token in tokens:
            if token == "*":
                stay |= 1 << place
                continue
            assert not isinstance(token, str)
            for byte in token.accepted:
                accepts[byte] |= 1 << place
            place += 1
            if token.wild:
                char |= 1 << place
        end |= 1 << place
        place += 1
        if place > STATES:
            return None
    return Automaton(tuple(accepts), start, stay, char, end)


class _Token(NamedTuple):
    accepted: frozenset[int]
    wild: bool  # may stand for a character of several bytes


# a character's first byte; the further ones keep the state behind it
_ANY = frozenset(byte for byte in range(1, 256) if byte & 0xC0 != 0x80)


def _tokens(pattern: str) -> list[_Token | str] | None:
    tokens: list[_Token | str] = []
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*":
            tokens.append("*")
        elif letter == "?":
            tokens.append(_Token(_ANY, True))
        elif letter == "[" and (close := _closing(pattern, at)) is not None:
            token = _set_token(pattern[at:close])
            if token is None:
                return None
            tokens.append(token)
            at = close + 1
        else:
            tokens.extend(
                _Token(frozenset((byte,)), False)
                for byte in letter.encode("utf-8", "surrogateescape")
            )
    return tokens


def _closing(pattern: str, at: int) -> int | None:
    first = at + 1 if pattern[at : at + 1] == "!" else at
    close = pattern.find("]", first + 1)
    return close if close >= 0 else None


def _set_token(inner: str) -> _Token | None:
    if not inner.isascii():
        return None
    negated = inner.startswith("!")
    letters = inner[1:] if negated else inner
    accepted: set[int] = set()
    at = 0
    while at < len(letters):
        if at + 2 < len(letters) and letters[at + 1] == "-":
            accepted.update(range(ord(letters[at]), ord(letters[at + 2]) + 1))
            at += 3
        else:
            accepted.add(ord(letters[at]))
            at += 1
    return _Token(_ANY - accepted if negated else frozenset(accepted), negated)
