# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a monitor or a guest's agent is told, or answers, comes in; the same without what may be a
secret goes out.

JSON is taken apart into its tokens. A key's value is shown if the key is known to hold numbers or
words of QEMU's own (qmp.json), or is one of NAMES, and its value looks so. Where the grammar is
broken, or the text was cut, nothing is shown from there on. Of a command for people (HMP) only its
first word is shown.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from log.redact.marker import REDACTED, words
from log.values import CutText, Redacted, Value

TABLE = Path(__file__).with_name("qmp.json")
# keys with free text that is no secret: names and places of devices, images, nodes, jobs, and of
# the guest's own parts
NAMES = words(
    """addr alias backing_file backing-file base base-node bitmap bus bus-name bus-type chardev
    child class compat default-cpu-type default-ram-id dev device device-id devices driver drive drv
    element-type execute export fd fdname file filename filter-node-name format group host hostname
    host-name iface id id-list if ifname image image-node-name implements iothread ip ip-address
    ip-address-type hardware-address job-id kernel-release kernel-version label machine main-mac
    machine-hardware mem-path memdev model mountpoint mountpoints name net netdev node node-name
    overlay package parent path pci-controller pool port pretty-name prefix primary_in property
    protocol pty qdev qdev_id qom-path qom-type replaces ret-type secondary_in slot
    snapshot-node-name status tag target throttle-group top top-id top-node type typename
    unavailable-features uuid UUID variant variant-id version version-id"""
)
# further keys, of the protocol itself and of the guest's agent, with numbers or words
_KEYS = words(
    """arguments return error event timestamp seconds microseconds control QMP greeting capabilities
    exec-oob handle count eof mode whence offset position time minimum trimmed paths vcpus online
    can-offline logical-id pid exited exitcode signal statistics enabled success-response
    supported_commands total-bytes used-bytes capture-output reset crypted"""
)
# keys that are known, but nothing that they have for a value is shown
_HIDING = words(
    "desc username password pass keys buf-b64 out-data err-data input-data arg env data value "
    "props user command-line secret cookie iv"
)
_AGENT = words(
    """guest-exec guest-exec-status guest-file-close guest-file-flush guest-file-open
    guest-file-read guest-file-seek guest-file-write guest-fsfreeze-freeze
    guest-fsfreeze-freeze-list guest-fsfreeze-status guest-fsfreeze-thaw guest-fstrim
    guest-get-cpustats guest-get-devices guest-get-disks guest-get-diskstats guest-get-fsinfo
    guest-get-host-name guest-get-memory-block-info guest-get-memory-blocks guest-get-osinfo
    guest-get-time guest-get-timezone guest-get-users guest-get-vcpus guest-info
    guest-network-get-interfaces guest-network-get-route guest-ping guest-set-memory-blocks
    guest-set-time guest-set-user-password guest-set-vcpus guest-shutdown
    guest-ssh-add-authorized-keys guest-ssh-get-authorized-keys guest-ssh-remove-authorized-keys
    guest-suspend-disk guest-suspend-hybrid guest-suspend-ram guest-sync guest-sync-delimited frozen
    thawed halt powerdown reboot ipv4 ipv6 partial on off auto"""
)
_TOKEN = re.compile(
    r'(?P<blank>\s+)|(?P<mark>[{}\[\],:])|"(?P<text>(?:[^"\\\x00-\x1f]|\\.)*)"|(?P<number>-?[0-9][0-9.eE+-]*+)|true|false|null'
)
_NAME = re.compile(r"[\w./+@#:~\[\]-]{0,256}", re.A)
_NOT_PLAIN = re.compile(r"://|(?:json|nbd|rbd|ssh|https?):")
_HIDDEN = f'"{REDACTED}"'
# what libvirt asks hundreds of times when a guest starts, and nothing in it needs a look
_USUAL = re.compile(
    r'\{"execute":"(?:qom-get|qom-list|query-[a-z-]{1,40})"(?:,"arguments":\{"path":"[\w./\[\]-]{1,256}"'
    r'(?:,"property":"[\w.\[\]-]{1,64}")?\})?,"id":"libvirt-[0-9]{1,20}"\}',
    re.A,
)
DEEPEST = 256


class QmpTable(NamedTuple):
    """The table: see generate_qmp.py."""

    keys: frozenset[str]  # with numbers or words
    named: frozenset[str]  # of all keys
    words: frozenset[str]
    agent: frozenset[str]  # commands of the guest's agent
    hmp: frozenset[str]
    info: frozenset[str]


@functools.cache
def known() -> QmpTable:
    """Reads the table, once."""
    table = json.loads(TABLE.read_bytes())
    keys = (frozenset(table["keys"]) | _KEYS) - _HIDING
    known_words = (
        frozenset(table["words"])
        | frozenset(table["commands"])
        | frozenset(table["events"])
        | _AGENT
    )
    agent = frozenset(word for word in _AGENT if word.startswith("guest-"))
    return QmpTable(
        keys,
        keys | NAMES | _HIDING | frozenset(table["texts"]),
        known_words,
        agent,
        frozenset(table["hmp"]),
        frozenset(table["info"]),
    )


def redact_command(text: str) -> str:
    """A command for a monitor or an agent, or an answer in JSON."""
    if _USUAL.fullmatch(text):
        return text
    if text.lstrip()[:1] in ("{", "["):
        return redact_json(text)
    return _redact_hmp(text)


def without_newline(value: Value) -> Value:
    """A message to a monitor or agent as it was captured, without the end of its line."""
    return value.rstrip("\r\n") if isinstance(value, str) else value


def redact_message(value: Value) -> Value:
    """The same without what may be secret."""
    value = without_newline(value)
    if isinstance(value, str):
        return redact_command(value)
    if isinstance(value, CutText):
        return value._replace(text=redact_command(value.text))
    return value


def redact_answer(text: str) -> Value:
    """An answer: of one for people nothing is shown but how long it is."""
    return (
        redact_json(text)
        if text.lstrip()[:1] in ("{", "[")
        else Redacted(len(text.encode(errors="surrogatepass")))
        if text
        else text
    )


def _redact_hmp(text: str) -> str:
    given = text.split()
    shown = plain_words(given)
    return text if shown == len(given) else " ".join([*given[:shown], REDACTED])


def plain_words(given: Sequence[str]) -> int:
    """How many words of a command for people say what is done."""
    if not given or (given[0] not in known().hmp and given[0] not in known().agent):
        return 0
    return 2 if given[0] == "info" and len(given) > 1 and given[1] in known().info else 1


class _Level:
    """An object or list that is open."""

    __slots__ = ("is_object", "key", "wants")

    def __init__(self, is_object: bool, key: str) -> None:
        self.is_object = is_object
        self.key = key  # whose values are in a list, or the key that waits for its value
        self.wants = "key" if is_object else "value"  # then ":", "value" or ","


def redact_json(text: str) -> str:
    """JSON, whole or cut: as it is but for what is hidden."""
    shown: list[str] = []
    levels = [_Level(False, "")]
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(levels) > DEEPEST:
            shown.append(REDACTED)
            break
        token = match[0] if match["blank"] else _token(match, levels)
        if token is None:
            shown.append(REDACTED)
            break
        shown.append(token)
        at = match.end()
    return "".join(shown)


def _token(match: re.Match[str], levels: list[_Level]) -> str | None:
    """What is shown of the next token; None: it should not be there."""
    level = levels[-1]
    if match["mark"]:
        return _mark(match["mark"], levels)
    if level.wants == "key" and match["text"] is not None:
        level.key, level.wants = match["text"], ":"
        return match[0] if level.key in known().named else _HIDDEN
    if level.wants != "value":
        return None
    level.wants = "," if len(levels) > 1 else "value"
    return _value(match, level.key)


def _mark(mark: str, levels: list[_Level]) -> str | None:
    level = levels[-1]
    if mark in "{[":
        if level.wants != "value":
            return None
        level.wants = "," if len(levels) > 1 else "value"
        levels.append(_Level(mark == "{", level.key))
    elif mark in "}]":
        if (
            len(levels) == 1
            or level.is_object != (mark == "}")
            or level.wants == ":"
            or (level.is_object and level.wants == "value")
        ):
            return None
        levels.pop()
    elif level.wants != mark:
        return None
    else:
        level.wants = "value" if mark == ":" or not level.is_object else "key"
    return mark


def _value(match: re.Match[str], key: str) -> str:
    text = match["text"]
    if not text and not match["number"]:
        return match[0]
    is_shown = key in NAMES or key in known().keys
    if text is not None and is_shown:
        is_shown = text in known().words or (
            key in NAMES and bool(_NAME.fullmatch(text)) and not _NOT_PLAIN.search(text)
        )
    return match[0] if is_shown else _HIDDEN
