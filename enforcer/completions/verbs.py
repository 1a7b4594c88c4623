# SPDX-License-Identifier: LGPL-2.1-or-later
"""Command lines that shells complete: the parsers of all verbs come in, what may follow which words
goes out.

A script knows verbs, options and their choices by itself. Names that only the host knows are asked
for when they are wanted: functions of `libvirt-trace list`, domains of virsh, services of systemd.
"""

from __future__ import annotations

import argparse

from enforcer.completions.words import Verb, Word
from enforcer.options import enforce_parser, policy_parser
from log import VERSION
from log.verbs.options import export_parser, log_parser, report_parser, verify_parser
from probes.verbs.options import record_parser, tracing_parser
from probes.verbs.parsers import list_parser, open_parser, ps_parser, stuck_parser, top_parser

# what a word is, by its metavar and, where that stands for several things, by its dest
KINDS = {
    "COMM": "program",
    "DIR": "folder",
    "FILE": "file",
    "OTHER": "file",
    "PATH": "file",
    "PID": "process",
    "UNIT": "service",
    "USER": "user",
    "functions": "function",
    "globs": "function",
    "objects": "domain",
}


def verbs() -> list[Verb]:
    """All that tracer.py understands; sub-verbs of `policy` behind it."""
    found = [
        _verb("", tracing_parser(VERSION)),
        _verb("list", list_parser()),
        _verb("ps", ps_parser()),
        _verb("stuck", stuck_parser()),
        _verb("open", open_parser()),
        _verb("top", top_parser()),
        _verb("record", record_parser(VERSION)),
        _verb("log", log_parser()),
        _verb("report", report_parser()),
        _verb("verify", verify_parser()),
        _verb("export", export_parser()),
        _verb("enforce", enforce_parser()),
    ]
    policy = policy_parser()
    found.append(Verb("policy", policy.description or "", (_HELP,), ()))
    for action in policy._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for name, parser in action.choices.items():
                found.append(_verb(f"policy {name}", parser, helps.get(name)))
    return found


_HELP = Word(("-h", "--help"), "show what there is", None)


def _verb(words: str, parser: argparse.ArgumentParser, text: str | None = None) -> Verb:
    options: list[Word] = []
    positions: list[Word] = []
    for action in parser._actions:
        if action.help is argparse.SUPPRESS:
            continue
        if isinstance(action, argparse._HelpAction):
            options.append(_HELP)
        else:
            (options if action.option_strings else positions).append(_word(action))
    text = (text or parser.description or "").partition("\n")[0].rstrip(".")
    return Verb(words, text, tuple(options), tuple(positions))


def _word(action: argparse.Action) -> Word:
    kind = None
    if action.nargs != 0:
        kind = KINDS.get(action.dest, KINDS.get(str(action.metavar), ""))
    return Word(
        tuple(sorted(action.option_strings, key=len)),
        action.help or "",
        kind,
        tuple(map(str, action.choices or ())),
        action.nargs == "?",
        isinstance(action, argparse._AppendAction) or action.nargs == "*",
    )
