# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policies as their authors see them: mistakes with line and nearest right word, what rules
cover, which one decides.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer import commands
from enforcer.compiled import conditions, files, layout
from enforcer.compiled.conditions import covered_names
from enforcer.compiled.files import keep_for_command
from enforcer.compiled.summary import read_summary
from enforcer.compiled.writer import compile_policy, literal_prefix
from enforcer.judging.explain import Supposed, explain
from enforcer.launch.library import table, uncovered_rules
from enforcer.policy.reading.loading import load
from enforcer.policy.reading.reading import KEYS, read_policy
from enforcer.policy.rules import PolicyError, Rule
from log.errors import TraceError
from probes.api.table import ApiTable, Function
from probes.api.undescribed import NO_STUB
from tests.needs import PYTHON, ROOT

TABLE = table()
POLICY = """\
mode = "enforce"

[[rule]]
name = "web-team"
action = "allow"
function = "virDomainDestroy*"
user = ["nobody"]

[[rule]]
name = "keep-web"
action = "deny"
function = ["virDomainDestroy*", "virDomainUndefine*"]
object = ["web*"]
message = "web servers are kept"

[[rule]]
name = "secrets"
action = "deny"
class = "write"
function = "virDomainGet*"
"""

# what is wrong -> the whole message
MISTAKES = {
    "mode = 3": 'p.toml:1: mode is "enforce" or "audit"',
    'mode = "enforcd"': 'p.toml:1: mode is "enforce" or "audit"; did you mean "enforce"?',
    "rules = 1": 'p.toml:1: unknown key "rules"; did you mean "rule"?',
    "rule = 1": "p.toml:1: rules begin with [[rule]]",
    "x = [": "p.toml:1: invalid value",
    '[[rule]]\nname = "a"\naction = "deny"\nfunction = "virDomainDestory"': (
        'p.toml:4: unknown function "virDomainDestory"; did you mean "virDomainDestroy"?'
    ),
    ('[[rule]]\nname = "a"\naction = "deny"\nfunction = [\n "virDomainSuspend",\n '
     '"virFoo*"]'): 'p.toml:6: no function matches "virFoo*"',
    ('[[rule]]\nname = "a"\naction = "deny"\nfunction = '
     '"virDomainFree"'): 'p.toml:4: "virDomainFree" is plumbing, which is never judged',
    '[[rule]]\nname = "a"\naction = "denny"\nclass = "write"': (
        'p.toml:3: action is "deny" or "audit" or "allow"; did you mean "deny"?'
    ),
    '[[rule]]\nname = "a"\nclass = "write"': 'p.toml:1: rule "a" has no action',
    '[[rule]]\nname = "a"\naction = "deny"': 'p.toml:1: rule "a" says neither function nor class',
    '[[rule]]\naction = "deny"\nclass = "write"': "p.toml:1: a rule has a name",
    ('[[rule]]\nname = "a\\u001b[2J"\naction = "deny"\nclass = '
     '"write"'): "p.toml:2: name is a line of at most 200 bytes",
    ('[[rule]]\nname = "a\\u202eb"\naction = "deny"\nclass = '
     '"write"'): "p.toml:2: name is a line of at most 200 bytes",
    (f'[[rule]]\nname = "{"é" * 101}"\naction = "deny"\nclass = '
     '"write"'): "p.toml:2: name is a line of at most 200 bytes",
    f'[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nmessage = "{"é" * 201}"': (
        "p.toml:5: message is a line of at most 400 bytes"
    ),
    ('[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nmessage = '
     '"a\\nb"'): "p.toml:5: message is a line of at most 400 bytes",
    ('[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nuser = '
     f'"{"9" * 5000}"'): f'p.toml:5: no user "{"9" * 5000}" on this host',
    f"x = {'[' * 100_000}": "p.toml:1: what is in it is nested too deeply",
    f"x = {'9' * 5000}": "p.toml:1: a number in it is too long",
    ('[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nobjects = '
     '"x"'): 'p.toml:5: unknown key "objects"; did you mean "object"?',
    ('[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nobject = '
     '[]'): "p.toml:5: object is a list of texts that are not empty",
    '[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nobject = "[é]"': (
        'p.toml:5: in a glob, "[é]" may have plain ASCII characters only'
    ),
    '[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nobject = "x[]é]"': (
        'p.toml:5: in a glob, "[]é]" may have plain ASCII characters only'
    ),
    '[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nuser = ["!sasl:[é]*"]': (
        'p.toml:5: in a glob, "[é]" may have plain ASCII characters only'
    ),
    '[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nuser = ["!rooot"]': (
        'p.toml:5: no user "rooot" on this host; did you mean "root"?'
    ),
    '[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\ngroup = "rooot"': (
        'p.toml:5: no group "rooot" on this host; did you mean "root"?'
    ),
    ('[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nuuid = '
     '"12"'): 'p.toml:5: "12" is no UUID',
    ('[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\nreadonly = '
     '1'): "p.toml:5: readonly is true or false",
    ('[[rule]]\nname = "a"\naction = "deny"\nfunction = "virDomainUndefineFlags"\nflags = { any = '
     '["VIR_DOMAIN_UNDEFINE_NVRM"] }'): (
        'p.toml:5: no function of this rule has the flag "VIR_DOMAIN_UNDEFINE_NVRM"; did you mean '
        '"VIR_DOMAIN_UNDEFINE_NVRAM"?'
    ),
    ('[[rule]]\nname = "a"\naction = "deny"\nfunction = "virDomainUndefineFlags"\nflags = { some = '
     '["x"] }'): (
        'p.toml:5: flags has any, all and none, not "some"'
    ),
    ('[[rule]]\nname = "a"\naction = "deny"\nfunction = "virDomainDefineXML"\ncontains = { xlm = '
     '["<hostdev"] }'): (
        'p.toml:5: no function of this rule has a text "xlm"; did you mean "xml"?'
    ),
    ('[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\n[[rule]]\nname = "a"\naction = '
     '"deny"\nclass = "read"'): (
        'p.toml:5: there is another rule "a"'
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_mistake_is_named_with_its_line(text):
    with pytest.raises(PolicyError) as caught:
        read_policy(text, "p.toml", TABLE)
    assert caught.value.args == (MISTAKES[text],)


WORDS = (
    *(
        "[[rule]]",
        "[rule]",
        "\n",
        "=",
        '"',
        "'",
        "[",
        "]",
        "{ ",
        " }",
        ",",
        ".",
        "#",
        "!",
        "\\",
        "\\u202e",
        "\x1b",
        "é",
        "\ud7ff",
        " ",
    ),
    *(
        "name",
        "action",
        "function",
        "class",
        "object",
        "uuid",
        "user",
        "group",
        "flags",
        "contains",
        "element",
        "message",
        "mode",
    ),
    *(
        "deny",
        "write",
        "virDomain*",
        "virDomainDestroyFlags",
        "any",
        "xml",
        "root",
        "sasl:",
        "1979-05-27",
        "0x",
        "1e9",
        "-",
        "nan",
    ),
)
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=40).map("".join)
VALUES = st.sampled_from(
    [
        '"x"',
        "[]",
        '["x", "!y"]',
        "1",
        "true",
        "{}",
        '{ any = ["x"] }',
        '{ xml = ["x"] }',
        '"root"',
        '"web*"',
        "[[]]",
        '"!"',
    ]
)
ENTRIES = st.lists(
    st.tuples(st.sampled_from([*KEYS, "other"]), VALUES | TEXTS.map(json.dumps))
)  # fmt: skip


@settings(max_examples=300)
@given(
    TEXTS
    | ENTRIES.map(
        lambda pairs: (
            "[[rule]]\n" + "".join((f"{key} = {value}\n") for key, value in dict(pairs).items())
        )
    )
)
def test_whatever_is_in_a_policy_its_mistakes_are_said_in_lines(text):
    try:
        policy = read_policy(text, "p.toml", TABLE)
    except PolicyError as error:
        assert error.args and all(re.match(r"p\.toml:[0-9]+: ", line) for line in error.args)
    else:
        found = read_summary(compile_policy(policy, TABLE, 1))
        assert found is not None and found.origin == "p.toml"


def test_every_mistake_is_named_at_once():
    text = 'mode = 1\n[[rule]]\nname = "a"\naction = "x"\nfunction = "y"\n'
    with pytest.raises(PolicyError) as caught:
        read_policy(text, "p.toml", TABLE)
    assert [line.split(":")[1] for line in caught.value.args] == ["1", "4", "5"]


WARNINGS = {
    '[[rule]]\nname = "a"\naction = "deny"\nfunction = "virDomainSuspend"\nclass = "read"': (
        'p.toml:1: rule "a" never matches: no function is left'
    ),
    '[[rule]]\nname = "a"\naction = "deny"\nfunction = "virNodeSuspendForDuration"\nobject = "x"': (
        'p.toml:1: rule "a" never matches: its functions are about no object'
    ),
    (
        '[[rule]]\nname = "a"\naction = "deny"\nclass = "write"\n\n[[rule]]\nname = "b"\naction = '
        '"allow"\nclass = "write"\nuser = "root"'
    ): ('p.toml:6: rule "b" never matches: rule "a" (line 1) decides before it'),
}


@pytest.mark.parametrize("text", WARNINGS)
def test_rule_that_can_never_match_is_warned_of(text):
    assert read_policy(text, "p.toml", TABLE).warnings == (WARNINGS[text],)


def test_reasonable_policy_has_no_warnings():
    assert read_policy(POLICY, "p.toml", TABLE).warnings == ()


@pytest.mark.parametrize(
    ("question", "first"),
    [
        (
            Supposed("virDomainDestroy", "web1", user="root"),
            'rule "keep-web" (line 9) denies it: web servers are kept',
        ),
        (Supposed("virDomainDestroy", "web1", user="nobody"), 'rule "web-team" (line 3) allows it'),
        (
            Supposed("virDomainDestroy", user="root"),
            'rule "keep-web" (line 9) denies it, since the object can\'t be told: web servers are '
            "kept",
        ),
        (Supposed("virDomainDestroy", "db", user="root"), "no rule matches: it is allowed"),
        (Supposed("virDomainGetXMLDesc", flags=frozenset()), "no rule matches: it is allowed"),
        (
            Supposed("virDomainGetXMLDesc", flags=frozenset({"VIR_DOMAIN_XML_SECURE"})),
            'rule "secrets" (line 16) denies it',
        ),
        (Supposed("virDomainFree"), "virDomainFree is plumbing, which is never judged"),
    ],
)
def test_explanation_begins_with_the_verdict(question, first):
    assert explain(read_policy(POLICY, "p.toml", TABLE), TABLE, question)[0] == first


def test_two_names_of_a_bit_are_the_same_flag():
    text = (
        '[[rule]]\nname = "a"\naction = "deny"\nfunction = "virDomainSetVcpu"\nflags = { %s = '
        '["VIR_DOMAIN_AFFECT_LIVE"] }\n'
    )
    both = frozenset({"VIR_DOMAIN_AFFECT_LIVE", "VIR_DOMAIN_SETVCPU_AFFECT_LIVE"})
    for key, denied in (("any", True), ("all", True), ("none", False)):
        policy = read_policy(text % key, "p.toml", TABLE)
        for flags in (both, *map(frozenset, zip(both))):
            assert (
                " denies it" in explain(policy, TABLE, Supposed("virDomainSetVcpu", flags=flags))[0]
            ) is denied
        assert (
            " denies it"
            in explain(policy, TABLE, Supposed("virDomainSetVcpu", flags=frozenset()))[0]
        ) is not denied


def test_flag_that_the_function_does_not_have_is_a_mistake():
    policy = read_policy(POLICY, "p.toml", TABLE)
    with pytest.raises(
        TraceError,
        match=(
            r'^virDomainGetXMLDesc has no flag "VIR_DOMAIN_XML_SECUR"; did you mean '
            r'"VIR_DOMAIN_XML_SECURE"[?]$'
        ),
    ):
        explain(
            policy,
            TABLE,
            Supposed("virDomainGetXMLDesc", flags=frozenset({"VIR_DOMAIN_XML_SECUR"})),
        )


def test_explanation_says_why_others_do_not_match():
    assert explain(
        read_policy(POLICY, "p.toml", TABLE), TABLE, Supposed("virDomainDestroy", "db", user="root")
    )[1:] == [
        "  rule \"web-team\" (line 3) doesn't match: the user doesn't match",
        '  rule "keep-web" (line 9) doesn\'t match: object is not one of "web*"',
        "  rule \"secrets\" (line 16) doesn't match: it doesn't cover the function",
    ]


def test_functions_of_a_rule():
    policy = read_policy(POLICY, "p.toml", TABLE)
    assert covered_names(policy.rules[1], TABLE) == [
        "virDomainDestroy",
        "virDomainDestroyFlags",
        "virDomainUndefine",
        "virDomainUndefineFlags",
    ]
    # only those that can be a write
    assert (
        "virDomainGetXMLDesc" in policy.rules[2].functions
        and "virDomainGetState" not in policy.rules[2].functions
    )


def test_compiled_policy_tells_what_it_is():
    policy = read_policy(POLICY.replace("enforce", "audit", 1), "/etc/p.toml", TABLE)
    data = compile_policy(policy, TABLE, made=1700000000)
    assert data == compile_policy(policy, TABLE, made=1700000000)
    summary = read_summary(data)
    assert summary and (summary.origin, summary.made, summary.mode, summary.table_hash) == (
        "/etc/p.toml",
        1700000000,
        "audit",
        TABLE.hash,
    )
    names = {name for rule in policy.rules for name in rule.functions}
    assert summary.covered == {TABLE.by_name[name].number for name in names}
    assert (
        read_summary(data[:-1]) is None
        and read_summary(data[:200] + b"x" + data[201:]) is None
        and read_summary(b"") is None
    )


def test_prefix_of_a_glob():
    assert [literal_prefix(glob) for glob in ("web1", "web*", "*", "w?b", "[w]", "Bü*")] == [
        b"web1",
        b"web",
        b"",
        b"w",
        b"",
        "Bü".encode(),
    ]


def test_rules_are_named_that_mean_functions_without_a_stub():
    policy = read_policy(POLICY, "p.toml", TABLE)
    assert uncovered_rules(policy, []) == []
    assert uncovered_rules(policy, ["virNewThing"]) == [
        ('p.toml:16: rule "secrets" can\'t cover virNewThing: such calls are not judged')
    ]
    assert [line.split(":")[1] for line in uncovered_rules(policy, ["virDomainDestroyMore"])] == [
        "3",
        "9",
        "16",
    ]


def test_a_newer_libvirt_refuses_no_policy(tmp_path, monkeypatch, capsys):
    """Its functions can't be covered, which is said; all else is."""
    path = tmp_path / "p.toml"
    path.write_text(POLICY)
    monkeypatch.setattr(commands, "uncovered", lambda known: ("virDomainDestroyMore",))
    assert commands.run_policy(["check", str(path)]) == 0
    said = capsys.readouterr()
    assert said.out.count("  virDomainDestroyFlags\n") == 2
    assert said.err.splitlines() == [
        *(
            (
                f'libvirt-trace: {path}:{line}: rule "{rule}" can\'t cover virDomainDestroyMore: '
                "such "
                "calls are not judged (warning)"
            )
            for line, rule in ((3, "web-team"), (9, "keep-web"), (16, "secrets"))
        ),
        "libvirt-trace: the installed libvirt is newer than libvirt-trace; never judged, by no "
        "rule: virDomainDestroyMore; "
        "update libvirt-trace",
    ]
    assert commands.run_policy(["check", "--ignore-uncovered", str(path)]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_policy_is_read_once(tmp_path, monkeypatch, capsys):
    """What is put in force is what was checked, also where the file changes meanwhile, or is a
    pipe.
    """
    source = tmp_path / "p.toml"
    os.mkfifo(source)
    monkeypatch.setattr(files, "SYSTEM_FOLDER", tmp_path / "etc")
    monkeypatch.setattr(files, "SYSTEM_POLICY", tmp_path / "etc" / "policy.bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    # a reader that comes back finds nothing
    writer = subprocess.Popen(["sh", "-c", 'printf %s "$1" >"$2"; : >"$2"', "sh", POLICY, source])
    try:
        assert commands.run_policy(["apply", "--no-rehearsal", str(source)]) == 0
        assert (tmp_path / "etc" / "policy.toml").read_text() == POLICY
        found = read_summary((tmp_path / "etc" / "policy.bin").read_bytes())
        assert found is not None and found.origin == str(source)
    finally:
        writer.kill()
        writer.wait()
    assert "is in force" in capsys.readouterr().err


def test_ten_thousand_names_are_not_too_many():
    rule = (
        '[[rule]]\nname = "r{0}"\naction = "deny"\nfunction = ["virDomainDestroy*", '
        '"virDomainUndefine*"]\nobject = "web-{0:04d}*"\n'
    )
    policy = read_policy("".join(rule.format(i) for i in range(10_000)), "p.toml", TABLE)
    assert len(compile_policy(policy, TABLE, 1)) <= layout.SIZE_MAX


def test_what_is_too_big_for_the_library_is_refused(tmp_path, monkeypatch):
    with pytest.raises(TraceError, match=r"^/dev/zero is larger than 16 MiB$"):
        load(Path("/dev/zero"), TABLE)
    monkeypatch.setattr("enforcer.compiled.writer.SIZE_MAX", 1000)
    with pytest.raises(
        TraceError,
        match=(
            r"^p[.]toml: compiled, it has [0-9,]+ bytes; the library "
            r"takes 1,000 at most$"
        ),
    ):
        compile_policy(read_policy(POLICY, "p.toml", TABLE), TABLE)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-E", "-s", str(ROOT / "tracer.py"), *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_command_says_what_is_wrong_in_one_line_each(tmp_path):
    missing, bad = tmp_path / "no.toml", tmp_path / "bad.toml"
    bad.write_bytes(b"\xff")
    static = tmp_path / "static"
    subprocess.run(
        ["gcc", "-static", "-x", "c", "-", "-o", static],
        input=b"int main(void) { return 0; }",
        check=True,
    )
    policy = tmp_path / "p.toml"
    policy.write_text(POLICY)
    for words, status, message in (
        (("policy", "check", str(missing)), 1, f"can't read {missing}: No such file or directory"),
        (("policy", "check", str(bad)), 1, f"{bad} is not UTF-8"),
        (
            ("policy", "explain", str(policy), "--function", "virFoo"),
            1,
            'unknown function "virFoo"; did you mean "virInitialize"?',
        ),
        (
            ("enforce", "--policy", str(policy), "--", "nosuch-program"),
            125,
            "can't start nosuch-program: No such file or directory",
        ),
        (
            ("enforce", "--policy", str(policy), "--", str(static)),
            1,
            f"{static} can't be enforced: it is static, so no library is preloaded into it",
        ),
        (
            ("enforce", "--policy", str(policy), "--", "/usr/bin/su"),
            1,
            "/usr/bin/su can't be enforced: it is set-uid or set-gid, and preloading is off for "
            "such programs",
        ),
        (("enforce",), 2, "either -- COMMAND or --service UNIT; see libvirt-trace enforce --help"),
    ):
        done = command(*words)
        if "virFoo" in message:
            assert (
                done.stderr.startswith('libvirt-trace: unknown function "virFoo"')
                and done.stderr.count("\n") == 1
            )
        else:
            assert done.stderr == f"libvirt-trace: {message}\n"
        assert (done.returncode, done.stdout) == (status, "")


def test_check_lists_the_functions_of_each_rule(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(POLICY.rpartition("[[rule]]")[0])
    done = command("policy", "check", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{path}: mode enforce, on_error allow, 2 rules\n"
        'rule "web-team" (line 3): allow, 2 functions\n  virDomainDestroy\n  '
        "virDomainDestroyFlags\n"
        'rule "keep-web" (line 9): deny, 4 functions\n'
        "  virDomainDestroy\n  virDomainDestroyFlags\n  virDomainUndefine\n  "
        "virDomainUndefineFlags\n"
        f'note: {path}:9: rule "keep-web" goes by names, and a domain can be renamed first: deny '
        "virDomainRename, too, or say uuid\n"
        "no mistakes\n"
    )
    path.write_text('[[rule]]\nname = "all"\naction = "deny"\nclass = "write"\n')
    lines = command("policy", "check", str(path)).stdout.splitlines()
    (count,) = re.findall(r'^rule "all" \(line 1\): deny, ([0-9]+) functions$', lines[1])
    assert len(lines) == 9 and lines[-2:] == [
        f"  ... {count} in all; --all lists them",
        "no mistakes",
    ]
    assert len(command("policy", "check", "--all", str(path)).stdout.splitlines()) == int(count) + 3


def test_one_policy_is_one_file_for_commands_whenever_it_was_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("enforcer.compiled.files.RUN_FOLDER", tmp_path / "libvirt-trace")
    policy = read_policy(POLICY, "p.toml", TABLE)
    first = keep_for_command(compile_policy(policy, TABLE, 1000))
    for made in (1001, 2000):
        kept = keep_for_command(compile_policy(policy, TABLE, made))
        assert kept == first and list(kept.parent.iterdir()) == [first]
    damaged = bytearray(first.read_bytes())
    damaged[300] ^= 1
    first.chmod(0o644)
    first.write_bytes(damaged)
    assert keep_for_command(compile_policy(policy, TABLE, 3000)) == first
    found = read_summary(first.read_bytes())
    assert found is not None and found.made == 3000
    other = read_policy(POLICY.replace('"web*"', '"db*"'), "p.toml", TABLE)
    assert keep_for_command(compile_policy(other, TABLE, 1000)) != first


@pytest.mark.parametrize("more", ["", 'flags = { any = ["VIR_DOMAIN_AFFECT_LIVE"] }\n'])
def test_functions_that_are_alike_are_looked_at_together(monkeypatch, more):
    """Or thousands of rules about whatever changes something would take minutes."""
    looked: list[str] = []
    real = conditions.variants_for

    def counted(
        rule: Rule, function: Function, table: ApiTable
    ) -> list[tuple[conditions.Condition, ...]]:
        looked.append(rule.name)
        return real(rule, function, table)

    monkeypatch.setattr(conditions, "variants_for", counted)
    text = "".join(
        (f'[[rule]]\nname = "{i}"\naction = "deny"\nclass = "write"\nobject = "vm{i}"\n{more}')
        for i in range(100)
    )
    policy = read_policy(text, "p.toml", TABLE)
    by_itself = [
        [name for name in rule.functions if real(rule, TABLE.by_name[name], TABLE)]
        for rule in policy.rules[:1]
    ]
    found = read_summary(compile_policy(policy, TABLE, 1))
    assert found is not None and found.covered - {NO_STUB} == {
        TABLE.by_name[name].number for name in by_itself[0]
    }
    assert covered_names(policy.rules[0], TABLE) == by_itself[0]
    assert len(looked) < 100 * len(policy.rules[0].functions) / 2


SOME = [st.none(), st.just("a*"), st.just("b*")]
RULES = st.lists(
    st.builds(
        lambda action, functions, access, objects, exe, flags: {
            "action": action,
            "function": functions,
            **({"class": access} if access else {}),
            **({"object": objects} if objects else {}),
            **({"exe": exe} if exe else {}),
            **({"flags": flags} if flags else {}),
        },
        st.sampled_from(["deny", "allow", "audit"]),
        st.lists(
            st.sampled_from(
                ["virDomainDestroy", "virDomainDestroyFlags", "virDomainUndefineFlags"]
            ),
            min_size=1,
            max_size=2,
        ),
        st.sampled_from([None, "write"]),
        st.one_of(*SOME),
        st.one_of(*SOME),
        st.sampled_from([None, {"any": ["VIR_DOMAIN_DESTROY_GRACEFUL"]}]),
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=100)
@given(RULES)
def test_a_rule_that_an_earlier_one_decides_before_is_named_with_the_first_of_these(entries):
    for entry in entries:  # all have such flags
        entry["function"] = [*entry["function"], "virDomainDestroyFlags"]
    text = "".join(
        (f'[[rule]]\nname = "r{i}"\n')
        + "".join(f"{key} = {_toml(value)}\n" for key, value in entry.items())
        for i, entry in enumerate(entries)
    )
    policy = read_policy(text, "p.toml", TABLE)
    expected = []
    for i, later in enumerate(entries):
        for j, earlier in enumerate(entries[:i]):
            asked = {
                key: value for key, value in earlier.items() if key not in ("action", "function")
            }
            asks_no_more = all(later.get(key) == value for key, value in asked.items())
            is_sure = earlier["action"] == "deny" or later["action"] != "deny" or not asked
            if asks_no_more and is_sure and set(later["function"]) <= set(earlier["function"]):
                expected.append(f'rule "r{i}" never matches: rule "r{j}"')
                break
    assert [warning.split(": ", 1)[1].split(" (line")[0] for warning in policy.warnings] == expected


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def test_the_table_is_read_once_whatever_the_number_of_rules(tmp_path, capsys, monkeypatch):
    read: list[str | bytes] = []
    loads = json.loads

    def counted(data: str | bytes) -> object:
        read.append(data)
        return loads(data)

    monkeypatch.setattr(json, "loads", counted)
    path = tmp_path / "p.toml"
    path.write_text(
        "".join(
            (
                f'[[rule]]\nname = "{i}"\naction = "deny"\nfunction = "virDomainDestroy"\nobject '
                f'= "vm{i}"\n'
            )
            for i in range(300)
        )
    )
    assert commands.run_policy(["check", str(path)]) == 0
    assert capsys.readouterr().out.count("\n  virDomainDestroy\n") == 300
    assert len(read) <= 1
