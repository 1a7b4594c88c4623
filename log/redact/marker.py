# SPDX-License-Identifier: LGPL-2.1-or-later
"""The word that stands where text is hidden, and how tables of words are written."""

REDACTED = "<redacted>"


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())
