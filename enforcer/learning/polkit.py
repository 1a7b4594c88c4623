# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of a record come in; what was seen to be done goes out as rules of polkit, for libvirt's
own access driver (access_drivers = [ "polkit" ]).

libvirt asks polkit for permissions, not for functions: what a daemon's call asks for is what is
learned. One permission stands for many functions ("domain.write" for a monitor's commands, too), so
it is never made wider where one of these is not.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Sequence

from enforcer.learning.evidence import (
    MOST_LISTED,
    Measured,
    evidence_of,
    heading,
    not_learned,
    reasons,
)
from enforcer.learning.generalise import Deed, Learned, generalise, is_never
from enforcer.learning.seen import UNSPELLED, Seen
from enforcer.rehearsal.made import DAEMON
from enforcer.rehearsal.span import Span
from log.events import Call
from log.quote import escape, name
from log.values import Flags
from probes.api.permissions import checks, only_reads
from probes.api.table import ApiTable

NO_USER = "polkit knows users of this host only"
NO_PERMISSION = "libvirt's description names no permission for it"
NO_FLAGS = "its flags are not recorded, and tell what it asks for"
# what libvirt tells polkit of an object: by its kind, where its name is; of these the first that
# is there, and of a volume the pool's and its own
_NAMES = {
    "domain": (("domain_name",),),
    "interface": (("interface_name",),),
    "network": (("network_name",),),
    "network-port": (("network_name",),),
    "node-device": (("node_device_name",),),
    "nwfilter": (("nwfilter_name",),),
    "nwfilter-binding": (("nwfilter_binding_portdev",),),
    "secret": (
        (
            "secret_usage_volume",
            "secret_usage_ceph",
            "secret_usage_target",
            "secret_usage_name",
        ),
    ),
    "storage-pool": (("pool_name",),),
    "storage-vol": (("pool_name",), ("vol_name",)),
}
_TOKEN = re.compile(r"\[([*?\[])\]|.", re.S)  # of a glob: a character, * stands for any
_HEAD = (
    '// for libvirt\'s access driver: access_drivers = [ "polkit" ] in libvirtd.conf',
    "// who may connect may read (getattr, read, search-*); all else is what is listed",
    "// once the log says nothing that should not be denied: audit = false",
)
_RULE = """\
var audit = true; // log what would be denied, deny nothing
var names = {names};
var reads = /^org\\.libvirt\\.api\\.[a-z-]+\\.(getattr|read|search-[a-z-]+)$/;
var learned = [
{learned}];

polkit.addRule(function(action, subject) {{
    var begin = "org.libvirt.api.";
    if (action.id.indexOf(begin) !== 0)
        return polkit.Result.NOT_HANDLED;
    if (reads.test(action.id))
        return polkit.Result.YES;
    var permission = action.id.slice(begin.length);
    var name = (names[permission.split(".")[0]] || []).map(function(keys) {{
        var found = keys.map(function(key) {{ return action.lookup(key); }});
        return found.filter(function(one) {{ return typeof one === "string" && one; }})[0] || "";
    }}).join("/");
    var fits = learned.some(function(one) {{
        return one.user === subject.user && one.permission.indexOf(permission) >= 0 &&
            (!one.name || one.name.some(function(glob) {{ return glob.test(name); }}));
    }});
    if (fits)
        return polkit.Result.YES;
    polkit.log((audit ? "would be denied: " : "denied: ") + subject.user + " " + permission +
               (name && " on " + name));
    return audit ? polkit.Result.YES : polkit.Result.NO;
}});
"""


class SeenByPolkit(Seen):
    """What was done, as permissions; a deed's function is one."""

    places = (DAEMON,)
    only_writes = False

    def __init__(self, table: ApiTable, span: Span) -> None:
        super().__init__(table, span)
        self._values = {
            name: value for enum in table.enums.values() for name, value in enum.constants.items()
        }
        self.wanted: list[set[Deed]] = []  # of each call that was learned from

    def note(self, deed: Deed, call: Call) -> None:
        """What the call asks for, one object after the other."""
        deeds = set(self._asked(deed, call))
        for one in deeds:
            super().note(one, call)
        if deeds:
            self.wanted.append(deeds)

    def _asked(self, deed: Deed, call: Call) -> Iterator[Deed]:
        if ":" in deed.who:
            self.leave(NO_USER, call)
            return
        found = checks().get(call.function, ())
        if not found:
            self.leave(NO_PERMISSION, call)
        if any(not _is_spelled(name) for name in (deed.who, *deed.objects)):
            self.leave(UNSPELLED, call)
            return
        flags = _flags(call)
        for check in found:
            if only_reads(check.permission):
                continue
            if check.flags and flags is None:
                self.leave(NO_FLAGS, call)
            elif check.is_asked(flags or 0, self._values):
                kind = check.permission.partition(".")[0]
                for name in _of_kind(kind, deed.objects):
                    yield Deed(deed.who, check.permission, () if name is None else (name,))


def measure(before: SeenByPolkit, rest: SeenByPolkit, since: int) -> Measured:
    """How what was learned on the first part of the time does on the rest."""
    rules = generalise(before.deeds, _never).rules
    denied = sum(any(not _allows(rules, deed) for deed in deeds) for deeds in rest.wanted)
    return Measured(denied, len(rest.wanted), since)


def as_rules(seen: SeenByPolkit, measured: Measured | None) -> str:
    """The file for /etc/polkit-1/rules.d."""
    lesson = generalise(seen.deeds, _never)
    lines = [*map(_comment, heading(seen, "in daemons", len(lesson.rules), measured)), *_HEAD]
    learned = "".join(_entry(rule) for rule in lesson.rules)
    lines += [_RULE.format(names=json.dumps(_NAMES), learned=learned).rstrip("\n")]
    once = sorted(lesson.once.items(), key=lambda item: item[0])
    if once:
        lines += ["", "// happened once, and is not allowed:"]
    for deed, evidence in once[:MOST_LISTED]:
        about = " and ".join(map(name, deed.objects))
        what = f"{deed.function}{f' on {about}' if about else ''}"
        lines.append(_comment(f"{escape(deed.who)}: {what}: {evidence_of(evidence)}"))
    if len(once) > MOST_LISTED:
        lines.append(f"// ... and {len(once) - MOST_LISTED:,} more")
    if seen.not_learned:
        lines += ["", *map(_comment, not_learned(seen))]
    return "\n".join(lines) + "\n"


def _entry(rule: Learned) -> str:
    lines = list(map(_comment, reasons(rule)))
    globs = f", name: [{', '.join(map(_regular, rule.globs))}]" if rule.globs else ""
    permissions = json.dumps(list(rule.functions))
    lines.append(f"{{user: {json.dumps(rule.who)}, permission: {permissions}{globs}}},")
    return "".join(f"    {line}\n" for line in lines)


def _regular(glob: str) -> str:
    """A regular expression of JavaScript's."""
    text = _TOKEN.sub(
        lambda match: r"[\s\S]*" if match[0] == "*" else _literal(match[1] or match[0]), glob
    )
    return f"new RegExp({json.dumps(f'^{text}$')})"


def _literal(character: str) -> str:
    is_plain = character.isascii() and (character.isalnum() or character in "-_ ")
    return character if is_plain else f"\\u{ord(character):04x}"


def _comment(text: str) -> str:
    return f"// {text}"


def _is_spelled(name: str) -> bool:
    """Whether polkit's JavaScript has it as we do: it has 16 bits a character."""
    return name.isprintable() and all(character <= "\uffff" for character in name)


def _of_kind(kind: str, objects: Sequence[str]) -> list[str | None]:
    """The names that polkit is told."""
    if kind == "connect" or not objects:
        return [None]
    if kind == "storage-pool":
        return [one.partition("/")[0] for one in objects]
    return list(objects)


def _flags(call: Call) -> int | None:
    found = call.args.values.get("flags", 0) if call.args is not None else None
    if isinstance(found, Flags):
        return found.value
    return found if isinstance(found, int) else None


def _never(permission: str) -> bool:
    return any(
        check.permission == permission
        for function, found in checks().items()
        if is_never(function)
        for check in found
    )


def _allows(rules: Iterable[Learned], deed: Deed) -> bool:
    return any(
        rule.who == deed.who
        and deed.function in rule.functions
        and (
            not rule.globs
            or any(fnmatch.fnmatchcase(one, glob) for one in deed.objects for glob in rule.globs)
        )
        for rule in rules
    )
