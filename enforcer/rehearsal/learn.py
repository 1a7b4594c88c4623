# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of a record come in; a policy that denies what changes something, but allows what was seen
to be done, goes out as TOML, each rule below its evidence.

Nothing is learned from what failed or was denied, nor from what happened once: that is listed,
commented out.
"""

from __future__ import annotations

import json
import pwd
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from enforcer.policy.judge import NONE, UNRECORDED, Facts
from enforcer.policy.sources import PARTS, sources_of
from enforcer.rehearsal.facts import CLIENT, DAEMON, facts_of, made_alone, place_of
from enforcer.rehearsal.generalise import Deed, Evidence, Learned, generalise, literal
from enforcer.rehearsal.recorded import Span
from log.events import Call
from log.quote import escape, name, quote
from log.recording.parse import ForeignLine, parse
from log.recording.reader import Line
from log.recording.report import client_of
from log.render.units import day_and_time
from probes.api.table import ApiTable

MOST_DEEDS = 1 << 16  # that are told apart
MOST_PROGRAMS = 4  # that are named
MOST_LISTED = 200  # deeds that are not learned, one by one
LAST_RULE = "whatever else changes something"
_DAY = 86400 * 10**9  # ns
_NAME_MAX = 150  # characters of a rule's name

NOBODY = "nothing tells who made it"
NO_NAME = "the name of what it was made on can't be told"
FAILED = "it failed"
WAS_DENIED = "it was denied"
CLAIMED = "it was made by one that claims to be another"
UNPROVED = "nothing but the word of anybody's program says who made it"
UNSPELLED = "no policy can spell its name"
UNKNOWN = "its function is not known here"


class Seen:
    """What was done."""

    places: tuple[str, ...] = (DAEMON, CLIENT)  # where it must have been done
    only_writes = True  # only what changes something counts

    def __init__(self, table: ApiTable, span: Span) -> None:
        self.table, self.span = table, span
        self.deeds: dict[Deed, Evidence] = {}
        self.not_learned: Counter[tuple[str, str, str]] = Counter()  # why, who, function
        self.calls = self.left_out = 0
        self.first: int | None = None
        self.last = 0

    def add(self, lines: Iterable[Line]) -> None:
        """Have these lines pass."""
        for _, line, _ in lines:
            if line.startswith((b'{"type":"call"', b'{"type":"verdict"')):
                try:
                    event = parse(line)
                except ForeignLine:
                    continue
                if (
                    type(event) is Call
                    and not event.depth
                    and (event.write or not self.only_writes)
                ):
                    self._add(event)

    def _add(self, call: Call) -> None:
        if not self.span.holds(call.time, call.time):
            return
        function = self.table.by_name.get(call.function)
        if function is None:
            self.leave(UNKNOWN, call)
            return
        made = made_alone(call, function)
        if function.access == "plumbing" or place_of(made) not in self.places:
            return
        self.calls += 1
        self.first = call.time if self.first is None else min(self.first, call.time)
        self.last = max(self.last, call.time)
        if made.was_denied or call.failed is not False:
            self.leave(WAS_DENIED if made.was_denied else FAILED, call)
            return
        facts = list(facts_of(made))
        if made.client is not None and made.client.claims is not None:
            self.leave(CLAIMED, call)
            return
        if made.client is not None and made.client.unproved:
            self.leave(UNPROVED, call)
            return
        who = _who(call)
        if who is None:
            self.leave(NOBODY, call)
            return
        for one in facts:
            names = _names(one)
            if isinstance(names, str):
                self.leave(names, call)
            elif self.wants(facts):
                deed = Deed(who, call.function, names)
                self.note(deed, call)
                self.keep(deed, facts)

    def wants(self, facts: list[Facts]) -> bool:
        """Whether such a call counts."""
        return True

    def keep(self, deed: Deed, facts: list[Facts]) -> None:
        """Remember what such a call is."""

    def note(self, deed: Deed, call: Call) -> None:
        """It was done once more."""
        evidence = self.deeds.get(deed)
        if evidence is None:
            if len(self.deeds) >= MOST_DEEDS:
                self.left_out += 1
                return
            evidence = self.deeds[deed] = Evidence()
        evidence.add(Evidence(1, call.time, call.time, {call.time // _DAY}))
        if len(evidence.programs) < MOST_PROGRAMS:
            evidence.programs.add(client_of(call.comm, call.caller, call.client)[0])

    def leave(self, why: str, call: Call) -> None:
        """It is not learned from."""
        user = client_of(call.comm, call.caller, call.client)[1]
        key = (why, user, call.function)
        if key in self.not_learned or len(self.not_learned) < MOST_DEEDS:
            self.not_learned[key] += 1
        else:
            self.left_out += 1


class Measured(NamedTuple):
    """How a policy that was learned on the first part of the time does on the rest."""

    denied: int  # calls that had not failed
    calls: int
    since: int  # ns


def _who(call: Call) -> str | None:
    """Who made the call, in a policy's words; None: nothing tells."""
    client = call.client
    uid, known = (client or call.caller).uid, (client or call.caller).user
    if uid is not None:
        try:
            if known is not None and pwd.getpwnam(known).pw_uid == uid:
                return known
        except (KeyError, ValueError):
            pass
        return str(uid)
    proved = (("sasl", client.sasl), ("x509", client.x509)) if client else ()
    for kind, value in proved:
        if value is not None and _can_be_spelled(value):
            return f"{kind}:{literal(value)}"
    return None


def _names(facts: Facts) -> tuple[str, ...] | str:
    """The names that a rule would go by, or why there are none."""
    if facts.things is UNRECORDED:
        return NO_NAME
    is_part = any(source.type in PARTS for source in sources_of(facts.function))
    found = set()
    for thing in facts.things:
        # a volume goes by its pool, too; a snapshot by its domain
        word = thing.name if is_part or thing.whole is NONE else thing.whole
        if not isinstance(word, str):
            return NO_NAME
        if not _can_be_spelled(word):
            return UNSPELLED
        found.add(word)
    return tuple(sorted(found))


def _can_be_spelled(word: str) -> bool:
    return bool(word) and word[0] != "!" and word.isprintable()


def as_toml(seen: Seen, measured: Measured | None) -> str:
    """The policy."""
    lesson = generalise(seen.deeds)
    lines = [*_head(seen, len(lesson.rules), measured), ""]
    for number, rule in enumerate(lesson.rules):
        lines += [*_rule(number + 1, rule), ""]
    lines += [
        "# all else that changes something",
        "[[rule]]",
        f"name = {json.dumps(LAST_RULE)}",
        'action = "deny"',
        'class = "write"',
    ]
    lines += _once(lesson.once) + _not_learned(seen)
    return "\n".join(lines) + "\n"


def _head(seen: Seen, rules: int, measured: Measured | None) -> Iterator[str]:
    assert seen.first is not None
    yield (
        f"# learned from {seen.calls:,} calls that change something, "
        f"{day_and_time(seen.first)} to {day_and_time(seen.last)}: {rules} rules"
    )
    if measured is not None:
        yield f"# {said(measured)}"
    if seen.left_out:
        yield f"# {seen.left_out:,} calls were left out: there are too many different ones"
    yield "# once `libvirt-trace policy rehearse` finds nothing that it should not deny: enforce"
    yield 'mode = "audit"'


def said(measured: Measured) -> str:
    """For people."""
    return (
        f"learned from the time before {day_and_time(measured.since)} only, it would have denied "
        f"{measured.denied:,} of {measured.calls:,} calls since"
    )


def _rule(number: int, rule: Learned) -> Iterator[str]:
    yield f"# {evidence_of(rule.evidence)}"
    yield from (f"# made wider: {escape(step)}" for step in rule.steps)
    what = "changes" if rule.by_class else rule.functions[0]
    more = f" and {len(rule.functions) - 1} more" if len(rule.functions) > 1 else ""
    title = f"learned {number}: {rule.who}, {what}{'' if rule.by_class else more}"
    name_of = "".join(c if c.isprintable() else "?" for c in title)[:_NAME_MAX]
    yield from rule_lines(name_of, "allow", rule.functions, rule.who, rule.globs)


def rule_lines(
    name_of: str, action: str, functions: Iterable[str], who: str, globs: Iterable[str]
) -> list[str]:
    """A rule on calls that change something."""
    objects = list(globs)
    return [
        "[[rule]]",
        f"name = {_text(name_of)}",
        f'action = "{action}"',
        f"function = {_texts(functions)}",
        'class = "write"',
        f"user = {_texts([who])}",
        *([f"object = {_texts(objects)}"] if objects else []),
    ]


def evidence_of(evidence: Evidence) -> str:
    """How often something was seen, in a line."""
    days = len(evidence.days)
    span = day_and_time(evidence.first)
    span += f" to {day_and_time(evidence.last)}" if evidence.calls > 1 else ""
    programs = ", ".join(map(name, sorted(evidence.programs)))
    return (
        f"{evidence.calls:,} call{'s' if evidence.calls > 1 else ''} on "
        f"{days} day{'s' if days > 1 else ''} by {programs}, {span}"
    )


def _once(once: dict[Deed, Evidence]) -> list[str]:
    if not once:
        return []
    lines = ["", "# happened once, and is not allowed:"]
    for number, (deed, evidence) in enumerate(sorted(once.items(), key=lambda item: item[0])):
        if number == MOST_LISTED:
            lines.append(f"# ... and {len(once) - MOST_LISTED:,} more")
            break
        lines.append(f"# {about(deed)}, {evidence_of(evidence)}")
        name_of, globs = f"once {number + 1}: {deed.function}", map(literal, deed.objects)
        rule = rule_lines(name_of, "allow", [deed.function], deed.who, globs)
        lines += [f"#   {line}" for line in rule]
    return lines


def about(deed: Deed) -> str:
    """Who did what to what."""
    words = " and ".join(map(quote, deed.objects))
    return f"{escape(deed.who)}: {deed.function}{f' on {words}' if words else ''}"


def _not_learned(seen: Seen) -> list[str]:
    if not seen.not_learned:
        return []
    lines = ["", "# not learned from:"]
    for (why, user, function), calls in seen.not_learned.most_common(MOST_LISTED):
        lines.append(f"# {calls:,} of {name(user)}: {function}, since {why}")
    if len(seen.not_learned) > MOST_LISTED:
        lines.append(f"# ... and {len(seen.not_learned) - MOST_LISTED:,} more kinds")
    return lines


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _texts(texts: Iterable[str]) -> str:
    return "[" + ", ".join(map(_text, texts)) + "]"
