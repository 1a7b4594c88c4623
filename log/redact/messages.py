# SPDX-License-Identifier: LGPL-2.1-or-later
"""An error's code and message come in; the message goes out without what a program, a document or a
guest may have put into it.

libvirt's messages quote what they complain of: a line of a document, a value, a command, a URI. Of
a message nothing is shown but its first line, and of that only words that libvirt itself uses
(words.txt, and its translations where they are installed), outside of quotes; within quotes only
names of elements and attributes. Messages of the codes in PLAIN quote names of objects and
functions only, and are shown.
"""

from __future__ import annotations

import contextlib
import functools
import gettext
import os
import re
from pathlib import Path

from log.redact.marker import REDACTED
from log.redact.uri import find_uri, redact_uris
from log.redact.xml import known

WORDS = Path(__file__).with_name("words.txt")
FUNCTIONS = Path(__file__).with_name("functions.txt")  # made with the API table
CATALOGS = Path("/usr/share/locale")
# messages that are remembered: here, as who decodes errors and who decodes arguments both ask, and
# a message takes 60 us
KEPT = 1024
# VIR_ERR_*: what their messages quote is what the call shows anyway
PLAIN = {
    3: "NO_SUPPORT: the name of a function",
    6: "INVALID_CONN: likewise",
    7: "INVALID_DOMAIN: likewise",
    28: "DOM_EXIST: the name of a domain",
    29: "OPERATION_DENIED: that a connection is read-only",
    36: "INVALID_NETWORK: the name of a function",
    37: "NETWORK_EXIST: the name of a network",
    42: "NO_DOMAIN: the name or UUID that was looked for",
    43: "NO_NETWORK: likewise",
    46: "INVALID_STORAGE_POOL: the name of a function",
    47: "INVALID_STORAGE_VOL: likewise",
    49: "NO_STORAGE_POOL: the name or UUID that was looked for",
    50: "NO_STORAGE_VOL: likewise, or the key or path",
    52: "INVALID_NODE_DEVICE: the name of a function",
    53: "NO_NODE_DEVICE: the name that was looked for",
    57: "NO_INTERFACE: the name that was looked for",
    58: "INVALID_INTERFACE: the name of a function",
    61: "INVALID_NWFILTER: likewise",
    62: "NO_NWFILTER: the name or UUID that was looked for",
    65: "INVALID_SECRET: the name of a function",
    66: "NO_SECRET: the UUID or usage that was looked for",
    68: "OPERATION_TIMEOUT: who holds an object",
    71: "INVALID_DOMAIN_SNAPSHOT: the name of a function",
    72: "NO_DOMAIN_SNAPSHOT: the name that was looked for",
    73: "INVALID_STREAM: the name of a function",
    80: "NO_DOMAIN_METADATA: that there is none",
    88: "ACCESS_DENIED: the message of a policy's rule",
    90: "STORAGE_VOL_EXIST: the name of a volume",
    100: "INVALID_NWFILTER_BINDING: the name of a function",
    101: "NO_NWFILTER_BINDING: the name that was looked for",
    102: "INVALID_DOMAIN_CHECKPOINT: the name of a function",
    103: "NO_DOMAIN_CHECKPOINT: the name that was looked for",
    105: "INVALID_NETWORK_PORT: the name of a function",
    107: "NO_NETWORK_PORT: the UUID that was looked for",
}
_PIECE = re.compile(
    r"(?P<quoted>(?<!\w)(?:'[^']*'|\"[^\"]*\"|`[^`]*[`']|\u201c[^\u201d]*\u201d|\u201e[^\u201c\u201d]*[\u201c\u201d]|\u00ab[^\u00bb]*\u00bb)(?!\w))"
    r"|(?P<blank>\s+)|(?P<chunk>[^\s'\"`\u201c\u201e\u00ab]+(?:['\u2019](?:t|s|re|ll)\b[^\s'\"`]*)?)|(?P<other>.)",
    re.S,
)
_CHUNK = re.compile(r"([(\[]*)(.*?)([.,:;!?)\]]*)", re.S)
_PLACE = re.compile(
    r"\((?:\w+_definition\w*|vir\w*|domain_\w+)\):[0-9]{1,6}(?::[0-9]{1,6})?"
)  # (domain_definition):1, where a document is wrong
_NUMBER = re.compile(r"-?[0-9]{1,6}|0x[0-9a-f]{1,8}")
# drivers call theirs as the public ones are called
_FUNCTION = re.compile(r"(?:vir|test|qemu|remote|lxc)([A-Z][A-Za-z0-9]*)")

_MARKS = frozenset(("", "-", "--", "/", "=", "<", ">", "%"))
_ALIKE = re.compile(rf"{REDACTED}(?:[\s.,:;()\[\]/%!?-]*{REDACTED})+")


@functools.lru_cache(maxsize=KEPT)
def redact_error(code: int, message: str) -> str:
    """What may be shown of the message of an error with this code (VIR_ERR_*)."""
    if code in PLAIN:
        return redact_uris(message)
    first, newline, _ = message.partition("\n")
    before, uri, after = _split(first)
    shown = _known_words(before) + uri + _known_words(after)
    return _ALIKE.sub(REDACTED, shown + (f" {REDACTED}" if newline else ""))


def _split(line: str) -> tuple[str, str, str]:
    """What stands before a URI, what is shown of it, and what stands behind it if that is known."""
    shown = redact_uris(line)
    match = find_uri(shown)
    if match is None:
        return line, "", ""
    end = re.compile(r"[\s'\"]|$").search(shown, match.end())
    assert end
    return shown[: match.start()], shown[match.start() : end.start()], shown[end.start() :]


def _known_words(line: str) -> str:
    matches = list(_PIECE.finditer(line))
    is_known = all(_is_known(match["chunk"], frozenset()) for match in matches if match["chunk"])
    more = frozenset[str]() if is_known else translated()
    shown = []
    for match in matches:
        shown.append(_piece(match, more))
        if match["other"]:
            break  # a quote without an end
    return "".join(shown)


def _piece(match: re.Match[str], more: frozenset[str]) -> str:
    text = match[0]
    if match["quoted"]:
        inner = text[1:-1]
        return text if not inner or inner in _places() else f"{text[0]}{REDACTED}{text[-1]}"
    if match["chunk"] is None:
        return text if match["blank"] else REDACTED
    if _is_known(text, more):
        return text
    parts = _CHUNK.fullmatch(text)
    return f"{parts[1]}{REDACTED}{parts[3]}" if parts else REDACTED


def _is_known(chunk: str, more: frozenset[str]) -> bool:
    """Whether every word of what stands between blanks is libvirt's."""
    parts = _CHUNK.fullmatch(chunk)
    core = parts[2] if parts else chunk
    if core in _MARKS or _NUMBER.fullmatch(core) or _PLACE.fullmatch(chunk.rstrip(":")):
        return True
    if (element := re.fullmatch(r"<(\w+)>", core)) or (function := _FUNCTION.fullmatch(core)):
        return (
            element[1] in _places()
            if element
            else function is not None and f"vir{function[1]}" in _functions()
        )
    return all(word.lower() in words() or word.lower() in more for word in re.split(r"[-/]", core))


def read_tables() -> None:
    """Reads what is needed to tell which words are libvirt's own."""
    for read in (words, translated, _functions, _places):
        read()


@functools.cache
def words() -> frozenset[str]:
    """libvirt's words, in lower case."""
    ours = WORDS.read_text().split()
    return (
        frozenset(ours)
        | {f"{word}'s" for word in ours}
        | {"can't", "don't", "doesn't", "isn't", "won't", "couldn't"}
    )


@functools.cache
def translated() -> frozenset[str]:
    """Words of libvirt's translations into the languages of this host."""
    languages = {
        os.environ.get(name, "").partition(".")[0] for name in ("LC_ALL", "LC_MESSAGES", "LANG")
    }
    languages |= set(os.environ.get("LANGUAGE", "").split(":"))
    found: set[str] = set()
    for name in {
        part
        for language in languages
        if re.fullmatch(r"[a-z]{2,3}(?:_[A-Z]{2})?", language)
        for part in (language, language[:2])
    }:
        with (
            contextlib.suppress(OSError, ValueError, UnicodeError, LookupError),
            (CATALOGS / name / "LC_MESSAGES/libvirt.mo").open("rb") as file,
        ):
            texts = gettext.GNUTranslations(file)._catalog.values()  # type: ignore[attr-defined]  # no other way to list them
            found.update(
                word.lower() for text in texts for word in re.findall(r"[^\W\d_]\w+", text)
            )
    return frozenset(found)


@functools.cache
def _functions() -> frozenset[str]:
    """Names of libvirt's public functions."""
    return frozenset(FUNCTIONS.read_text().split())


@functools.cache
def _places() -> frozenset[str]:
    """Names of elements and attributes of libvirt's documents."""
    names = {"passwd", "username", "password"}
    for place, shown in known().places.items():
        names |= {place.rpartition("/")[2], *shown}
    return frozenset(names - {"."})
