# SPDX-License-Identifier: LGPL-2.1-or-later
"""The words of libvirt's messages: those of sentences in its files, and all of them are bundled."""

from __future__ import annotations

import os
from pathlib import Path

from log.redact.generate_words import generate, words

LIBVIRT = Path(os.path.realpath("/usr/lib/x86_64-linux-gnu/libvirt.so.0"))
BUNDLED = Path(generate.__code__.co_filename).with_name("words.txt")


def test_words_are_those_of_sentences_without_formats() -> None:
    text = b"\x01Domain '%1$s' is at %llu MiB\0virDomainGetName\0if (a) { b c }\0ab c\0"
    assert words(text) == {"Domain", "is", "at", "MiB", "ab", "c"}


def test_words_of_this_libvirt_are_bundled() -> None:
    bundled = set(BUNDLED.read_text().splitlines())
    own = set(generate([LIBVIRT]).splitlines())
    assert len(own) > 1000 and own <= bundled
