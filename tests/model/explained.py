# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `policy explain` says of a call that the model judges: the model's facts come in, the rule
that denies goes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from enforcer.compiled.conditions import document_at
from enforcer.judging import judge
from enforcer.judging.explain import Supposed, explain_facts, facts_of, objects_of
from enforcer.launch.library import table
from enforcer.policy.rules import Policy, flag_arguments
from tests.model.rules import Facts, Person, Thing


class Unsure(Exception):
    """It says that something can't be told."""


def explained(policy: Policy, facts: Facts, *, in_daemon: bool) -> str | None:
    """The rule that denies the call; None: none does."""
    for known in _asked(facts, in_daemon):
        said = explain_facts(policy, table(), known)[0]
        if "can't be told" in said:
            raise Unsure
        if " denies it" in said:
            return said.split('"')[1]
    return None


def _asked(facts: Facts, in_daemon: bool) -> Iterator[judge.Facts]:
    """For each whom the call is made for, and of each object where they are judged alone."""
    for person in facts.people:
        if not facts.one_by_one:
            yield _known(facts, person, facts.things or (), in_daemon)
            continue
        for thing in facts.things or ():
            yield _known(facts, person, (thing,), in_daemon)


def _known(facts: Facts, person: Person, things: Sequence[Thing], in_daemon: bool) -> judge.Facts:
    function = table().by_name[facts.functions[-1]]
    first, *others = things or (Thing(None, None),)
    xml = facts.document.text if facts.document and document_at(function) is not None else None
    question = Supposed(
        function.name,
        object=first.name and (first.whole or first.name),
        uuid=first.uuid or None,
        uri=facts.uri,
        readonly=facts.readonly,
        exe=person.exe,
        xml=xml,
        new_name=others[0].name if others else "",
        in_daemon=in_daemon,
    )
    who = {"uid": person.uid, "gid": person.gid, "sasl": person.sasl, "x509": person.x509}
    found = facts_of(function, table(), question, objects_of(function, question))
    texts = {i: facts.texts[p.name] for i, p in enumerate(function.params) if p.name in facts.texts}
    return found._replace(
        principals=frozenset((kind, name) for kind, name in who.items() if name is not None),
        numbers=dict.fromkeys(flag_arguments(function, table()), facts.flags or 0),
        texts={**found.texts, **texts},
    )
