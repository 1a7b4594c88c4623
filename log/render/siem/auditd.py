# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event comes in; a record as the Linux audit system has it goes out: VIRT_CONTROL, as libvirt
writes them, but with the process and user that it was done for instead of the daemon's.

Text that others choose is in quotes or, where these don't hold it, in hexadecimal digits; what has
neither are numbers and words of our own. "?" is not known; where a user's number is to be, ausearch
would take that for root's, so there it is the number of nobody.
"""

from __future__ import annotations

import re
import shlex
import zlib

from log.events import Event
from log.render.siem.facts import Audited, facts

# what audit programs take for quoted: neither blanks nor quotes nor what is no ASCII
_is_quotable = re.compile(rb"[!#-&(-~]*").fullmatch
_no_word = re.compile(r"[^A-Za-z0-9_.:-]+")
_other_surrogate = re.compile(r"[\ud800-\udc7f\udd00-\udfff]").search
# so that a record stays below the 8,970 bytes that the audit system's programs read
LONGEST = 512  # bytes of a text
UNSET = 0xFFFFFFFF  # what the kernel has where there is no user or session
_RESULT = {True: "success", False: "failed", None: "?"}
_OPERATIONS = {"domain started": "start", "domain stopped": "stop"}


def line(event: Event, host: str | None = None) -> str:
    """The event with its newline, "" if it has no facts; `host`: where it happened."""
    told = facts(event)
    if told is None:
        return ""
    node = f"node={_word(host)} " if host else ""
    second, rest = divmod(told.time, 1_000_000_000)
    serial = _serial(told)
    return (
        f"{node}type=VIRT_CONTROL msg=audit({second}.{rest // 1_000_000:03}:{serial}): "
        f"{_who(told)} msg='{_what(told)}'\n"
    )


def _serial(told: Audited) -> int:
    """What is of the same millisecond and number is one event: the number is by what it is."""
    return zlib.crc32(f"{told.id} {told.time} {told.what}".encode("utf-8", "surrogatepass")) or 1


def _who(told: Audited) -> str:
    who = told.who
    pid, uid, loginuid = (who.pid, who.uid, who.loginuid) if who else (None, None, None)
    pid_known = "?" if pid is None else str(pid)
    return f"pid={pid_known} uid={_user(uid)} auid={_user(loginuid)} ses={UNSET}"


def _what(told: Audited) -> str:
    who, thing = told.who, told.thing
    operation = _OPERATIONS.get(told.what, told.what)
    words = [f"virt=libvirt op={_word(operation)}"]
    if told.reason is not None:
        words.append(f"reason={_word(told.reason)}")
    if thing.type == "domain":
        words.append(f"vm={_text(thing.name)} uuid={_word(thing.uuid)}")
    elif thing.type is not None or thing.name is not None:
        words.append(f"resrc={_word(thing.type)} name={_text(thing.name)} uuid={_word(thing.uuid)}")
    if told.rule is not None:
        words.append(f"key={_text(told.rule)}")
    if told.verdict is not None:
        words.append(f"verdict={_word(told.verdict)}")
    if told.how_many is not None:
        words.append(f"count={told.how_many}")
    cmdline = shlex.join(who.cmdline) if who and who.cmdline else None
    if cmdline is not None:
        words.append(f"cmd={_text(cmdline)}")
    if who is not None and who.session is not None:
        words.append(f"session={_text(who.session)}")
    words += [
        f"acct={_text(who.account if who else None)}",
        f"exe={_text(who.exe if who else None)}",
        f"hostname=? addr={_word(who.address if who else None)} terminal=?",
        f"res={_RESULT[told.success]}",
    ]
    return " ".join(words)


def _user(number: int | None) -> int:
    return UNSET if number is None else number


def _word(text: str | None) -> str:
    """A word that needs no quotes; any other character becomes a dash."""
    return _no_word.sub("-", text) if text else "?"


def _text(text: str | None) -> str:
    if text is None:
        return "?"
    data = text.encode("utf-8", "surrogateescape" if _only_bytes(text) else "surrogatepass")
    if len(data) > LONGEST:
        data = data[: LONGEST - 3] + b"..."
    return f'"{data.decode()}"' if _is_quotable(data) else data.hex().upper()


def _only_bytes(text: str) -> bool:
    """Whether each lone surrogate of it stands for a byte that was no UTF-8."""
    return not _other_surrogate(text)
