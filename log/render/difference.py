# SPDX-License-Identifier: LGPL-2.1-or-later
"""An XML document and the one before it come in; one line that says what has changed goes out:
`<domain name=web1 memory=64MiB -> 128MiB, +disk vdb>`.

Like abstract.py it looks through the documents for tags, as they may be cut, wrong or hostile: what
is not told of both to the end is neither added nor removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from log.documents import ATTRIBUTE, DEEPEST, tags
from log.quote import name
from log.redact.marker import REDACTED
from log.render.abstract import LONGEST, abstract, plain, size
from log.values import Xml

MOST_ELEMENTS = 20_000  # of a document that are compared
MOST_CHANGES = 16  # that are shown
_LONGEST_CHANGE = 300  # characters
_UNITS = {
    **dict.fromkeys(("memory", "currentMemory", "maxMemory"), "KiB"),
    **dict.fromkeys(("capacity", "allocation", "available", "physical"), "bytes"),
}
# what tells an element from its neighbours: of a child the attribute, else an attribute of its own
_CHILDREN = (("target", "dev"), ("mac", "address"))
_OWN = ("name", "id", "dev")


class _Element:
    __slots__ = ("attributes", "children", "closed", "id", "pieces", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[_Element] = []
        self.pieces: list[str] = []  # of what is between its tags, and not in other elements
        self.text = ""
        self.closed = False
        self.id = 0  # the same for elements that are alike in everything


_Known = dict[tuple[object, ...], int]


def difference(document: Xml) -> str:
    """The line; where the two can't be compared, what the document describes."""
    known: _Known = {}
    new, old = _tree(document.captured, known), _tree(document.before or "", known)
    if new is None or old is None or new.tag != old.tag:
        return abstract(document)
    whole = new.closed and old.closed
    changes = list(_changes(old, new, "", whole))
    called = _called(old, new, "name" if _has_name(new) else "uuid")
    head = f"{new.tag} {called}".rstrip()
    more = "" if whole else "..."
    if not changes:
        is_hidden = REDACTED.strip("<>") in f"{document.captured}{document.before}"
        told = "unchanged" if whole else "no change seen"
        return f"<{head} {told}{', but some is redacted' if is_hidden else ''}>{more}"
    parts = [_short(change) for change in changes[:MOST_CHANGES]]
    if len(changes) > MOST_CHANGES:
        parts.append(f"{len(changes) - MOST_CHANGES} more changes")
    return f"<{head} {', '.join(parts)}>{more}"


def _has_name(root: _Element) -> bool:
    return "name" in root.attributes or any(child.tag == "name" for child in root.children)


def _called(old: _Element, new: _Element, key: str) -> str:
    """What the object is called, if that is the same in both; a new name is a change."""
    found = [
        one.attributes.get(key) or next((c.text for c in one.children if c.tag == key), "")
        for one in (old, new)
    ]
    shown = plain(found[1]) if found[0] == found[1] else ""
    return f"{key}={shown}" if shown else ""


def _tree(text: str, known: _Known) -> _Element | None:
    """The document's root with what is in it, up to where it makes no sense any more."""
    root: _Element | None = None
    path: list[_Element] = []
    opened = count = 0
    for match in tags(text):
        if path:
            path[-1].pieces.append(text[opened : match.start()])
        opened = match.end()
        if match["end"]:
            if not path or path[-1].tag != match["tag"]:
                break
            _close(path.pop(), known)
        else:
            count += 1
            if count > MOST_ELEMENTS or len(path) >= DEEPEST:
                break
            found = ATTRIBUTE.findall(match["attributes"])
            element = _Element(match["tag"], {key: one or other for key, one, other in found})
            if path:
                path[-1].children.append(element)
            root = root or element
            if match["attributes"].endswith("/"):
                _close(element, known)
            else:
                path.append(element)
        if not path:
            break
    for element in reversed(path):
        _number(element, known)
    return root


def _close(element: _Element, known: _Known) -> None:
    element.text = "".join(element.pieces).strip()
    element.closed = True
    _number(element, known)


def _number(element: _Element, known: _Known) -> None:
    inside = tuple(child.id for child in element.children)
    attributes = tuple(sorted(_attributes(element).items()))
    key = (element.tag, attributes, _text(element), element.closed, inside)
    element.id = known.setdefault(key, len(known) + 1)


def _attributes(element: _Element) -> dict[str, str]:
    if _is_size(element):
        return {key: item for key, item in element.attributes.items() if key != "unit"}
    return element.attributes


def _text(element: _Element) -> str:
    """A size in bytes, whatever unit it is given in."""
    if _is_size(element):
        return size(element.text, element.attributes.get("unit") or _UNITS[element.tag])
    return element.text


def _is_size(element: _Element) -> bool:
    return element.tag in _UNITS and element.text.isascii() and element.text.isdigit()


def _changes(old: _Element, new: _Element, where: str, whole: bool) -> Iterator[str]:
    """What differs, each as it is shown; `where`: what stands before the name of a part."""
    if old.id == new.id or (old.tag in _UNITS and not (old.closed and new.closed)):
        return
    place = where.rstrip("/ ")
    before, after = _attributes(old), _attributes(new)
    for key in sorted({*before, *after}):
        if key not in before:
            yield f"+{place}@{key}={_value(after[key])}"
        elif key not in after:
            yield f"-{place}@{key}"
        elif before[key] != after[key]:
            yield f"{place}@{key}={_value(before[key])} -> {_value(after[key])}"
    if old.closed and new.closed and _text(old) != _text(new):
        yield f"{place}={_value(_text(old))} -> {_value(_text(new))}"
    yield from _inside(old, new, where, whole)


def _inside(old: _Element, new: _Element, where: str, whole: bool) -> Iterator[str]:
    gone, come = _left(old, new), _left(new, old)
    if not gone and not come:
        if whole and [one.id for one in old.children] != [one.id for one in new.children]:
            yield f"{where.rstrip('/ ') or new.tag} in another order"
        return
    waiting: dict[tuple[str, tuple[str, ...]], list[_Element]] = {}
    for one in reversed(gone):
        waiting.setdefault((one.tag, _identity(one)), []).append(one)
    for one in come:
        same = waiting.get((one.tag, _identity(one)))
        if same:
            yield from _changes(same.pop(), one, f"{where}{_below(one)}", whole)
        elif whole:
            yield f"+{where}{_label(one)}{_content(one)}"
    if whole:
        rest = {id(one) for left in waiting.values() for one in left}
        yield from (f"-{where}{_label(one)}" for one in gone if id(one) in rest)


def _left(one: _Element, other: _Element) -> list[_Element]:
    """The children that are not in the other, too."""
    there = Counter(child.id for child in other.children)
    left = []
    for child in one.children:
        there[child.id] -= 1
        if there[child.id] < 0:
            left.append(child)
    return left


def _identity(element: _Element) -> tuple[str, ...]:
    for tag, key in _CHILDREN:
        for child in element.children:
            if child.tag == tag and child.attributes.get(key):
                return (child.attributes[key],)
    for key in _OWN:
        if element.attributes.get(key):
            return (element.attributes[key],)
    index = element.attributes.get("index")
    return (element.attributes.get("type", ""), index) if index else ()


def _label(element: _Element) -> str:
    identity = _identity(element) or (element.attributes.get("type", ""),)
    return " ".join([element.tag[:LONGEST], *(_value(word) for word in identity if word)])


def _below(element: _Element) -> str:
    """What stands before the names of its parts; that there are devices goes without saying."""
    if element.tag == "devices":
        return ""
    return f"{_label(element)} " if _identity(element) else f"{element.tag[:LONGEST]}/"


def _content(element: _Element) -> str:
    text = _text(element)
    return f"={_value(text)}" if text and not element.children and not element.attributes else ""


def _value(text: str) -> str:
    if REDACTED in text:
        return REDACTED
    return plain(text) or name(text[:LONGEST])


def _short(change: str) -> str:
    return change if len(change) <= _LONGEST_CHANGE else f"{change[:_LONGEST_CHANGE]}..."
