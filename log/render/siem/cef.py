# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; one line of the Common Event Format goes out.

A header's fields end at a bar, an extension's value at the next key and "=": both are escaped, in
the standard's way. It has none for what can't be seen, so that becomes `\\xNN` or `\\uNNNN` here;
where a text could be taken for such a one, its backslashes are doubled.
"""

from __future__ import annotations

import re

from log import VERSION
from log.events import Event
from log.quote import escape, is_visible
from log.render.siem.facts import (
    AUDITED,
    CREATE,
    DELETE,
    DENIED,
    LOSS,
    NOT_ENFORCED,
    READ,
    Audited,
    facts,
)

_is_plain = re.compile(r"[ -\[\]-~]*").fullmatch
_taken_for_escaped = re.compile(r"\\(?:\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})").search
_HEADER = str.maketrans({"\\": r"\\", "|": r"\|"})
_EXTENSION = str.maketrans({"\\": r"\\", "=": r"\=", "\n": r"\n", "\r": r"\r"})
_LONGEST = 1023  # characters of a value: what the standard allows most fields
_OUTCOME = {True: "success", False: "failure", None: "unknown"}
_SEVERITIES = {READ: 1, CREATE: 3, DELETE: 4}


def line(event: Event, host: str | None = None) -> str:
    """The event with its newline, "" if it has no facts; `host`: where it happened."""
    told = facts(event)
    if told is None:
        return ""
    head = ("0", "libvirt-trace", "libvirt-trace", VERSION, told.what, told.what, _severity(told))
    header = "|".join(_visible(word).replace("\n", " ").translate(_HEADER) for word in head)
    fields = {**_when(told), **_who(told, host), **_what(told), "dvchost": host}
    known = [_field(key, item) for key, item in fields.items() if item is not None]
    return f"CEF:{header}|{' '.join(known)}\n"


def _field(key: str, item: str | int) -> str:
    text = str(item)
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 3] + "..."
    return f"{key}={_visible(text).translate(_EXTENSION)}"


def _visible(text: str) -> str:
    """The text, or in the manner of C where something in it can't be seen: but for line ends."""
    if _is_plain(text):
        return text
    bare = text.replace("\n", "").replace("\r", "")
    if is_visible(bare) and not _taken_for_escaped(text):
        return text
    return "".join([char if char in "\n\r" else _escaped(char) for char in text])


def _escaped(char: str) -> str:
    return r"\x09" if char == "\t" else escape(char)


def _severity(told: Audited) -> str:
    """From 0 to 10."""
    if told.kind == LOSS or told.verdict == NOT_ENFORCED:
        return "8"
    if told.verdict == DENIED:
        return "7"
    if told.success is False:
        return "5"
    return str(_SEVERITIES.get(told.action or "", 3) + 2 * (told.verdict == AUDITED))


def _when(told: Audited) -> dict[str, str | int | None]:
    end = told.until
    if end is None and told.duration_ns is not None:
        end = told.time + told.duration_ns
    return {
        "rt": told.time // 1_000_000,
        "start": told.time // 1_000_000,
        "end": None if end is None else end // 1_000_000,
        "externalId": told.id,
    }


def _who(told: Audited, host: str | None) -> dict[str, str | int | None]:
    who, daemon = told.who, told.daemon
    fields: dict[str, str | int | None] = {
        "dproc": daemon.program if daemon else None,
        "dpid": daemon.pid if daemon else None,
    }
    if who is None:
        return fields
    six = who.ip is not None and ":" in who.ip
    return {
        **fields,
        "src": None if six else who.ip,
        **_labelled("c6a2", "Source IPv6 Address", who.ip if six else None),
        "spt": who.port,
        "shost": host if who.address is None else None,
        "suser": who.account,
        "suid": who.uid,
        "spid": who.pid,
        "sproc": who.program,
        **_labelled("cs5", "exe", who.exe),
        **_labelled("cn1", "loginuid", who.loginuid),
        # the standard has no more room: who has proved a name came by no session of this host
        **(
            _labelled("flexString1", "identity", who.sasl or who.x509)
            or _labelled("flexString1", "session", who.session)
        ),
    }


def _what(told: Audited) -> dict[str, str | int | None]:
    thing = told.thing
    reason = ": ".join(part for part in (told.reason, told.detail) if part)
    claims = None
    if told.claims is not None:
        claims = " ".join(f"{k}:{v}" for k, v in told.claims.items())
    return {
        "cat": told.action,
        "act": told.verdict,
        "outcome": _OUTCOME[told.success],
        "reason": reason or None,
        "cnt": told.how_many,
        "request": told.uri,
        **_labelled("cs1", "rule", told.rule),
        **_labelled("cs2", "object", thing.name),
        **_labelled("cs3", "objectType", thing.type),
        **_labelled("cs4", "objectUuid", thing.uuid),
        **_labelled("cn2", "durationNs", told.duration_ns),
        **_labelled("flexString2", "claims", claims),
        **_labelled("cs6", "parent", told.parent),
        "msg": told.message,
    }


def _labelled(key: str, label: str, item: str | int | None) -> dict[str, str | int | None]:
    """A field of one's own: the standard numbers them, a label names them."""
    return {} if item is None else {f"{key}Label": label, key: item}
