# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the value of an option or position of a known program looks: a kind and a value come in, what
may be shown of it goes out.

A value is shown for where it stands, never for what it looks like; its looks can only hide it, as
what has been mixed up does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from log.redact.json import redact_command
from log.redact.marker import REDACTED, words
from log.redact.uri import redact_uri

_PATTERNS = {
    # of a domain, network, pool, volume, snapshot, interface, disk; with a blank in it: hidden
    "name": r"[\w.:+@/][\w.:+@/,#~-]{0,254}",
    "uuid": r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}",
    "number": r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,3})?(?:[kKmMgGtTpP](?:i?[bB])?)?",
    "word": r"[\w.:+/][\w.:,+/-]{0,63}",  # of a few that the program knows
    "path": r"[\w.:+@/~][\w.:+@/,#~%-]{0,4095}",
}
_SHAPES = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
_USER_INFO = re.compile(r":[^/]*@")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

# keys of virt-install's and virt-xml's options (--disk path=...,size=...) with values that are no
# secrets
PARTS = {
    **dict.fromkeys(
        (
            "size",
            "port",
            "tlsport",
            "tlsPort",
            "memory",
            "maxmemory",
            "vcpus",
            "maxvcpus",
            "sockets",
            "cores",
            "threads",
        ),
        "number",
    ),
    **dict.fromkeys(
        ("boot_order", "boot.order", "mtu.size", "vram", "heads", "cid", "queues", "current"),
        "number",
    ),
    **dict.fromkeys(("pool", "vol", "network", "bridge", "mac", "mac.address", "name"), "name"),
    **dict.fromkeys(
        (
            "path",
            "file",
            "dir",
            "kernel",
            "initrd",
            "loader",
            "nvram",
            "root-password-file",
            "ssh-key",
        ),
        "path",
    ),
    **dict.fromkeys(
        ("root-ssh-key", "clouduser-ssh-key", "user-data", "meta-data", "network-config"), "path"
    ),
    **dict.fromkeys(
        (
            "type",
            "model",
            "bus",
            "target.bus",
            "device",
            "format",
            "driver.type",
            "cache",
            "driver.cache",
            "io",
            "discard",
        ),
        "word",
    ),
    **dict.fromkeys(
        (
            "sparse",
            "readonly",
            "shareable",
            "listen",
            "address",
            "machine",
            "arch",
            "firmware",
            "menu",
            "mode",
            "policy",
        ),
        "word",
    ),
    **dict.fromkeys(
        (
            "listens",
            "keymap",
            "gl",
            "gl.enable",
            "image.compression",
            "accel3d",
            "backend.type",
            "backend.version",
        ),
        "word",
    ),
    **dict.fromkeys(
        (
            "short-id",
            "detect",
            "require",
            "link.state",
            "virtualport.type",
            "driver.name",
            "target.dev",
            "target",
        ),
        "word",
    ),
}
_FIRST = words(  # words that stand alone, or first, in such an option
    """none vnc spice sdl egl-headless default user network bridge bridge:virbr0 hd cdrom fds uefi
    bios host host-passthrough host-model maximum pty file unix tcp virtio virtio-scsi virtio-serial
    scsi sata usb ide xen pci isa i82801jd auto on off yes no cirrus qxl vga std bochs ramfb ich6
    ich9 ac97 es1370 emulator usb-tablet tablet keyboard mouse i6300esb ib700 selinux apparmor dac
    pvpanic qemu.guest_agent.0 linux2022 generic detect=on detect=off all edit-all hvm"""
)


def show(kind: str, value: str) -> str:
    """What may be shown of a value of that kind."""
    return _SHOWS[kind](value)


def _in_shape(kind: str) -> Callable[[str], str]:
    shape = _SHAPES[kind]

    def shown(value: str) -> str:
        if _URI.match(value):
            return redact_uri(value)
        return (
            value
            if shape.fullmatch(value) and "://" not in value and not _USER_INFO.search(value)
            else REDACTED
        )

    return shown


def _parts(first_kind: str, value: str) -> str:
    """`vnc,password=secret,port=5901`: a value may hold a comma, written twice, so such a text
    can't be taken apart.

    `first_kind`: what a first part without a key is, if it is no word of `_FIRST`.
    """
    if ",," in value or not re.fullmatch(r"[!-~]+", value) or re.search(r"['\"\\<>{};&|$`]", value):
        return REDACTED
    first, *rest = value.split(",")
    shown = [
        first if first in _FIRST else show(first_kind, first) if "=" not in first else _part(first)
    ]
    doubtful = shown[0] == REDACTED
    for part in rest:
        shown.append(REDACTED if doubtful else _part(part))
        doubtful = doubtful or shown[-1] == REDACTED
    return ",".join(shown)


def _part(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return part if part in _FIRST else REDACTED
    if name in PARTS:
        return f"{name}={show(PARTS[name], value)}"
    return f"{name}={REDACTED}" if name in ("password", "passwd") else REDACTED


_SHOWS: dict[str, Callable[[str], str]] = {
    **{kind: _in_shape(kind) for kind in _PATTERNS},
    "uri": lambda value: redact_uri(value) if _URI.match(value) else REDACTED,
    "xml": lambda value: REDACTED if value.lstrip().startswith("<") else _SHOWS["path"](value),
    "parts": lambda value: _parts("masked", value),
    "words": lambda value: _parts("word", value),
    "disk": lambda value: _parts("path", value),
    "count": lambda value: _parts("number", value),
    "command": redact_command,
    "masked": lambda value: REDACTED,
}
