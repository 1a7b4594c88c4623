# SPDX-License-Identifier: LGPL-2.1-or-later
"""An XML document comes in, which may be cut, wrong or hostile; its tags go out, as far as they
make sense, and what stands where. It is looked through, not parsed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

DEEPEST = 64
_TAG = re.compile(
    r"<(?P<end>/)?(?P<tag>[\w:.-]+)(?P<attributes>(?:[^<>\"']|\"[^\"]*\"|'[^']*')*+)>", re.A
)
_SKIPPED = {"<!--": "-->", "<![CDATA[": "]]>", "<?": "?>", "<!": ">"}
ATTRIBUTE = re.compile(r"(?<![\w:.-])([\w:.-]++)\s*+=\s*+(?:\"([^\"]*)\"|'([^']*)')", re.A)
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&apos;": "'"}


def look_through(text: str) -> tuple[str | None, dict[str, str], Counter[str]]:
    """The document's first tag; contents and attributes by path, the first of each; how often a
    path is there.
    """
    path: list[str] = []
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    root: str | None = None
    opened = 0  # where the content of the last tag begins
    for match in tags(text):
        tag = match["tag"]
        if match["end"]:
            if path and path[-1] == tag:
                found.setdefault("/".join(path[1:]), text[opened : match.start()])
                path.pop()
        else:
            root = root or tag
            path.append(tag)
            place = "/".join(path[1:])
            counts[place] += 1
            for key, double, single in ATTRIBUTE.findall(match["attributes"]):
                found.setdefault(f"{place}@{key}", double or single)
            if match["attributes"].endswith("/") or len(path) > DEEPEST:
                path.pop()
        opened = match.end()
        if not path:
            break
    return root, found, counts


def tags(text: str) -> Iterator[re.Match[str]]:
    """The tags, up to the first thing that is none."""
    at = text.find("<")
    while at >= 0:
        skipped = next((end for start, end in _SKIPPED.items() if text.startswith(start, at)), None)
        if skipped:
            at = text.find(skipped, at)
        else:
            match = _TAG.match(text, at)
            if match is None:
                return
            yield match
            at = match.end()
        at = text.find("<", at) if at >= 0 else at


def unescaped(text: str) -> str:
    """The text with the five entities that XML itself has as characters."""
    for entity, char in _ENTITIES.items():
        text = text.replace(entity, char)
    return text


def names_in(text: str) -> tuple[str, ...]:
    """What a document calls the object that it describes: name and UUID, as far as it does."""
    _, found, _ = look_through(text)
    named = (found.get("name") or found.get("@name"), found.get("uuid"))
    return tuple(unescaped(item.strip()) for item in named if item and item.strip())
