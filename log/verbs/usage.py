# SPDX-License-Identifier: LGPL-2.1-or-later
"""Command lines: words come in; options, or one line that says what is wrong, go out."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from log.render import FORMS

STRING_MAX, STRING_USUAL = 65536, 256  # bytes
FORMS_HELP = "text, json, xml; ocsf, ecs, cef or auditd, for a SIEM"
EXPORTS = "journal, syslog=URL, otlp=URL, prometheus=WHERE"


def in_lines(prog: str) -> argparse.HelpFormatter:
    """Help whose lines stay as they are written."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with where to look. What begins like a negative number, as
    in `--since -2h`, is no option; options are spelled out.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        more.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **more)
        self._negative_number_matcher = re.compile(r"-[0-9]")

    def error(self, message: str) -> NoReturn:
        """Ends with exit status 2."""
        words = message.partition("unrecognized arguments: ")[2]
        # "libvirt-trace virsh list" is what one types first
        hint = (
            " (-- goes before a COMMAND)"
            if words and words[0] != "-" and self.prog == "libvirt-trace"
            else ""
        )
        self.exit(2, f"libvirt-trace: {message}{hint}; see {self.prog} --help\n")


def split_command(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options, and the command behind the first "--"."""
    words = list(arguments)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def add_choice(which: argparse._ArgumentGroup, user: Callable[[str], object]) -> None:
    """Whose calls, of which functions, on what; `user`: what a word behind -u becomes."""
    repeated(which, "-p", "PID", "pids", "only of this process", pid)
    repeated(which, "-u", "USER", "users", "only of this user, name or number", user)
    repeated(which, "-n", "COMM", "comms", "only of processes of this name")
    repeated(which, "-f", "GLOB", "functions", "only these functions; !GLOB leaves out")
    repeated(which, "--object", "GLOB", "objects", "only on objects of this name")


def add_outcomes(which: argparse._ArgumentGroup) -> None:
    """What calls are like, and how they ended."""
    which.add_argument("-w", "--writes", action="store_true", help="only calls that change state")
    which.add_argument(
        "-x", "--failed", action="store_true", help=("only calls that failed or were denied")
    )
    which.add_argument(
        "--slower",
        metavar="MS",
        type=milliseconds,
        help="only calls that took longer (milliseconds)",
    )
    which.add_argument(
        "--nested", action="store_true", help=("also calls that libvirt makes inside another call")
    )


def add_views(how: argparse._ArgumentGroup) -> None:
    """What is shown of calls that caused others, and of all together."""
    how.add_argument(
        "--tree",
        metavar="HOW",
        nargs="?",
        choices=("short", "full"),
        const="short",
        help=(
            "below each call what daemons did for it: short, or full with every question to "
            "monitors"
        ),
    )
    how.add_argument(
        "-c", "--summary", action="store_true", help=("at the end, a table: calls, errors, times")
    )


def add_string(how: argparse._ArgumentGroup, what: str) -> None:
    """How much of a string `what` says."""
    how.add_argument(
        "-s",
        metavar="BYTES",
        dest="string",
        type=string_size,
        default=STRING_USUAL,
        help=f"bytes of a string to {what}",
    )


def add_form(how: argparse._ArgumentGroup, default: str | None, usual: str) -> None:
    """In which form events are written; `usual`: where, if nothing is said."""
    how.add_argument(
        "--format",
        metavar="FORMAT",
        choices=FORMS,
        default=default,
        help=f"{FORMS_HELP} ({usual})",
    )
    how.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help="the same as --format json",
    )


def add_both(how: argparse._ArgumentGroup) -> None:
    """Whether a daemon's calls stand beside the clients' that they are made for."""
    how.add_argument(
        "--both", action="store_true", help="what a daemon does for a call on lines of its own, too"
    )


def add_seconds(
    where: argparse._ActionsContainer,
    text: str,
    default: float | None = None,
    kind: Callable[[str], float] | None = None,
) -> None:
    """How long something takes; `kind`: what a word becomes, if not just any time."""
    where.add_argument(
        "-d",
        metavar="SECONDS",
        dest="seconds",
        type=kind or seconds,
        default=default,
        help=text,
    )


def add_json(where: argparse._ActionsContainer, text: str) -> None:
    """Whether a table is for programs; `text` says how it is then."""
    where.add_argument("--json", action="store_true", help=text)


def add_debug(how: argparse._ActionsContainer) -> None:
    """What tracer.py looks for when a command fails."""
    how.add_argument("--debug", action="store_true", help="show the traceback of a failure")


def add_exports(how: argparse._ArgumentGroup) -> None:
    """Where else events go."""
    repeated(how, "--export", "NAME", "exports", f"send events there, too: {EXPORTS}")
    repeated(how, "--otlp", "URL", "exports", "spans for OpenTelemetry", lambda url: f"otlp={url}")
    repeated(
        how,
        "--metrics",
        "WHERE",
        "exports",
        "numbers for Prometheus: at ADDRESS:PORT, or in FILE.prom",
        lambda where: f"prometheus={where}",
    )


def repeated(
    group: argparse._ArgumentGroup,
    word: str,
    metavar: str,
    dest: str,
    text: str,
    kind: Callable[[str], object] = str,
) -> None:
    """An option that may be given several times."""
    group.add_argument(
        word,
        metavar=metavar,
        dest=dest,
        action="append",
        default=[],
        type=kind,
        help=f"{text} (repeatable)",
    )


def number(text: str, what: str, low: float, high: float) -> float:
    """The number in the text; `what` it is to be, for whoever wrote another thing."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not low <= found <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return found


def whole(text: str, what: str, low: int, high: int) -> int:
    """Likewise, a whole one in decimal digits."""
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return int(text)


def pid(text: str) -> int:
    """A process id."""
    return whole(text, "a process id", 1, 1 << 22)


def string_size(text: str) -> int:
    """Bytes of a string."""
    return whole(text, f"a number of bytes up to {STRING_MAX}", 0, STRING_MAX)


def rows(text: str) -> int:
    """So many rows of a table; 0: all."""
    return whole(text, "a number of rows", 0, 1 << 31)


def seconds(text: str) -> float:
    """A time, in seconds."""
    return number(text, "a time in seconds", 0, 1e9)


def milliseconds(text: str) -> int:
    """A time, in nanoseconds."""
    return int(number(text, "a time in milliseconds", 0, 1e12) * 1e6)
