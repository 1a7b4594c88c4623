# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of a record and a policy come in; how its calls would have ended under the policy goes
out: what changes, how much stays as it was, and what can't be told.

A policy in audit mode is rehearsed as if it were enforced: that is what one wants to know of it.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from enforcer.judging.judge import UNRECORDED, Decision, Judge, Unrecorded
from enforcer.policy.rules import Policy, Rule
from enforcer.rehearsal.facts import facts_of
from enforcer.rehearsal.made import (
    CLIENT_OF_DAEMON,
    ITSELF,
    Made,
    made_alone,
    made_counted,
    place_of,
)
from enforcer.rehearsal.span import Span
from log.events import Attached, Call, Gap, Lost, Reads, Recording, Unattached
from log.filters.about import client_of, object_of
from log.parsing.fields import ForeignLine, moment
from log.parsing.parse import arguments, parse
from log.recording.format import Line
from probes.api.table import ApiTable

MOST_KNOWN = 1 << 16  # kinds of lines whose outcome is kept
MOST_ROWS = 1 << 14  # of what changes; what comes then is counted together
DENIED, ALLOWED = "newly denied", "newly allowed"
COUNTED = "only counted, without arguments"
LOST = "its begin was lost"
UNKNOWN_FUNCTION = "its function is not known here"

_CALLS = (b'{"type":"call"', b'{"type":"unfinished"', b'{"type":"verdict"')
_SEAL = b'{"type":"seal"'
_pid = re.compile(rb'"pid":\d+,')
_EXE, _CMDLINE, _UID, _FUNCTION = b',"exe":', b',"cmdline":', b',"uid":', b',"function":"'
_ARGS, _OUT, _FAILED, _ERROR_NAME = b',"args":', b',"out":', b',"failed":', b',"name":'
_VERDICT, _NO_CLIENT, _ACCESS = b'{"type":"verdict"', b',"client":null', b',"access":['
_TYPES = b',"types":'
_TOOK, _CLIENT, _LOGIN = b',"duration_ns":', b',"client":', b',"loginuid":'


class Needs(enum.Enum):
    """What of a call on a function tells its outcome, besides for whom it was made."""

    NOTHING = "nothing, where a daemon made it for a client"  # no rule is about it
    ARGUMENTS = "arguments"
    RESULT = "arguments and result"  # which tells what was found


class Alike(NamedTuple):
    """What lines of calls that end alike have in common."""

    needs: Needs
    who: bytes
    what: bytes  # the function
    args: bytes  # with the result, where that is needed
    rest: bytes  # how it ended
    served: bytes


class Ruling(NamedTuple):
    """What a policy says of a call."""

    denies: bool | Unrecorded
    rule: Rule | None = None  # that decides
    missing: str = ""  # what would tell
    is_sure: bool = True  # that it is this rule


class Outcome(NamedTuple):
    """How calls that are alike would have ended."""

    kind: str | None  # DENIED, ALLOWED; None: as it did, or it can't be told
    rule: Rule | None = None  # that makes the difference; None: that no rule matches any more
    missing: str | None = None  # what would tell
    where: str | None = None  # it is judged there; None: nowhere
    worked: bool = False  # it did not fail, as far as is known
    client: tuple[str, ...] = ("", "")  # program and user
    object: str | None = None
    decider: str | None = None  # the rule that decides it, whether that changes anything or not
    is_sure: bool = True  # that it is this one


_NOT_SEEN, _ALWAYS = Outcome(None), Span()


class Use:
    """How often a rule has decided."""

    def __init__(self) -> None:
        self.calls = self.perhaps = 0  # for certain; where the record doesn't tell
        self.last: int | None = None  # ns, for certain


class Changed:
    """Calls that change in the same way: of one user, one function, on one object."""

    def __init__(self, example: bytes) -> None:
        self.example = example  # the line of the first
        self.calls = self.worked = 0
        self.first = self.last = 0  # ns

    def add(self, calls: int, worked: bool, first: int, last: int) -> None:
        """Count calls in."""
        self.first = min(self.first or first, first)
        self.last = max(self.last, last)
        self.calls += calls
        self.worked += calls if worked else 0


class Key(NamedTuple):
    """What a row is about."""

    kind: str
    rule: str | None
    user: str
    function: str
    object: str | None


class Rehearsal:
    """What is found out, as the lines of a record pass."""

    def __init__(
        self,
        new: Policy,
        table: ApiTable,
        old: Policy | None = None,
        span: Span = Span(),  # noqa: B008 - it never changes
        *,
        clients: bool = False,
    ) -> None:
        """`old`: what is compared with, instead of what happened. `clients`: calls that clients
        make of daemons are judged in these clients, too.
        """
        self.new, self.old = new, old
        self._judges = [Judge(policy, table) for policy in (new, old) if policy is not None]
        self._table, self._span, self._clients = table, span, clients
        self.rows: dict[Key, Changed] = {}
        self.uses: dict[str, Use] = {rule.name: Use() for rule in new.rules}
        self.judged: Counter[str] = Counter()  # calls, by where
        self.elsewhere: Counter[str] = Counter()  # calls that are judged nowhere, by why
        self.changed: Counter[str] = Counter()  # by kind
        self.worked: Counter[str] = Counter()  # of these
        self.untold: Counter[str] = Counter()  # by what would tell
        self.left_out = 0  # changes beyond MOST_ROWS, which are in `changed`
        self.gaps: list[Gap] = []
        self.lost = self.foreign = 0
        self.unseen: set[str] = set()  # files whose calls are not recorded, or not all
        self.hosts: set[tuple[str, str | None]] = set()  # names and machine ids
        self.versions: set[str] = set()  # of libvirt
        self.first: int | None = None
        self.last = 0
        self._lines: dict[Alike, Outcome | None] = {}  # None: no policy judges them
        self._needs: dict[bytes, Needs] = {}  # by function
        self._second, self._begun = b"", 0  # of the last call, as text and in ns
        self._but_arguments: dict[Alike, Call] = {}
        self._served: dict[bytes, bytes] = {}  # without what no rule asks for

    def add(self, lines: Iterable[Line]) -> None:
        """Have these lines pass."""
        for _, line, _ in lines:
            if line.startswith(_CALLS):
                self._add_call(line)
            elif not line.startswith(_SEAL):
                self._add_other(line)

    @property
    def calls(self) -> int:
        """All that were judged."""
        return self.judged.total()

    @property
    def same(self) -> int:
        """Those that would have ended as they did."""
        return self.calls - self.changed.total() - self.untold.total()

    def _add_call(self, line: bytes) -> None:
        key = self._alike(line)
        outcome = self._lines.get(key, _NOT_SEEN) if key is not None else _NOT_SEEN
        if outcome is _NOT_SEEN:
            try:
                event = self._call(line, key)
            except ForeignLine:
                self.foreign += 1
                return
            outcome = self._outcome(event)
            if key is not None:
                if len(self._lines) >= MOST_KNOWN:
                    self._lines.clear()
                self._lines[key] = outcome
        if outcome is None:
            return
        try:
            time = self._moment(line)
        except (ValueError, UnicodeDecodeError):
            self.foreign += 1
            return
        function = _function_of(line) if outcome.kind is not None else ""
        self._count(outcome, function, 1, time, time, line)

    def _moment(self, line: bytes) -> int:
        """When it was; calls come by the thousand in a second, whose date is read once."""
        at = line.index(b'"time":"') + 8
        second, rest = line[at : at + 20], line[at + 20 : at + 30]
        if second == self._second and len(rest) == 10 and rest.endswith(b"Z"):
            return self._begun + int(rest[:9])
        found = moment((second + rest).decode())
        self._second, self._begun = second, found - found % 1_000_000_000
        return found

    def _call(self, line: bytes, key: Alike | None) -> Call:
        """The call, as far as its outcome depends on it: of one that is like another but for its
        arguments, only these are read.
        """
        if key is None or key.needs is not Needs.ARGUMENTS or _TYPES in key.served:
            return _whole(line)
        same = key._replace(args=b"")
        found = self._but_arguments.get(same)
        if found is not None:
            try:
                return found._replace(args=arguments(key.args))
            except ForeignLine:  # some of what is behind them is there, too
                return _whole(line)
        if len(self._but_arguments) >= MOST_KNOWN:
            self._but_arguments.clear()
        found = self._but_arguments[same] = _whole(line)
        return found

    def _alike(self, line: bytes) -> Alike | None:
        """What the outcome depends on; None: it is no line as we write it, or a rare one.

        Nothing in a string of JSON looks like a key, as its quotes are escaped. But fields of
        arguments may be called as ours are, so what comes behind them is looked for from the end,
        and one with words that polkit was told there is never taken for another.
        """
        took = line.rfind(_TOOK)
        failed = line.rfind(_FAILED, 0, took)
        exe = line.find(_EXE)
        cmdline = line.find(_CMDLINE, exe)
        uid = line.find(_UID, cmdline)
        login = line.find(_LOGIN, uid)
        function = line.find(_FUNCTION, login)
        args = line.find(_ARGS, function)
        client = line.find(_CLIENT, took)
        if not 0 <= exe < cmdline < uid < login < function < args < failed < took < client:
            return None
        if line.find(_ACCESS, failed) >= 0:
            return None
        served = self._without_ids(line[client:])
        what = line[function:args]
        name = what[len(_FUNCTION) : what.index(b'"', len(_FUNCTION))]
        needs = self._needs.get(name)
        if needs is None:
            needs = self._needs[name] = self._needed(name.decode(errors="replace"))
        if needs is Needs.NOTHING:
            if not (line.startswith(_VERDICT) or served.startswith(_NO_CLIENT)):
                return Alike(needs, line[:10], what, b"", b"", served)
            needs = Needs.ARGUMENTS
        end = failed if needs is Needs.RESULT else line.rfind(_OUT, args, failed)
        if end < 0:
            return None
        error = line.find(_ERROR_NAME, failed, took)  # its code comes before
        who = line[:10] + line[exe:cmdline] + line[uid:login]
        rest = line[failed : took if error < 0 else error]
        return Alike(needs, who, what, line[args + len(_ARGS) : end], rest, served)

    def _without_ids(self, served: bytes) -> bytes:
        known = self._served.get(served)
        if known is None:
            if len(self._served) >= MOST_KNOWN:
                self._served.clear()
            known = self._served[served] = _without_ids(served)
        return known

    def _needed(self, name: str) -> Needs:
        """What of a call on it tells its outcome."""
        function = self._table.by_name.get(name)
        if function is None or function.result.kind == "handle":
            return Needs.RESULT
        is_asked = any(judge.asked(function) for judge in self._judges)
        return Needs.ARGUMENTS if is_asked else Needs.NOTHING

    def _add_other(self, line: bytes) -> None:
        try:
            event = parse(line)
        except ForeignLine:
            self.foreign += 1
            return
        if type(event) is Reads:
            outcome = self._outcome(event)
            if outcome is not None:
                self._count(outcome, event.function, event.calls, event.time, event.until, line)
        elif type(event) is Gap and self._span.holds(event.time, event.until):
            self.gaps.append(event)
            self.lost += event.lost or 0
        elif type(event) is Lost and self._span.holds(event.time, event.time):
            self.lost += event.count
        elif type(event) is Unattached:
            self.unseen.add(event.path)
        elif type(event) is Recording:
            self.hosts.add((event.host, event.machine))
        elif type(event) is Attached:
            self.versions |= {target.libvirt for target in event.targets if target.libvirt}

    def _count(
        self, outcome: Outcome, function: str, calls: int, first: int, last: int, line: bytes
    ) -> None:
        if self._span != _ALWAYS and not self._span.holds(first, last):
            return
        self.first = first if self.first is None else min(self.first, first)
        self.last = max(self.last, last)
        if outcome.where is None:
            self.elsewhere[outcome.missing or ""] += calls
            return
        self.judged[outcome.where] += calls
        if outcome.decider is not None:
            use = self.uses[outcome.decider]
            if outcome.is_sure:
                use.calls += calls
                use.last = max(use.last or last, last)
            else:
                use.perhaps += calls
        if outcome.kind is None:
            if outcome.missing is not None:
                self.untold[outcome.missing] += calls
            return
        self.changed[outcome.kind] += calls
        self.worked[outcome.kind] += calls if outcome.worked else 0
        rule = None if outcome.rule is None else outcome.rule.name
        key = Key(outcome.kind, rule, outcome.client[1], function, outcome.object)
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= MOST_ROWS:
                self.left_out += calls
                return
            row = self.rows[key] = Changed(line)
        row.add(calls, outcome.worked, first, last)

    def _outcome(self, event: Call | Reads) -> Outcome | None:
        """None: no policy judges such a call."""
        function = self._table.by_name.get(event.function)
        if function is None:
            return Outcome(None, missing=UNKNOWN_FUNCTION, where="not known")
        if function.access == "plumbing" or (type(event) is Call and event.depth):
            return None
        if type(event) is Call:
            made, about, verdict = made_alone(event, function), object_of(event), event.verdict
            untold = LOST if event.args is None else None
        else:
            assert type(event) is Reads
            made, about, verdict = made_counted(event, function), event.object, None
            untold = COUNTED
        where = place_of(made)
        if where == ITSELF or (where == CLIENT_OF_DAEMON and not self._clients):
            return Outcome(None, missing=where)
        was_denied = verdict is not None and verdict.action == "deny"
        answers = self._answers(made)
        said = answers[0]
        before = answers[1] if len(answers) > 1 else Ruling(was_denied)
        label = None if about is None else about.label
        outcome = Outcome(
            None,
            where=where,
            worked=made.failed is not True and not was_denied,
            client=client_of(event.comm, event.caller, event.client),
            object=label if isinstance(label, str) else None if about is None else "?",
            decider=said.rule.name if said.rule else None,
            is_sure=said.is_sure,
        )
        if said == before or said.denies == before.denies is not UNRECORDED:
            return outcome  # whatever it is, both say the same
        for one in (said, before):
            if one.denies is UNRECORDED:
                return outcome._replace(missing=untold or one.missing)
        rule = said.rule if said.denies else before.rule
        return outcome._replace(kind=DENIED if said.denies else ALLOWED, rule=rule)

    def _answers(self, made: Made) -> list[Ruling]:
        """What each policy says."""
        if not any(judge.asked(made.function) for judge in self._judges):
            return [Ruling(False)] * len(self._judges)
        facts = list(facts_of(made))
        return [strictest(map(judge.decide, facts)) for judge in self._judges]


def strictest(decisions: Iterable[Decision]) -> Ruling:
    """What is made of the decisions about one call, as ask_policy() in judge.c does: one that
    denies is enough, and what one audits stays audited.
    """
    found = Ruling(False)
    for decision in decisions:
        denies, rule, is_sure = decision.denies, decision.by, not decision.perhaps
        if denies is True:
            return Ruling(True, rule, is_sure=is_sure)
        if denies is UNRECORDED:
            found = Ruling(denies, rule, decision.perhaps[0][1], is_sure=False)
        elif found.denies is False and rule and (rule.action == "audit" or not found.rule):
            found = Ruling(False, rule, is_sure=is_sure)
    return found


def _whole(line: bytes) -> Call:
    event = parse(line)
    assert type(event) is Call
    return event


def _without_ids(served: bytes) -> bytes:
    """The client, without the ids of its process and its command line."""
    begin, *rest = served.split(_CMDLINE)
    parts = [part[max(part.find(_LOGIN), 0) :] for part in rest]
    return _pid.sub(b"", b"".join([begin, *parts]))


def _function_of(line: bytes) -> str:
    at = line.index(_FUNCTION) + len(_FUNCTION)
    return line[at : line.index(b'"', at)].decode()
