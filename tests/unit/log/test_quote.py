# SPDX-License-Identifier: LGPL-2.1-or-later
"""Untrusted text, quoted: nothing that steers, hides or breaks a line is left, and nothing is
lost.
"""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from log import quote
from tests.unit.log_samples import HOSTILE, any_text


@pytest.mark.parametrize(
    "text, quoted",
    [
        ("web1", '"web1"'),
        ("", '""'),
        ('say "hi"', '"say \\"hi\\""'),
        ("C:\\x", '"C:\\\\x"'),
        ("a\nb\tc\rd", '"a\\nb\\tc\\rd"'),
        ("\x1b[31m\x00\x7f", '"\\x1b[31m\\x00\\x7f"'),
        ("\x85\x9b", '"\\u0085\\u009b"'),
        ("\u202egro.live\u2066", '"\\u202egro.live\\u2066"'),
        ("a\u200bb\xad\ufeff\u2028\u2029", '"a\\u200bb\\u00ad\\ufeff\\u2028\\u2029"'),
        ("\U000e0041\ufe0f\u3164\u2800", '"\\U000e0041\\ufe0f\\u3164\\u2800"'),
        ("\udcff\ud800", '"\\xff\\ud800"'),
        ("Büro 東京 [red]", '"Büro 東京 [red]"'),
    ],
)
def test_quote_escapes_what_is_not_seen(text, quoted):
    assert quote.quote(text) == quoted


@pytest.mark.parametrize(
    "text",
    [
        "web1",
        "qemu:///system",
        "qemu+ssh://root@host/system?no_verify=1",
        "52:54:00:12:34:56",
        "/dev/vda",
    ],
)
def test_name_leaves_plain_words_alone(text):
    assert quote.name(text) == text


@pytest.mark.parametrize(
    "text", ["", "a b", "a,b", "a)", "NULL", "42", "0x7f", "-1", "?", "<x>", "web\u0456", "a\n"]
)
def test_name_quotes_what_could_be_mistaken(text):
    assert quote.name(text) == quote.quote(text)


def test_escape_keeps_the_quotes_of_prose():
    assert quote.escape("no domain 'a' \"b\"\x1b\\") == "no domain 'a' \"b\"\\x1b\\\\"


@given(any_text)
def test_quoted_text_shows_every_character_and_no_other(text):
    quoted = quote.quote(text)
    for char in quoted:
        assert unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"), repr(quoted)
    assert _unquote(quoted) == text


@given(any_text)
def test_quoted_text_ends_where_its_quotes_do(text):
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', quote.quote(text))


@pytest.mark.parametrize(
    "data, text",
    [
        (b"web1", "web1"),
        ("Büro\\".encode(), "Büro\\"),
        (b"caf\xe9", "caf\\xe9"),
        (b"\\\xff\xc3\xbc", "\\\\\\xffü"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        (b"\xf5\xc0\xaf", "\\xf5\\xc0\\xaf"),
    ],
)
def test_bytes_that_are_not_utf8_become_hexadecimal(data, text):
    assert quote.decode_bytes(data) == text


@given(st.binary())
def test_decoded_bytes_can_be_encoded_and_turned_back(data):
    text = quote.decode_bytes(data)
    text.encode()
    try:
        assert text == data.decode()
    except UnicodeDecodeError:
        parts = re.split(r"\\(\\|x[0-9a-f]{2})", text)
        back = b"".join(
            part.encode()
            if index % 2 == 0
            else b"\\"
            if part == "\\"
            else bytes([int(part[1:], 16)])
            for index, part in enumerate(parts)
        )
        assert back == data


@given(any_text)
def test_well_formed_text_can_always_be_encoded(text):
    quote.well_formed(text).encode()


def test_hostile_name_stays_on_its_line():
    assert quote.name(HOSTILE) == (
        '"\\x1b[31m\\n[red]\\u202eevil\\u2066\\u009b\\r\\x00\\x7f\\ufeff\\u2028\\U000e0041"'
    )


def _unquote(quoted: str) -> str:
    def char(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU":
            number = int(code[1:], 16)
            return chr(number + 0xDC00 if code[0] == "x" and number >= 0x80 else number)
        return {"n": "\n", "r": "\r", "t": "\t"}.get(code, code)

    return re.sub(r"\\(x..|u....|U.{8}|.)", char, quoted[1:-1])
