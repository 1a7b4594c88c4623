# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of a record come in; what was done, by whom and to what, and how often, goes out.

What failed or was denied does not count, nor what can't be told of anybody: that is kept by its
reason.
"""

from __future__ import annotations

import pwd
from collections import Counter
from collections.abc import Iterable

from enforcer.judging.judge import NONE, UNRECORDED, Facts
from enforcer.learning.generalise import Deed, Evidence, literal
from enforcer.policy.sources import PARTS, sources_of
from enforcer.rehearsal.facts import facts_of
from enforcer.rehearsal.made import CLIENT, DAEMON, made_alone, place_of
from enforcer.rehearsal.span import Span
from log.events import Call
from log.filters.about import client_of
from log.parsing.fields import ForeignLine
from log.parsing.parse import parse
from log.recording.format import Line
from probes.api.table import ApiTable

MOST_DEEDS = 1 << 16  # that are told apart
MOST_PROGRAMS = 4  # that are named
_DAY = 86400 * 10**9  # ns
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
