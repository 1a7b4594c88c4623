# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each script in its own shell: a line is typed, Tab is pressed, and the shell says what the line
is then.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from enforcer.completions.bash import bash
from enforcer.completions.fish import fish
from enforcer.completions.verbs import verbs
from enforcer.completions.zsh import zsh
from log import VERSION
from probes.verbs.options import tracing_parser

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.unit

START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
# what the line is goes to a file when the last key is pressed
READY = {
    "bash": """PS1=; source ./libvirt-trace.bash
bind -x '"\\C-o": printf %s "$READLINE_LINE" >line; exit'
""",
    "zsh": """PROMPT=; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -d ./dump
shown() { print -rn -- "$BUFFER" >line; exit }; zle -N shown; bindkey '^O' shown
""",
}
LINES = {
    "libvirt-trace ver": "libvirt-trace verify",
    "libvirt-trace log --si": "libvirt-trace log --since",
    "libvirt-trace log --format j": "libvirt-trace log --format json",
    "libvirt-trace --format=x": "libvirt-trace --format=xml",
    "libvirt-trace policy ex": "libvirt-trace policy explain",
    "libvirt-trace enforce --pol": "libvirt-trace enforce --policy",
    "libvirt-trace policy check a.to": "libvirt-trace policy check a.toml",
    "libvirt-trace -f virDomainMigrateSetMaxS": "libvirt-trace -f virDomainMigrateSetMaxSpeed",
    "libvirt-trace list virDomainMigrateSetMaxS": "libvirt-trace list virDomainMigrateSetMaxSpeed",
    "libvirt-trace -w --object web": "libvirt-trace -w --object web17",
}
HOSTILE = "evil$(touch done);touch done;`touch done`"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts and the commands that they ask."""
    folder = tmp_path_factory.mktemp("shells")
    (folder / "libvirt-trace.bash").write_text(bash(verbs()))
    (folder / "_libvirt-trace").write_text(zsh(verbs()))
    (folder / "libvirt-trace.fish").write_text(fish(verbs()))
    (folder / "a.toml").touch()
    tracer = f'#!/bin/sh\nexec {sys.executable} {ROOT}/tracer.py "$@"\n'
    for name, text in {
        "libvirt-trace": tracer,
        "virsh": f"#!/bin/sh\ncat <<'END'\nweb17\n{HOSTILE}\nEND\n",
    }.items():
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return folder


def typed(shell: str, line: str, folder: Path) -> str:
    """The line after Tab."""
    (folder / "line").unlink(missing_ok=True)
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        START[shell],
        cwd=folder,
        env={"PATH": f"{folder}/bin:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(folder)},
        stdin=other,
        stdout=subprocess.DEVNULL if shell == "bash" else other,
        stderr=subprocess.DEVNULL if shell == "bash" else other,
        start_new_session=True,
    )
    os.close(other)
    os.write(terminal, f"{READY[shell]}{line}\t\x0f\n".encode())
    try:
        while shell == "zsh" and os.read(terminal, 4096):
            pass
    except OSError:
        pass  # it has ended
    process.wait(60)
    os.close(terminal)
    return (folder / "line").read_text()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("line", LINES)
def test_tab_completes(shell: str, line: str, folder: Path) -> None:
    # behind what is complete there is a space, or what goes before a value
    assert typed(shell, line, folder).rstrip(" =") == LINES[line]


@pytest.mark.parametrize("line", LINES)
def test_fish_completes(line: str, folder: Path) -> None:
    shown = subprocess.run(
        ["fish", "-N", "-c", f"source libvirt-trace.fish; complete -C '{line}'"],
        cwd=folder,
        env={"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    words = {row.partition("\t")[0] for row in shown.stdout.splitlines()}
    assert words & {LINES[line].rpartition(" ")[2], LINES[line].rpartition("=")[2]}, shown


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_name_is_never_run(shell: str, folder: Path) -> None:
    line = typed(shell, "libvirt-trace --object ev", folder)
    assert line.startswith("libvirt-trace --object evil\\$\\(touch\\ done")
    subprocess.run(["bash", "-c", line.replace("libvirt-trace", ":", 1)], cwd=folder, check=True)
    assert not (folder / "done").exists()


def test_every_verb_is_known() -> None:
    usage = tracing_parser(VERSION).format_usage()
    shown = set(re.findall(r"libvirt-trace ([a-z]+)", usage))
    assert {verb.words.partition(" ")[0] for verb in verbs()} == shown | {""}
