# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which functions a rule covers: its class and globs come in, the names of functions go out."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence, Set

from enforcer.policy.arrivals import arrive_as
from enforcer.policy.reading.entries import Entries, Entry
from enforcer.policy.rules import nearest
from log.quote import quote
from probes.api.table import ApiTable

CLASSES = ("write", "read")
_is_glob = re.compile(r"[*?\[]").search


class Covered:
    """Chooses among the functions that can be judged."""

    def __init__(self, entries: Entries, table: ApiTable) -> None:
        self._entries, self._table = entries, table
        self._judged = [function for function in table.functions if function.access != "plumbing"]
        self.names = {function.name for function in self._judged}
        self._matched: dict[str, frozenset[str]] = {}  # globs of functions
        self._classes: dict[str | None, Sequence[str]] = {}
        self._chosen: dict[object, tuple[str, ...]] = {}  # by what names them

    def of(self, entry: Entry, name: str, action: str) -> tuple[tuple[str, ...], str | None, bool]:
        """The functions that the rule covers, the class of calls, and whether it says so by
        class or glob.
        """
        access = self._entries.word(entry, "class", CLASSES, "write") if "class" in entry else None
        globs = self._entries.strings(entry, "function")
        if globs is None and access is None and "function" not in entry:
            self._entries.wrong(f"rule {quote(name)} says neither function nor class")
        wide = access is not None or any(_is_glob(glob) for glob in globs or ())
        key = globs, access, action == "allow"
        before = len(self._entries.errors)
        if key not in self._chosen:
            chosen = self.names if globs is None else self._chosen_by(globs, action)
            self._chosen[key] = tuple(name for name in self._of_class(access) if name in chosen)
        # a mistake is told each time
        found = self._chosen[key] if len(self._entries.errors) == before else self._chosen.pop(key)
        return found, access, wide

    def _chosen_by(self, globs: Sequence[str], action: str) -> Set[str]:
        """The functions that globs name, and those that calls of them arrive as."""
        yes = [glob for glob in globs if not glob.startswith("!")]
        chosen = {name for glob in yes for name in self._matching(glob)} if yes else set(self.names)
        left_out = {name for glob in globs if glob.startswith("!") for name in self._matching(glob)}
        return arrive_as(chosen - left_out, left_out, forbids=action != "allow")

    def _of_class(self, access: str | None) -> Sequence[str]:
        """The functions of which some call is of that class, in order of their numbers."""
        if access not in self._classes:
            is_write = access == "write"
            chosen = [
                f.name
                for f in self._judged
                if access is None or f.is_write == is_write or f.access == "conditional"
            ]
            self._classes[access] = chosen
        return self._classes[access]

    def _matching(self, glob: str) -> frozenset[str]:
        """The functions of that glob; one that nothing matches is a mistake."""
        pattern = glob.removeprefix("!")
        if pattern not in self._matched:
            self._matched[pattern] = frozenset(fnmatch.filter(self.names, pattern))
        found = self._matched[pattern]
        if not found:
            plumbing = fnmatch.filter(
                [function.name for function in self._table.functions], pattern
            )
            if plumbing:
                self._entries.wrong(
                    f"{quote(pattern)} is plumbing, which is never judged", "function", glob
                )
            elif _is_glob(pattern):
                self._entries.wrong(f"no function matches {quote(pattern)}", "function", glob)
            else:
                self._entries.wrong(
                    f"unknown function {quote(pattern)}{nearest(pattern, self.names)}",
                    "function",
                    glob,
                )
        return found
