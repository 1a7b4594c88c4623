# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was seen comes in; a policy that denies what changes something, but allows what was seen to
be done, goes out as TOML, each rule below its evidence.

Nothing is learned from what happened once: that is listed, commented out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from enforcer.learning.evidence import (
    MOST_LISTED,
    Measured,
    about,
    evidence_of,
    heading,
    not_learned,
    reasons,
)
from enforcer.learning.generalise import Deed, Evidence, Learned, generalise, literal
from enforcer.learning.seen import Seen

LAST_RULE = "whatever else changes something"
_NAME_MAX = 150  # characters of a rule's name


def as_toml(seen: Seen, measured: Measured | None) -> str:
    """The policy."""
    lesson = generalise(seen.deeds)
    lines = _commented(heading(seen, "that change something", len(lesson.rules), measured))
    lines += [
        "# once `libvirt-trace policy rehearse` finds nothing that it should not deny: enforce",
        'mode = "audit"',
        "",
    ]
    for number, rule in enumerate(lesson.rules):
        lines += [*_rule(number + 1, rule), ""]
    lines += [
        "# all else that changes something",
        "[[rule]]",
        f"name = {json.dumps(LAST_RULE)}",
        'action = "deny"',
        'class = "write"',
    ]
    lines += _once(lesson.once)
    if seen.not_learned:
        lines += ["", *_commented(not_learned(seen))]
    return "\n".join(lines) + "\n"


def _rule(number: int, rule: Learned) -> Iterator[str]:
    yield from _commented(reasons(rule))
    what = "changes" if rule.by_class else rule.functions[0]
    more = f" and {len(rule.functions) - 1} more" if len(rule.functions) > 1 else ""
    title = f"learned {number}: {rule.who}, {what}{'' if rule.by_class else more}"
    name_of = "".join(c if c.isprintable() else "?" for c in title)[:_NAME_MAX]
    yield from rule_lines(name_of, "allow", rule.functions, rule.who, rule.globs)


def _commented(lines: Iterable[str]) -> list[str]:
    return [f"# {line}" for line in lines]


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


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _texts(texts: Iterable[str]) -> str:
    return "[" + ", ".join(map(_text, texts)) + "]"
