# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's policy: put in force, obeyed beside a user's own, and what it covers marked where
nobody judges it.
"""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.enforced import COMMAND, KEEP_TEST, library
from tests.needs import PATIENCE

# /etc is the host's plus what is written here, for these processes only
START = """
mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" overlay /etc
shift
eval "$1"
"""
VIRSH = "virsh -q -c test:///default"


@pytest.fixture
def run(tmp_path):
    """run(SCRIPT): with `$trace` as the command and two policies in the folder."""
    library()
    (tmp_path / "system.toml").write_text(KEEP_TEST)
    (tmp_path / "loose.toml").write_text(
        '[[rule]]\nname = "all"\naction = "allow"\nfunction = "*"\n'
    )
    (tmp_path / "broken.toml").write_text("[[rule]]\n")

    def start(script: str) -> subprocess.CompletedProcess[str]:
        apply = 'apply="$trace policy apply --no-rehearsal"'
        lines = f'cd {tmp_path}\ntrace="{" ".join(COMMAND)}"\n{apply}\n{script}'
        words = ["unshare", "--mount", "sh", "-eu", "-c", START, "sh", str(tmp_path), lines]
        return subprocess.run(
            words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=180 * PATIENCE
        )

    return start


def test_applied_policy_binds_and_no_environment_loosens_it(run, tmp_path):
    done = run(
        f"$apply system.toml\n$trace enforce -- {VIRSH} suspend test || true\n"
        f"$trace enforce --policy loose.toml -- {VIRSH} suspend test || true\n"
        f"$apply broken.toml || true\n$trace enforce -- {VIRSH} suspend test || "
        "true\nls /etc/libvirt-trace"
    )
    denied = (
        "error: Failed to suspend domain 'test'\nerror: access denied: ask the on-call engineer\n"
    )
    # on the whole host
    obeyed = re.compile(
        "(?<=; )(no process is enforced yet: .*|[0-9]+ process(es obey| obeys) it)$", re.M
    )
    assert obeyed.sub("OBEYED", done.stderr) == (
        (
            f"libvirt-trace: {tmp_path}/system.toml is in force as /etc/libvirt-trace/policy.bin: "
            "1 "
            "rule, mode enforce; OBEYED\n"
        )
        + 2 * denied
        + 'libvirt-trace: broken.toml:1: a rule has a name\nlibvirt-trace: broken.toml:1: rule "" '
        "has no action\n"
        'libvirt-trace: broken.toml:1: rule "" says neither function nor class\n' + denied
    )
    assert done.stdout == "policy.bin\npolicy.toml\n"


def test_each_policy_finds_what_its_own_rules_ask_for(run, tmp_path):
    """Rules by UUID have a lookup by name made to see what it finds; the other policy's rules
    go by the name alone.
    """
    (tmp_path / "system.toml").write_text(
        '[[rule]]\nname = "other"\naction = "deny"\nfunction = "virDomainLookupByName"\nobject = '
        '["other"]\n'
    )
    (tmp_path / "own.toml").write_text(
        '[[rule]]\nname = "by-uuid"\naction = "deny"\nfunction = "virDomainLookupByName"\nuuid = '
        '["6695eb01-f6a4-8304-79aa-97f2502e193f"]\n'
    )
    own = f"$trace enforce --policy own.toml -- {VIRSH} domid test || true\n"
    done = run(f"{own}$apply system.toml 2>/dev/null\n{own}")
    assert (done.stdout, done.stderr) == ("", "error: failed to get domain 'test'\n" * 2)


def test_process_without_the_enforcer_is_marked(run):
    done = run(
        "$apply system.toml\n$trace --json -f virDomainSuspend -f virDomainResume -- "
        f"{VIRSH} 'suspend test; resume test'"
    )
    calls = [
        json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"type":"call"')
    ]
    assert [(call["function"], call["verdict"]) for call in calls] == [
        ("virDomainSuspend", {"action": "not enforced", "rule": None}),
        ("virDomainResume", None),
    ]
