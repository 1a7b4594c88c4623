# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads policies: the text of a TOML file comes in; rules come out, or errors that say where
and what was probably meant.
"""

from __future__ import annotations

import fnmatch
import grp
import pwd
import re
import tomllib
import uuid
from collections.abc import Mapping, Sequence, Set
from typing import Any

from enforcer.policy.arrivals import arrive_as
from enforcer.policy.lines import Lines
from enforcer.policy.never import never_matching
from enforcer.policy.rules import (
    Case,
    Globs,
    People,
    Policy,
    PolicyError,
    Principal,
    Rule,
    flag_constants,
    nearest,
)
from enforcer.policy.sources import sources_of, takes_document
from log.quote import quote
from probes.api.table import ApiTable

ACTIONS = ("deny", "audit", "allow")
CLASSES = ("write", "read")
MODES = ("enforce", "audit")
ON_ERROR = ("allow", "deny")
TOP = ("mode", "on_error", "rule", "test")
KEYS = (
    "name", "action", "function", "class", "object", "uuid", "user", "group", "uri", "readonly",
    "exe", "flags", "contains", "element", "message",
)  # fmt: skip
TEXT_KEYS = (
    "name",
    "function",
    "object",
    "new_name",
    "uuid",
    "user",
    "uri",
    "exe",
    "xml",
    "expect",
    "rule",
)
CASE_KEYS = (*TEXT_KEYS, "readonly", "daemon", "flags")  # of a test
FLAG_KEYS = ("any", "all", "none")
# libvirt goes by names without their prefix
_ELEMENT = re.compile(r"""([A-Za-z_][\w.-]*)(?:\[@([A-Za-z_][\w.-]*)=(?:'([^'\1]*)')\])?""")
MESSAGE_MAX, NAME_MAX = 400, 200  # bytes; the library cuts an error's text at 511
DIGITS_MAX = 20  # of a user's or group's number


def read_policy(text: str, origin: str, table: ApiTable) -> Policy:
    """The policy; PolicyError with every mistake in it."""
    try:
        document = tomllib.loads(text)
    except RecursionError as error:
        raise PolicyError(f"{origin}:1: what is in it is nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(where[1]) if where else text.count("\n") + 1
        message = re.sub(r" \(at (?:line \d+, column \d+|end of document)\)", "", str(error))
        raise PolicyError(f"{origin}:{line}: {message[:1].lower()}{message[1:]}") from error
    except ValueError as error:  # of Python's int()
        raise PolicyError(f"{origin}:1: a number in it is too long") from error
    return _Reader(document, Lines(text), origin, table).read()


class _Reader:
    """Reads one document and collects what is wrong with it."""

    def __init__(
        self, document: Mapping[str, Any], lines: Lines, origin: str, table: ApiTable
    ) -> None:
        self.document, self.lines, self.origin, self.table = document, lines, origin, table
        self.errors: list[tuple[int, str]] = []
        self.judged = [function for function in table.functions if function.access != "plumbing"]
        self.names = {function.name for function in self.judged}
        self.matched: dict[str, frozenset[str]] = {}  # globs of functions
        self.classes: dict[str | None, Sequence[str]] = {}
        self.chosen: dict[object, tuple[str, ...]] = {}  # by what names them
        self.rule, self.kind = -1, "rule"  # where it is at

    def wrong(self, message: str, key: str | None = None, value: object = None) -> None:
        """Notes a mistake, at the place of that value."""
        self.errors.append((self.lines.find(self.rule, key, value, self.kind), message))

    def read(self) -> Policy:
        """The policy."""
        for key in self.document:
            if key not in TOP:
                self.wrong(f"unknown key {quote(key)}{nearest(key, TOP)}", key)
        mode = self.word(self.document, "mode", MODES, "enforce")
        on_error = self.word(self.document, "on_error", ON_ERROR, "allow")
        entries = self.document.get("rule", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.wrong("rules begin with [[rule]]", "rule")
            entries = []
        rules = []
        for self.rule, entry in enumerate(entries):
            before = len(self.errors)
            rule = self.read_rule(entry)
            if len(self.errors) == before:
                rules.append(rule)
        names: set[str] = set()
        for rule in rules:
            if rule.name in names:
                self.errors.append((rule.line, f"there is another rule {quote(rule.name)}"))
            names.add(rule.name)
        cases = self.cases(names)
        if self.errors:
            raise PolicyError(
                *((f"{self.origin}:{line}: {message}") for line, message in sorted(self.errors))
            )
        warnings = tuple(
            (f"{self.origin}:{line}: {message}")
            for line, message in never_matching(rules, self.table)
        )
        return Policy(self.origin, mode, on_error, tuple(rules), warnings, cases)

    def cases(self, rules: Set[str]) -> tuple[Case, ...]:
        """Each [[test]]."""
        entries = self.document.get("test", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.rule = -1
            self.wrong("tests begin with [[test]]", "test")
            return ()
        self.kind, found = "test", []
        for self.rule, entry in enumerate(entries):
            self.check_case(entry, rules)
            found.append(Case(self.lines.find(self.rule, None, None, "test"), entry))
        return tuple(found)

    def check_case(self, entry: Mapping[str, Any], rules: Set[str]) -> None:
        """One [[test]]."""
        for key, value in entry.items():
            if key not in CASE_KEYS:
                self.wrong(f"unknown key {quote(key)}{nearest(key, CASE_KEYS)}", key)
            elif key in TEXT_KEYS and not isinstance(value, str):
                self.wrong(f"{key} is a text", key)
            elif key in ("readonly", "daemon") and not isinstance(value, bool):
                self.wrong(f"{key} is true or false", key)
        flags = entry.get("flags", [])
        if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
            self.wrong("flags is a list of constants", "flags")
        if "expect" not in entry:
            self.wrong('a test says what to expect: expect = "deny"')
        self.word(entry, "expect", ACTIONS, "deny")
        name, rule = entry.get("function"), entry.get("rule")
        if not isinstance(name, str):
            self.wrong("a test has a function")
        elif name not in self.table.by_name:
            self.wrong(f"unknown function {quote(name)}{nearest(name, self.names)}", "function")
        if isinstance(rule, str) and rule not in rules:
            self.wrong(f"there is no rule {quote(rule)}{nearest(rule, rules)}", "rule", rule)

    def word(self, entry: Mapping[str, Any], key: str, words: Sequence[str], default: str) -> str:
        """One of those words."""
        value = entry.get(key, default)
        if value not in words:
            hint = nearest(value, words) if isinstance(value, str) else ""
            self.wrong(f"{key} is {' or '.join(map(quote, words))}{hint}", key)
            return default
        return str(value)

    def strings(
        self, entry: Mapping[str, Any], key: str, what: str | None = None
    ) -> tuple[str, ...] | None:
        """A list of texts, or one text; None: there is no such key."""
        value = entry.get(key)
        if value is None:
            return None
        values = value if isinstance(value, list) else [value]
        if not values or not all(
            isinstance(item, str) and item and "\0" not in item for item in values
        ):
            self.wrong(f"{what or key} is a list of texts that are not empty", key)
            return None
        return tuple(values)

    def globs(self, entry: Mapping[str, Any], key: str) -> Globs | None:
        """A list of globs, of which those with a "!" must not match."""
        values = self.strings(entry, key)
        if values is None:
            return None
        for value in values:
            self.check_sets(value, key, value)
            if value == "!":
                self.wrong('nothing is behind the "!"', key, value)
        return Globs(
            tuple(v for v in values if v[0] != "!"), tuple(v[1:] for v in values if v[0] == "!")
        )

    def check_sets(self, glob: str, key: str, value: str) -> None:
        """Notes a [set] in the glob that the library doesn't know."""
        if (wrong := bad_set(glob)) is not None:
            self.wrong(
                f"in a glob, {quote(wrong)} may have plain ASCII characters only", key, value
            )

    def read_rule(self, entry: Mapping[str, Any]) -> Rule:
        """One [[rule]]."""
        for key in entry:
            if key not in KEYS:
                self.wrong(f"unknown key {quote(key)}{nearest(key, KEYS)}", key)
        name, message = entry.get("name"), entry.get("message", "")
        if not isinstance(name, str) or not name:
            self.wrong("a rule has a name", "name")
            name = ""
        elif not _is_line(name, NAME_MAX):
            self.wrong(f"name is a line of at most {NAME_MAX} bytes", "name")
        if not isinstance(message, str) or not _is_line(message, MESSAGE_MAX):
            self.wrong(f"message is a line of at most {MESSAGE_MAX} bytes", "message")
            message = ""
        if "action" not in entry:
            self.wrong(f"rule {quote(name)} has no action")
        action = self.word(entry, "action", ACTIONS, "deny")
        functions, access, wide = self.functions(entry, name, action)
        readonly = entry.get("readonly")
        if readonly is not None and not isinstance(readonly, bool):
            self.wrong("readonly is true or false", "readonly")
        return Rule(
            name=name,
            action=action,
            functions=functions,
            access=access,
            objects=self.globs(entry, "object"),
            uuids=self.uuids(entry),
            people=self.people(entry),
            uris=self.globs(entry, "uri"),
            readonly=readonly,
            exes=self.globs(entry, "exe"),
            flags=self.flags(entry, functions),
            contains=self.contains(entry, functions),
            elements=self.elements(entry, functions),
            message=message,
            line=self.lines.find(self.rule, None, None),
            globs=tuple(
                glob for glob in self.strings(entry, "function") or () if not glob.startswith("!")
            ),
            wide=wide,
        )

    def functions(
        self, entry: Mapping[str, Any], name: str, action: str
    ) -> tuple[tuple[str, ...], str | None, bool]:
        """The functions that the rule covers, the class of calls, and whether it says so by
        class or glob.
        """
        access = self.word(entry, "class", CLASSES, "write") if "class" in entry else None
        globs = self.strings(entry, "function")
        if globs is None and access is None and "function" not in entry:
            self.wrong(f"rule {quote(name)} says neither function nor class")
        wide = access is not None or any(re.search(r"[*?\[]", glob) for glob in globs or ())
        key = globs, access, action == "allow"
        before = len(self.errors)
        if key not in self.chosen:
            chosen = self.names if globs is None else self.chosen_by(globs, action)
            self.chosen[key] = tuple(name for name in self.of_class(access) if name in chosen)
        # a mistake is told each time
        found = self.chosen[key] if len(self.errors) == before else self.chosen.pop(key)
        return found, access, wide

    def chosen_by(self, globs: Sequence[str], action: str) -> Set[str]:
        """The functions that globs name, and those that calls of them arrive as."""
        yes = [glob for glob in globs if not glob.startswith("!")]
        chosen = {name for glob in yes for name in self.matching(glob)} if yes else set(self.names)
        left_out = {name for glob in globs if glob.startswith("!") for name in self.matching(glob)}
        return arrive_as(chosen - left_out, left_out, forbids=action != "allow")

    def of_class(self, access: str | None) -> Sequence[str]:
        """The functions of which some call is of that class, in order of their numbers."""
        if access not in self.classes:
            is_write = access == "write"
            chosen = [
                f.name
                for f in self.judged
                if access is None or f.is_write == is_write or f.access == "conditional"
            ]
            self.classes[access] = chosen
        return self.classes[access]

    def matching(self, glob: str) -> frozenset[str]:
        """The functions of that glob; one that nothing matches is a mistake."""
        pattern = glob.removeprefix("!")
        if pattern not in self.matched:
            self.matched[pattern] = frozenset(fnmatch.filter(self.names, pattern))
        found = self.matched[pattern]
        if not found:
            plumbing = fnmatch.filter([function.name for function in self.table.functions], pattern)
            if plumbing:
                self.wrong(f"{quote(pattern)} is plumbing, which is never judged", "function", glob)
            elif re.search(r"[*?\[]", pattern):
                self.wrong(f"no function matches {quote(pattern)}", "function", glob)
            else:
                self.wrong(
                    f"unknown function {quote(pattern)}{nearest(pattern, self.names)}",
                    "function",
                    glob,
                )
        return found

    def uuids(self, entry: Mapping[str, Any]) -> Globs | None:
        """A list of UUIDs."""
        found = self.globs(entry, "uuid")
        for value in (*found.yes, *found.no) if found else ():
            try:
                uuid.UUID(value)
            except ValueError:
                self.wrong(f"{quote(value)} is no UUID", "uuid", value)
        return found

    def people(self, entry: Mapping[str, Any]) -> tuple[People, ...]:
        """What user and group say."""
        found = []
        for key in ("user", "group"):
            values = self.strings(entry, key)
            if values is None:
                continue
            read = self.user if key == "user" else self.group
            yes = tuple(p for value in values if value[0] != "!" for p in read(value))
            no = tuple(p for value in values if value[0] == "!" for p in read(value[1:], value))
            found.append(People(yes, no))
        return tuple(found)

    def user(self, name: str, shown: str | None = None) -> tuple[Principal, ...]:
        """A user's name or number, sasl:GLOB or x509:GLOB."""
        kind, colon, glob = name.partition(":")
        if colon and kind in ("sasl", "x509"):
            self.check_sets(glob, "user", shown or name)
            return (Principal(kind, glob),)
        if name.isdecimal() and len(name) <= DIGITS_MAX and int(name) < 1 << 32:
            return (Principal("uid", int(name)),)
        try:
            return (Principal("uid", pwd.getpwnam(name).pw_uid),)
        except (KeyError, ValueError):
            hint = nearest(name, (entry.pw_name for entry in pwd.getpwall()))
            self.wrong(f"no user {quote(name)} on this host{hint}", "user", shown or name)
            return ()

    def group(self, name: str, shown: str | None = None) -> tuple[Principal, ...]:
        """A group's name or number: the group itself, and who is in it now."""
        try:
            group = grp.getgrgid(int(name)) if name.isdecimal() else grp.getgrnam(name)
        except (KeyError, ValueError, OverflowError):
            hint = nearest(name, (entry.gr_name for entry in grp.getgrall()))
            self.wrong(f"no group {quote(name)} on this host{hint}", "group", shown or name)
            return ()
        members = {
            user.pw_uid
            for user in pwd.getpwall()
            if user.pw_name in group.gr_mem or user.pw_gid == group.gr_gid
        }
        return (Principal("gid", group.gr_gid), *(Principal("uid", uid) for uid in sorted(members)))

    def flags(
        self, entry: Mapping[str, Any], functions: Sequence[str]
    ) -> dict[str, tuple[str, ...]]:
        """{any|all|none = [constants]}: each a flag of a function that the rule covers.

        Where one is 0, no bit tells whether a call has it.
        """
        value = entry.get("flags")
        if value is None:
            return {}
        if not isinstance(value, dict) or not value:
            self.wrong("flags is a table with any, all or none", "flags")
            return {}
        known: dict[str, int] = {}
        for function in functions:
            known |= flag_constants(self.table.by_name[function], self.table)
        found: dict[str, tuple[str, ...]] = {}
        for key in value:
            if key not in FLAG_KEYS:
                self.wrong(f"flags has any, all and none, not {quote(key)}", "flags", key)
                continue
            found[key] = self.strings(value, key, f"flags.{key}") or ()
            for name in found[key]:
                if functions and name not in known:
                    self.wrong(
                        "no function of this rule has the flag "
                        f"{quote(name)}{nearest(name, known)}",
                        "flags",
                        name,
                    )
                elif known.get(name) == 0:
                    self.wrong(
                        f"{quote(name)} is 0, so no call can be told by it: say none = [...], with "
                        "the flags that are not to be set",
                        "flags",
                        name,
                    )
        return found

    def contains(
        self, entry: Mapping[str, Any], functions: Sequence[str]
    ) -> dict[str, tuple[str, ...]]:
        """{ARGUMENT = [texts]}: each argument a string of a function that the rule covers."""
        value = entry.get("contains")
        if value is None:
            return {}
        if not isinstance(value, dict) or not value:
            self.wrong("contains is a table: argument = [texts]", "contains")
            return {}
        known = {
            p.name
            for function in functions
            for p in self.table.by_name[function].params
            if p.kind in ("string", "xml")
        }
        known |= (
            {"xml"}
            if any(p.kind == "xml" for f in functions for p in self.table.by_name[f].params)
            else set()
        )
        known |= (
            {"xml"}
            if any(
                source.kind == "params"
                for f in functions
                for source in sources_of(self.table.by_name[f])
            )
            else set()
        )
        for name in value:
            if functions and name not in known:
                self.wrong(
                    f"no function of this rule has a text {quote(name)}{nearest(name, known)}",
                    "contains",
                    name,
                )
        return {name: self.strings(value, name, f"contains.{name}") or () for name in value}

    def elements(
        self, entry: Mapping[str, Any], functions: Sequence[str]
    ) -> tuple[tuple[str, ...], ...]:
        """A list of "NAME" or "NAME[@ATTRIBUTE='VALUE']"."""
        found = []
        for value in self.strings(entry, "element") or ():
            parts = _ELEMENT.fullmatch(value)
            if parts is None:
                self.wrong(
                    f"{quote(value)} is no element: say hostdev, or interface[@type='hostdev']",
                    "element",
                    value,
                )
            else:
                found.append(tuple(part for part in parts.groups() if part is not None))
        if (
            found
            and functions
            and not any(takes_document(self.table.by_name[name]) for name in functions)
        ):
            self.wrong("no function of this rule takes an XML document", "element")
        return tuple(found)


def _is_line(text: str, most: int) -> bool:
    """Whether it can be shown as it is: of so many bytes, without what moves or hides text."""
    return len(text.encode()) <= most and text.isprintable()


def bad_set(glob: str) -> str | None:
    """A [set] in the glob with other than ASCII characters, of which the library knows only
    bytes.
    """
    return next(
        (found[0] for found in re.finditer(r"\[!?\]?[^\]]*\]", glob) if not found[0].isascii()),
        None,
    )
