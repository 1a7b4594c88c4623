# SPDX-License-Identifier: LGPL-2.1-or-later
"""A URI comes in; the same goes out with only those parts that can hold no secret.

Shown are scheme, user, host, port, path and the parameters that libvirt knows, each only in the
form that it should have: a password with a slash in it makes the authority end too early, so where
a part looks wrong, all that follows the scheme is hidden.
"""

from __future__ import annotations

import re

from log.redact.marker import REDACTED

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,30}"
_URI = re.compile(rf"({_SCHEME}://)(.*)", re.S)
_IN_TEXT = re.compile(r"[A-Za-z0-9+.-]{0,40}://")
_USER = re.compile(r"(?:[\w.\\-]|%5[cC]|%40){1,64}", re.A)
_HOST = re.compile(r"(?:[\w.-]*|\[[0-9A-Fa-f:.%]+\])(?::[0-9]{1,5})?", re.A)
_PATH = re.compile(r"(?:/(?:[\w./+,~%-]| (?! ))*)?")
_FILE = r"/[\w./+,@~%-]*"
_WORD = r"[\w.-]{1,32}"
# libvirt's own parameters, and how their values look
_PARAMETERS = {
    **dict.fromkeys(
        ("socket", "keyfile", "pkipath", "known_hosts", "command", "netcat", "root", "authfile"),
        _FILE,
    ),
    **dict.fromkeys(("mode", "proxy", "sshauth", "known_hosts_verify", "transport"), _WORD),
    **dict.fromkeys(("no_verify", "no_sanity", "no_tty", "auto_answer"), r"[01]"),
}


def redact_uri(uri: str) -> str:
    """The URI, or a text without one as it is."""
    match = _URI.fullmatch(uri)
    return match[1] + _rest(match[2]) if match else REDACTED if has_uri(uri) else uri


def redact_uris(text: str, *, is_cut: bool = False) -> str:
    """Text without what may be secret in the URI in it: it goes on to the end, as nobody knows
    where it ends.

    `is_cut`: there was more, so that it does not show what is user info and what a host.
    """
    match = _IN_TEXT.search(text)
    if match is None:
        return text
    is_one = re.fullmatch(f"{_SCHEME}://", match[0]) and not is_cut
    return text[: match.end()] + (_rest_in_text(text[match.end() :]) if is_one else REDACTED)


def find_uri(text: str) -> re.Match[str] | None:
    """The scheme of the first URI in the text."""
    return _IN_TEXT.search(text)


def has_uri(text: str) -> bool:
    """Whether there may be a URI in the text."""
    return "://" in text


def _rest_in_text(rest: str) -> str:
    """What follows a scheme in a sentence: shown is a URI that goes to the end or to a closing
    quote at the end.
    """
    inner = rest.rstrip("'\"): ;.")
    return _rest(inner) + rest[len(inner) :]


def _rest(rest: str) -> str:
    authority, slash, path = rest.partition("/")
    before, question, _ = authority.partition("?")
    if question:
        authority, slash, path = before, "", rest[len(before) :]
    user_info, at, host = authority.rpartition("@")
    path, question, query = (slash + path).partition("?")
    if (
        not _HOST.fullmatch(host)
        or not _PATH.fullmatch(path)
        or (authority and "@" in path + query)
    ):
        return REDACTED
    return _user(user_info) + at + host + path + (question + _query(query) if question else "")


def _user(user_info: str) -> str:
    user, colon, _ = user_info.partition(":")
    if user and not _USER.fullmatch(user):
        return REDACTED
    return user + (colon + REDACTED if colon else "")


def _query(query: str) -> str:
    return "&".join(_parameter(*part.partition("=")) for part in query.split("&"))


def _parameter(name: str, equals: str, value: str) -> str:
    if name not in _PARAMETERS:
        return f"{name}={REDACTED}" if name in ("password", "name") else REDACTED
    return (
        name + equals + (value if not value or re.fullmatch(_PARAMETERS[name], value) else REDACTED)
    )
