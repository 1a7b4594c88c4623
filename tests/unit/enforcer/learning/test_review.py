# SPDX-License-Identifier: LGPL-2.1-or-later
"""`policy review`: one question at a time about what no rule is about, in a real terminal; what
else is in the policy stays as it is.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from enforcer import commands
from enforcer.learning.learn import LAST_RULE
from enforcer.policy.reading.reading import read_policy
from tests.needs import PATIENCE
from tests.recorded import TRACER
from tests.unit.enforcer.learning.test_learn import allows
from tests.unit.log_samples import NS, START
from tests.unit.rehearsal_samples import TABLE, client, lines_file, on, rule, served

HEAD = "# kept: é  \nmode = 'audit' # too\n\n"
KEEP = rule("db", action="allow", function=["virDomainReset"], object=["db"]) + "# of db\n\n"
CASES = "[[test]]\nfunction = 'virDomainReset'\nobject = 'x'\nexpect = 'allow'\n"
ALL = f"# all else\n[[rule]]\nname = '{LAST_RULE}'\naction = 'deny'\nclass = 'write'\n"
SUSPEND = served(0, "virDomainSuspend", args=on("web1"))
EVENTS = [
    *(SUSPEND._replace(time=START + n * NS) for n in range(3)),
    *(served(n, "virDomainReset", args=on("web2")) for n in (4, 5)),
    served(6, "virDomainReset", args=on("db")),
    served(7, "virDomainResume", client=client("ann", 1001)),
    served(8, "virDomainReboot", failed=True, ret=-1),
]


@pytest.fixture
def calls(tmp_path) -> Path:
    return lines_file(tmp_path / "calls", EVENTS)


def review(tmp_path: Path, text: str, calls: Path, answers: bytes) -> tuple[str, str]:
    """The policy afterwards, and what the terminal has shown."""
    (tmp_path / "p.toml").write_text(text)
    (tmp_path / "p.toml").chmod(0o640)
    ours, theirs = pty.openpty()
    words = [*TRACER, "policy", "review", str(tmp_path / "p.toml"), str(calls)]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    shown, left = b"", answers
    try:
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            shown += data
            if shown.endswith(b"? ") and left:
                os.write(ours, left[:1] + b"\n" if left[:1] != b"\4" else b"\4")
                left = left[1:]
        assert process.wait(30 * PATIENCE) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return (tmp_path / "p.toml").read_text(), shown.decode().replace("\r\n", "\n")


def test_each_answer_becomes_a_rule_and_the_rest_stays(tmp_path, calls):
    text, shown = review(tmp_path, HEAD + KEEP + ALL + CASES, calls, b"xags")
    assert '1/3 1000: virDomainSuspend on "web1": 3 calls on 1 day by virsh' in shown
    assert "a allow this, d deny this, g allow web*, u allow this user on any object" in shown
    assert "a, d, g, u, s, f? " in shown and "p.toml: 2 rules more" in shown
    added = text.removeprefix(HEAD + KEEP).removesuffix(ALL + CASES)
    assert text == HEAD + KEEP + added + ALL + CASES and added.count("[[rule]]") == 2
    assert (tmp_path / "p.toml").stat().st_mode & 0o777 == 0o640
    assert allows(text, SUSPEND) and not allows(text, SUSPEND._replace(args=on("web3")))
    assert allows(text, served(0, "virDomainReset", args=on("web77")))
    assert not allows(text, EVENTS[6])
    assert [one.name for one in read_policy(text, "p", TABLE).rules] == [
        "db", "reviewed 1", "reviewed 2", LAST_RULE,
    ]  # fmt: skip


def test_an_answer_may_be_about_what_comes_later_too(tmp_path, calls):
    more = [served(n, "virDomainSuspend", args=on("web8")) for n in (20, 21)]
    lines_file(calls, [*EVENTS, *more])
    text, shown = review(tmp_path, HEAD, calls, b"uf")
    assert 'on "web8"' not in shown and "1 rule more" in shown
    assert text.startswith(HEAD) and 'user = ["1000"]\n' in text and "object" not in text


def test_a_denial_and_the_end_of_input(tmp_path, calls):
    text, shown = review(tmp_path, KEEP, calls, b"d\4")
    assert not allows(text, SUSPEND) and text.startswith(KEEP) and "1 rule more" in shown
    assert review(tmp_path, KEEP, calls, b"\4")[0] == KEEP


def test_what_destroys_is_not_offered_for_more_than_was_done(tmp_path, calls):
    lines_file(calls, [served(0)])
    text, shown = review(tmp_path, "", calls, b"gua")
    assert "a allow this, d deny this, s skip, f finish? " in shown
    assert 'object = ["web1"]' in text


def test_an_interrupt_changes_nothing(tmp_path, calls, monkeypatch, capsys):
    def interrupted(question: str) -> str:
        raise KeyboardInterrupt

    (tmp_path / "p.toml").write_text(KEEP)
    monkeypatch.setattr("builtins.input", interrupted)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    before: Any = signal.getsignal(signal.SIGINT)
    assert commands.run_policy(["review", str(tmp_path / "p.toml"), str(calls)]) == 1
    assert "nothing was changed" in capsys.readouterr().err
    assert (tmp_path / "p.toml").read_text() == KEEP and signal.getsignal(signal.SIGINT) == before


def test_without_a_terminal_it_is_listed(tmp_path, calls, capsys):
    (tmp_path / "p.toml").write_text(KEEP)
    assert commands.run_policy(["review", str(tmp_path / "p.toml"), str(calls)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", 20")[0] for line in lines] == [
        '1000: virDomainSuspend on "web1": 3 calls on 1 day by virsh',
        '1000: virDomainReset on "web2": 2 calls on 1 day by virsh',
        '1001: virDomainResume on "web1": 1 call on 1 day by virsh',
    ]
    assert (tmp_path / "p.toml").read_text() == KEEP


def test_when_there_is_nothing_to_ask_it_says_so(tmp_path, calls, capsys):
    (tmp_path / "p.toml").write_text(rule("all", function=["virDomain*"], class_="write"))
    assert commands.run_policy(["review", str(tmp_path / "p.toml"), str(calls)]) == 0
    said = capsys.readouterr()
    assert said.out == "" and "there is a rule for all that was recorded" in said.err
