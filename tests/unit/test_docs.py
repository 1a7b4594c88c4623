# SPDX-License-Identifier: LGPL-2.1-or-later
"""README, man page and --help agree with the command: every option is described, every example
is one that works.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess

import pytest

from enforcer.options import enforce_parser, policy_parser
from enforcer.policy.reading.reading import KEYS
from log.render import jsonl
from log.verbs.options import export_parser, log_parser, report_parser, verify_parser
from log.verbs.usage import split_command
from probes.verbs.options import record_parser, tracing_parser
from probes.verbs.parsers import list_parser, open_parser, ps_parser, stuck_parser, top_parser
from tests import readme
from tests.enforced import library
from tests.needs import PYTHON, ROOT, lack
from tests.unit.log_samples import ATTACHED, CLOCK, DESTROY, END, LOST, UNATTACHED

MANUAL = ROOT / "tracer.8"
PARSERS = {
    "": tracing_parser("0"),
    "list": list_parser(),
    "ps": ps_parser(),
    "stuck": stuck_parser(),
    "open": open_parser(),
    "top": top_parser(),
    "record": record_parser("0"),
    "log": log_parser(),
    "report": report_parser(),
    "verify": verify_parser(),
    "export": export_parser(),
    "enforce": enforce_parser(),
    "policy": policy_parser(),
}


def options_of(parser: argparse.ArgumentParser) -> dict[str, str | None]:
    """Every spelling of every option, with the name of its argument in lower case."""
    return {
        spelling: action.metavar.lower() if isinstance(action.metavar, str) else None
        for action in parser._actions
        for spelling in action.option_strings
    }


def options_in_manual(section: str = "OPTIONS") -> dict[str, str | None]:
    """The options that the man page has an item for there: `.It Fl o Ar file , Fl -output Ar
    file`.
    """
    found: dict[str, str | None] = {}
    text = MANUAL.read_text().partition(f".Sh {section}\n")[2].partition("\n.Sh ")[0]
    for item in re.findall(r"^\.It (Fl .*)$", text, re.M):
        for spelling in item.split(" , "):
            words = spelling.split()
            assert words[0] == "Fl" and (
                len(words) == 2 or (len(words) == 4 and words[2] == "Ar")
            ), item
            found[f"-{words[1]}"] = words[3] if len(words) == 4 else None
    return found


def example_lines() -> list[str]:
    """Commands from the README, the examples of --help and those of the man page."""
    text = readme.README.read_text()
    inline = re.findall(r"`(?:sudo )?(libvirt-trace [^`]+)`", text)
    shown = [example.command.removeprefix("sudo ") for example in readme.examples()]
    helped = re.findall(r"^  (libvirt-trace(?: .*?)?)(?:  .*)?$", PARSERS[""].epilog or "", re.M)
    manual = re.findall(r"^\.Dl [#$] (libvirt-trace.*)$", MANUAL.read_text(), re.M)
    assert min(map(len, (inline, shown, helped, manual))) > 2
    return [*inline, *shown, *helped, *manual]


def test_manual_describes_every_option_and_no_other():
    assert options_in_manual() == options_of(PARSERS[""])


def test_manual_describes_every_option_of_a_record():
    known = options_of(PARSERS[""])
    special = {
        word: name
        for verb in ("record", "log", "report")
        for word, name in options_of(PARSERS[verb]).items()
        if word not in known
    }
    assert options_in_manual("THE RECORD") == {**special, "--slower": "ms"}
    taken = re.findall(
        r"[\w-]+",
        MANUAL.read_text()
        .partition("Of the options above it takes\n")[2]
        .partition("and these:")[0],
    )
    of_log = {word for word in options_of(PARSERS["log"]) if word in known} - {
        "-h",
        "--help",
        "--debug",
        "--writes",
        "--failed",
        "--summary",
    }
    assert {f"-{word}" for word in taken if word not in ("Fl", "and")} == of_log
    assert set(options_of(PARSERS["verify"])) == {"-h", "--help", "--anchor", "--debug"}


def test_manual_describes_every_option_of_an_export():
    others = options_of(PARSERS["log"])
    special = {
        word: name
        for word, name in options_of(PARSERS["export"]).items()
        if word not in others or word == "--follow"
    }
    assert options_in_manual("EXPORTS") == special


@pytest.mark.parametrize("command", ["list", "ps", "stuck", "open", "top"])
def test_manual_has_the_options_of_a_subcommand(command):
    synopsis = MANUAL.read_text().partition(".Sh SYNOPSIS")[2].partition(".Sh")[0]
    lines = synopsis.partition(f".Cm {command}\n")[2].partition(".Nm")[0]

    shown = {f"-{option}" for option in re.findall(r"^\.Op Fl (\S+)", lines, re.M)}
    assert shown == set(options_of(PARSERS[command])) - {"-h", "--help"}
    for option in map(re.escape, shown):
        assert re.search(
            rf"{command} ((?!libvirt-trace)\S+\s+)*\[{option}[ \]]", PARSERS[""].format_usage()
        )


def test_readme_names_no_option_that_does_not_exist():
    named = re.findall(r"`(--?[a-z][a-z-]*)", readme.README.read_text())

    assert named and set(named) <= {
        word for parser in PARSERS.values() for word in options_of(parser)
    }


def test_manual_describes_every_key_of_a_policy():
    keys = MANUAL.read_text().partition(".Sh POLICIES")[2].partition(".Sh")[0]

    assert set(re.findall(r"^\.It Cm (\w+)", keys, re.M)) == {*KEYS, "mode", "on_error"}


def test_every_way_in_has_a_test():
    """Each row of the manual's list names one that there is, in a folder that `make check` runs."""
    rows = (
        MANUAL.read_text()
        .partition("Ways in, what holds there")[2]
        .partition(".El")[0]
        .split(".It ")[1:]
    )
    folders = ("unit", "preload", "kernel", "system", "modular")
    tests = {name for folder in folders for path in (ROOT / "tests" / folder).rglob("test_*.py")
             for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)}  # fmt: skip
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"^\.Pq Li (\w+)$", row, re.M)
        assert named and set(named) <= tests, row


def test_what_is_promised_has_a_test():
    """Each row of README's table names a file of tests or a target that there is."""
    table = (
        readme.README.read_text().partition("| promised | tested by |\n")[2].partition("\n\n")[0]
    )
    rows = table.splitlines()[1:]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert len(rows) > 8
    for row in rows:
        named = re.findall(r"`make ([a-z-]+)", row)
        files = re.findall(r"`(tests/[^`]+)`", row)
        assert (named or files) and set(named) <= targets, row
        assert all((ROOT / name).is_file() for name in files), row
    how = (ROOT / "PLATFORMS.md").read_text()
    assert set(re.findall(r"^\| `(check-[a-z]+)` \|", how, re.M)) <= targets


@pytest.mark.parametrize("line", example_lines())
def test_example_is_understood(line):
    words = shlex.split(line)[1:]
    command = words.pop(0) if words[:1] and words[0] in PARSERS else ""
    before, _ = split_command(words)
    try:
        PARSERS[command].parse_args(before)
    except SystemExit as end:
        assert end.code == 0, line  # --help


@pytest.mark.parametrize(
    "example",
    [each for each in readme.examples() if not each.needs_root],
    ids=lambda each: each.command,
)
def test_example_without_root_prints_what_the_readme_shows(example, tmp_path):
    library()
    assert readme.run(example, readme.bin_folder(tmp_path)) == example.output


def test_readme_is_short():
    assert len(readme.README.read_text().splitlines()) <= 220


@pytest.mark.parametrize(
    "event",
    [ATTACHED._replace(mapped_ms=1.5), DESTROY, UNATTACHED, CLOCK, LOST, END],
    ids=lambda event: type(event).__name__,
)
def test_every_field_of_an_event_is_in_readme_and_manual(event):
    fields = json.loads(jsonl.line(event))
    contract = (
        readme.README.read_text().partition("## Events as JSON lines")[2].partition("\n## ")[0]
    )
    manual = MANUAL.read_text().partition(".Ss JSON lines")[2].partition(".Ss")[0]
    assert contract and manual
    for name in fields:
        assert re.search(rf"[`\"]{name}[`\"]", contract), name
        assert re.search(rf"(?<!\w){name}(?!\w)", manual), name


def test_manual_renders_without_a_warning():
    if not shutil.which("man"):
        lack("unit", "man is not installed")
    result = subprocess.run(
        ["man", "--warnings=w", "-l", MANUAL],
        capture_output=True,
        text=True,
        env={**os.environ, "MANWIDTH": "80"},
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "libvirt-trace" in result.stdout


def test_help_fits_a_terminal_and_describes_every_option():
    env = {**os.environ, "COLUMNS": "80"}
    text = subprocess.check_output(
        [PYTHON, "-E", "-s", ROOT / "tracer.py", "--help"], text=True, env=env
    )

    lines = text.splitlines()
    assert max(map(len, lines)) < 80
    described = [match.end() for line in lines if (match := re.match(r"  -.*?\S  +(?=\S)", line))]
    assert len(described) == len(PARSERS[""]._actions)
    assert len(set(described)) == 1  # aligned
