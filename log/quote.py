# SPDX-License-Identifier: LGPL-2.1-or-later
"""Untrusted bytes and text come in; text that can't steer a terminal, fake a line or break an
encoder goes out.
"""

from __future__ import annotations

import re

_is_plain = re.compile(r"[ !#-\[\]-~]*").fullmatch
# NULL, numbers and addresses would be taken for values that are not names
_is_plain_name = re.compile(
    r"(?!(?:NULL|[0-9]+|0x[0-9a-fA-F]+)\Z)[A-Za-z0-9_./][A-Za-z0-9_./:@+%~?&=#-]*"
).fullmatch
_suspect = re.compile(r"[^ !#-\[\]-~]")
_suspect_unquoted = re.compile(r"[^ -\[\]-~]")
_surrogate_or_backslash = re.compile(r"[\ud800-\udfff\\]")
_surrogate = re.compile(r"[\ud800-\udfff]")
# letters and marks by category, so str.isprintable() lets them pass, yet nothing of them is seen
_INVISIBLE = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def quote(text: str) -> str:
    """The text in double quotes, in the manner of C: printable characters as they are, all others
    escaped.

    `\\xNN` is a control character or a byte that was not UTF-8 (from `surrogateescape`), `\\uNNNN`
    and `\\UNNNNNNNN`
    are characters: C1 controls, bidirectional overrides, separators, everything invisible.
    """
    if _is_plain(text):
        return f'"{text}"'
    return f'"{_suspect.sub(_escaped, text)}"'


def escape(text: str) -> str:
    """As `quote`, without the quotes around it and leaving those inside alone: for prose such
    as error messages.
    """
    if _is_plain(text):
        return text
    return _suspect_unquoted.sub(_escaped, text)


def name(text: str) -> str:
    """The bare text where it is a plain word (`web1`, `qemu:///system`), else as `quote` has it."""
    return text if _is_plain_name(text) else quote(text)


def is_visible(text: str) -> bool:
    """Whether every character can be seen (or is a blank), so that the text can go to a
    terminal as it is.
    """
    return text.isprintable() and (text.isascii() or not _INVISIBLE.search(text))


def decode_bytes(data: bytes) -> str:
    """UTF-8 as text; where it is not UTF-8, the bad bytes as `\\xNN` and, in that text, every
    backslash doubled.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return well_formed(data.decode("utf-8", "surrogateescape"))


def well_formed(text: str) -> str:
    """The text without lone surrogates, which UTF-8 can't encode: those in it become bytes, as
    in `decode_bytes`.
    """
    if not text.isascii() and _surrogate.search(text):
        return _surrogate_or_backslash.sub(as_bytes, text)
    return text


def as_bytes(match: re.Match[str]) -> str:
    """For `re.sub`: `\\xNN` for each byte of the character that matched, two backslashes for a
    backslash.
    """
    char = match[0]
    if char == "\\":
        return "\\\\"
    data = char.encode(
        "utf-8", "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass"
    )
    return "".join([f"\\x{byte:02x}" for byte in data])


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    if char in _SHORT:
        return _SHORT[char]
    if is_visible(char):
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def whole_characters(text: bytes) -> bytes:
    """Without the UTF-8 character at its end that a cut left incomplete."""
    for back in range(1, min(4, len(text)) + 1):
        byte = text[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return text[:-back] if needed > back else text
    return text
