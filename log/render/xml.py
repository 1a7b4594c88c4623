# SPDX-License-Identifier: LGPL-2.1-or-later
"""A call comes in; one line of XML goes out, in the `<methodResponse>` shape that libvirt auditors
already parse.

Beside calls what was begun and not ended has a line, and losses and files whose calls are not seen:
a log that hid these would claim to be complete.
"""

from __future__ import annotations

import re

from log.events import Call, Event, Lost, Owed, Unattached
from log.login import short
from log.moments import rfc3339
from log.quote import as_bytes, is_visible
from log.render.why import person
from log.values import (
    Code,
    CutList,
    CutText,
    EnumValue,
    Flags,
    Handle,
    Pointer,
    Redacted,
    Unreadable,
    Value,
    Values,
    Xml,
)

_is_plain = re.compile(r"[ !#-%'-;=?-~]*").fullmatch
_is_element = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*").fullmatch
_suspect = re.compile(r"[^ !#-%'-;=?-~]")
# what no XML 1.0 document can hold, not even as a character reference
_IMPOSSIBLE = r"\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff"
_impossible = re.compile(f"[{_IMPOSSIBLE}]")
_impossible_or_backslash = re.compile(rf"[{_IMPOSSIBLE}\\]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def line(event: Event) -> str:
    """A call, what is owed, a loss or a file whose calls are not seen as one XML document with its
    newline; "" for other events.
    """
    if isinstance(event, Lost):
        ring, reason = content(event.ring), content(event.reason)
        return (
            f"<lost><count>{event.count}</count><ring>{ring}</ring><reason>{reason}</reason>"
            f"<details>{event.details}</details></lost>\n"
        )
    if isinstance(event, Unattached):
        path, reason = content(event.path), content(event.reason)
        return f"<unattached><path>{path}</path><reason>{reason}</reason></unattached>\n"
    if isinstance(event, Owed):
        return _owed(event)
    if not isinstance(event, Call):
        return ""
    param = (
        '<param lost="true"/>' if event.args is None else f"<param>{_arguments(event.args)}</param>"
    )
    out = f"<out>{_arguments(event.out)}</out>" if event.out.values else ""
    end = ""
    if event.unfinished is not None:
        end = f"<unfinished>{content(event.unfinished)}</unfinished>"
    elif event.verdict is not None and event.verdict.action == "deny":
        end = f"<denied>{content(event.verdict.rule)}</denied>"
    for asked in event.access:
        what = asked.get("permission") or asked.get("action")
        if asked.get("answer") != "allowed" and isinstance(what, str):
            end += f"<refused>{content(what)}</refused>"
    by = event.client or event.caller
    if by.session is not None:
        end += f"<session>{content(short(by.session.fields()))}</session>"
    function = content(event.function)
    state = _state(event)
    return (
        f"<methodResponse><event>{function}</event><state>{state}</state>"
        f"{param}{out}{end}</methodResponse>\n"
    )


def _owed(event: Owed) -> str:
    about = "" if event.object is None else _element("name", event.object)
    detail = "" if event.detail is None else _element("detail", event.detail)
    refers = "".join(f"<refers>{content(one)}</refers>" for one in event.refers)
    return (
        f"<owed><what>{content(event.what)}</what>{about}{detail}"
        f"<by>{content(person(event.by))}</by><since>{rfc3339(event.since)}</since>"
        f"<gone>{str(event.gone).lower()}</gone>{refers}</owed>\n"
    )


def content(text: str) -> str:
    """Text for an element or a quoted attribute: parses back to the same, but for what XML can't
    hold, which is `\\xNN`.

    As in `decode_bytes`, every backslash of such a text is doubled. Control and invisible
    characters, line ends among them, are character references.
    """
    if _is_plain(text):
        return text
    if _impossible.search(text):
        text = _impossible_or_backslash.sub(as_bytes, text)
    return _suspect.sub(_reference, text)


def _reference(match: re.Match[str]) -> str:
    char = match[0]
    return _ENTITIES.get(char) or (char if is_visible(char) else f"&#{ord(char)};")


def _state(call: Call) -> str:
    if call.unfinished is not None or call.returns == "void":
        return ""
    if call.returns == "pointer":
        return "0" if call.ret is None else "1"
    ret = call.ret.value if isinstance(call.ret, (EnumValue, Flags)) else call.ret
    return str(int(ret)) if isinstance(ret, int) else ""


def _arguments(values: Values) -> str:
    text: str | None = values.rendered.get("xml")
    if text is None:
        named = False
        parts = []
        for key, item in values.values.items():
            if not named and isinstance(item, Handle):
                key, named = "name", True
            parts.append(_element(key, item))
        text = values.rendered["xml"] = "".join(parts)
    return text


def _element(key: str, item: Value) -> str:
    tag, attributes = (key, "") if _is_element(key) else ("field", f' name="{content(key)}"')
    more, inner = _body(item)
    attributes += more
    return f"<{tag}{attributes}>{inner}</{tag}>" if inner else f"<{tag}{attributes}/>"


def _body(item: Value) -> tuple[str, str]:
    """A value's attributes and content; numbers and text are content, what qualifies them is in
    attributes.
    """
    if isinstance(item, (Xml, Code)):
        item = item.shown if isinstance(item, Xml) else item.name
    if isinstance(item, str):
        return "", content(item)
    if isinstance(item, Handle):
        return _body(item.label)
    if isinstance(item, (CutText, CutList)):
        return _cut(item)
    if isinstance(item, Flags):
        return (f' names="{content("|".join(item.names))}"' if item.names else ""), str(item.value)
    if isinstance(item, EnumValue):
        return ("" if item.name is None else f' constant="{content(item.name)}"'), str(item.value)
    if isinstance(item, Unreadable):
        return f' unreadable="{item.address:#x}"', ""
    if isinstance(item, Pointer):
        return "", f"{item.address:#x}"
    if isinstance(item, Redacted):
        return ' redacted="true"' + ("" if item.length is None else f' length="{item.length}"'), ""
    if item is None:
        return ' null="true"', ""
    return "", _content(item)


def _content(item: Value) -> str:
    if isinstance(item, dict):
        return "".join([_element(key, inner) for key, inner in item.items()])
    if isinstance(item, list):
        return "".join([_element("item", inner) for inner in item])
    return str(item).lower() if isinstance(item, bool) else str(item)


def _cut(item: CutText | CutList) -> tuple[str, str]:
    if isinstance(item, CutText):
        return (' cut="true"') + (
            "" if item.length is None else (f' length="{item.length}"')
        ), content(item.text)
    return (' cut="true"') + ("" if item.total is None else (f' count="{item.total}"')), _body(
        item.items
    )[1]
