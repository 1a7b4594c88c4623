# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes words.txt, the words of libvirt's own messages: files of libvirt and of what it uses come
in.

    python3 -m log.redact.generate_words --file FILE [--file FILE ...] -o log/redact/words.txt

The bundled list is made from libvirt.so.0, libvirtd, the modules of its drivers and libxml2.so.2 of
Debian 12, 13 and sid.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path

_TEXT = re.compile(rb"[\x20-\x7e\n]{4,}")
_FORMAT = re.compile(r"%(?:[0-9]+\$)?[-+ #0]*[0-9.*]*(?:hh|h|ll|l|z|j)?[a-zA-Z%]")
_WORD = re.compile(r"[A-Za-z][A-Za-z_]*")


def words(data: bytes) -> set[str]:
    """The words in the texts of a file that look like sentences."""
    found: set[str] = set()
    for match in _TEXT.finditer(data):
        text = match[0].decode("ascii")
        if " " in text.strip() and not re.search(r"[{}\\@^`~]|0x|[A-Z]{2}[a-z]|  ", text):
            found.update(_WORD.findall(_FORMAT.sub(" ", text)))
    return found


def generate(files: Iterable[Path]) -> str:
    """The text of words.txt: those of two letters or more, in lower case."""
    found = {word for path in files for word in words(path.read_bytes())}
    found |= {word for number in range(1, 134) for word in _WORD.findall(os.strerror(number))}
    return "".join(
        f"{word}\n"
        for word in sorted({word.lower() for word in found if 1 < len(word) < 40} | {"a"})
    )


def main() -> None:
    """Write the list."""
    parser = argparse.ArgumentParser(description="Make the list of words in libvirt's messages.")
    parser.add_argument(
        "--file",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="a library or daemon (repeatable)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    chosen = parser.parse_args()
    chosen.output.write_text(generate(chosen.file))


if __name__ == "__main__":
    main()
