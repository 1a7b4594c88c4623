# SPDX-License-Identifier: LGPL-2.1-or-later
"""Secrets on command lines and in URIs: where they stand, they are hidden; what is none stays."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.redact import redact_cmdline, redact_uri

SECRET = "s3cr3t!"

HIDDEN = {
    "option": ["tool", "--password", SECRET, "next"],
    "option with an equals sign": ["tool", f"--password={SECRET}", "next"],
    "option that begins like another": ["tool", "--password", "--s3cr3t!"],
    "passwd": ["tool", "--passwd", SECRET],
    "camel case": ["tool", "--adminPassword", SECRET, f"userPassword={SECRET}"],
    "passphrase": ["tool", "--key-passphrase", SECRET],
    "single dash": ["tool", "-password", SECRET],
    "set-user-password": ["virsh", "set-user-password", "web1", "root", SECRET, "--encrypted"],
    "set-user-password with the flag first": ["virsh", "set-user-password", "--encrypted", "web1", "root", SECRET],
    "set-user-password with options": ["virsh", "set-user-password", "--domain", "web1", "--user", "root", "--password", SECRET],
    "set-user-password half and half": ["virsh", "set-user-password", "--user", "root", "web1", SECRET],
    "set-user-password with equals signs": ["virsh", "set-user-password", "--domain=web1", "--user=root", SECRET],
    "set-user-password through sudo": ["sudo", "virsh", "-c", "qemu:///system", "set-user-password", "web1", "root", SECRET],
    "secret-set-value": ["virsh", "secret-set-value", "5bd4", SECRET],
    "secret-set-value --base64": ["virsh", "secret-set-value", "5bd4", "--base64", SECRET],
    "secret-set-value --base64 first": ["virsh", "secret-set-value", "--base64", SECRET, "5bd4"],
    "secret-set-value --base64=": ["virsh", "secret-set-value", "--secret=5bd4", f"--base64={SECRET}"],
    "secret-set-value --secret": ["virsh", "secret-set-value", "--secret", "5bd4", SECRET],
    "uri": ["virsh", "-c", f"qemu+tcp://admin:{SECRET}@host/system", "list"],
    "uri with at signs in the password": ["virsh", "-c", f"qemu+tcp://admin:a@b@{SECRET}@host/system", "list"],
    "uri in an option": ["virsh", f"--connect=esx://root:{SECRET}@host/?no_verify=1", "list"],
    "uri without a user": ["virsh", "-c", f"qemu+tcp://:{SECRET}@host/system"],
    "migration uri": ["virsh", "migrate", "web1", f"qemu+ssh://root:{SECRET}@host/system", f"tcp://u:{SECRET}@h:1"],
    "graphics": ["virt-install", "--graphics", f"vnc,password={SECRET},port=5901"],
    "graphics passwd": ["virt-install", "--graphics", f"spice,passwd={SECRET}"],
    "xml": ["virsh", "attach-device", f"<graphics type='vnc' passwd='{SECRET} x'/>"],
    "xml element": ["tool", f"<password>{SECRET}</password>"],
    "environment": ["sh", "-c", f"LIBVIRT_PASSWORD={SECRET} virsh list"],
    "bash -c": ["bash", "-c", f"virsh set-user-password web1 root '{SECRET}' && echo done"],
    "bash -c with blanks in the password": ["bash", "-c", f'virsh set-user-password web1 root "{SECRET} x" && echo done'],
    "bash -c inside ssh": ["ssh", "host", f"sudo sh -c 'virsh set-user-password web1 root {SECRET}'"],
    "virsh commands": ["virsh", f"connect test:///default; set-user-password web1 root {SECRET}"],
    "virsh commands without blanks": ["virsh", f"connect test:///default;set-user-password web1 root {SECRET};list"],
    "second command": ["virsh", f"set-user-password a b {SECRET}; set-user-password c d {SECRET}"],
    "unfinished quote": ["bash", "-c", f"virsh set-user-password web1 root '{SECRET}"],
    "password option in a string": ["bash", "-c", f"tool --password {SECRET}"],
    "monitor": ["virsh", "qemu-monitor-command", "web1", "--hmp", f"set_password vnc {SECRET}"],
    "monitor change": ["virsh", "qemu-monitor-command", "web1", "--hmp", f"change vnc password {SECRET}"],
    "monitor json": [
        "virsh",
        "qemu-monitor-command",
        "web1",
        f'{{"execute": "set_password", "arguments": {{"protocol": "vnc", "password": "{SECRET}"}}}}',
    ],
    "agent": [
        "virsh",
        "qemu-agent-command",
        "web1",
        f'{{"execute":"guest-set-user-password","arguments":{{"username":"root","password":"{SECRET}"}}}}',
    ],
    "agent in bash": ["bash", "-c", f'virsh qemu-agent-command web1 \'{{"arguments":{{"password":"{SECRET}"}}}}\''],
    "agent in bash with escapes": ["bash", "-c", f'virsh qemu-agent-command web1 "{{\\"arguments\\":{{\\"password\\":\\"{SECRET}\\"}}}}"'],
    "qemu secret": ["qemu", "-object", f"secret,id=sec0,data={SECRET}"],
    "qemu secret in json": ["qemu", "-object", f'{{"qom-type":"secret","id":"sec0","data":"{SECRET}","format":"raw"}}'],
    "virt-customize": ["virt-customize", "-d", "web1", "--root-password", f"password:{SECRET}"],
    "virt-customize user": ["virt-customize", "-d", "web1", "--password", f"alice:password:{SECRET}"],
    "virt-customize subscription": ["virt-customize", "--sm-credentials", f"alice:password:{SECRET}"],
    "virt-cat key": ["virt-cat", "--key", f"/dev/sda2:key:{SECRET}", "-d", "web1", "/etc/passwd"],
}


@pytest.mark.parametrize("words", HIDDEN.values(), ids=HIDDEN.keys())
def test_secret_is_hidden(words):
    shown = redact_cmdline(words)
    assert "s3cr3t" not in "\0".join(shown)
    assert "<redacted>" in "\0".join(shown)
    assert len(shown) == len(words)


KEPT = [
    ["virsh", "list", "--all"],
    ["virsh", "-c", "qemu+ssh://root@host/system", "list"],
    ["virsh", "-c", "qemu+tcp://host:16509/system?keyfile=/a@b", "list"],
    ["virsh", "secret-set-value", "5bd4", "--file", "/root/value", "--plain"],
    ["virsh", "secret-get-value", "--secret", "5bd4"],
    ["virsh", "domdisplay", "web1", "--include-password"],
    ["virt-install", "--cloud-init", "root-password-file=/root/pw,ssh-key=/root/k"],
    ["virt-cat", "-d", "web1", "/etc/passwd"],
    ["python3", "-c", "import libvirt\nconn = libvirt.open('qemu:///system')\nprint([d.name() for d in conn.listAllDomains()])"],
    ["bash", "-c", "virsh 'list' --all;  echo \"a  b\" | grep -v 'passwd'"],
    ["virsh", "compass=north", "bypass=1"],
    [],
    [""],
]


@pytest.mark.parametrize("words", KEPT, ids=lambda words: " ".join(words)[:40])
def test_everything_else_stays(words):
    assert redact_cmdline(words) == tuple(words)


def test_only_the_secret_is_hidden():
    assert redact_cmdline(["virsh", "-c", "qemu+tcp://a:b@h/system", "set-user-password", "web1", "root", "x", "--encrypted"]) == (
        "virsh", "-c", "qemu+tcp://a:<redacted>@h/system", "set-user-password", "web1", "root", "<redacted>", "--encrypted",
    )  # fmt: skip
    assert redact_cmdline(["virt-install", "--graphics", "vnc,password=x,port=5901"])[2] == "vnc,password=<redacted>,port=5901"
    line = "connect test:///default; set-user-password  web1 'root' 'x y'; list"
    assert redact_cmdline(["virsh", line]) == ("virsh", "connect test:///default; set-user-password  web1 'root' <redacted>; list")
    assert redact_cmdline(["x", "<graphics type='vnc' passwd='p q' port='1'/>"])[1] == "<graphics type='vnc' passwd='<redacted>' port='1'/>"


def test_password_option_in_a_second_shell_is_hidden_once():
    assert redact_cmdline(["sh", "-c", "a --password b c; d e"]) == ("sh", "-c", "a --password <redacted> c; d e")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu+ssh://root@host/system", "qemu+ssh://root@host/system"),
        ("qemu+tcp://u:p@host:1/system?x=y", "qemu+tcp://u:<redacted>@host:1/system?x=y"),
        ("vpx://DOM%5Cu:p%40q@vc/dc/esx", "vpx://DOM%5Cu:<redacted>@vc/dc/esx"),
        ("http://host/?password=abc&x=1", "http://host/?password=<redacted>&x=1"),
        ("tcp://[::1]:49152", "tcp://[::1]:49152"),
    ],
)
def test_uri(uri, shown):
    assert redact_uri(uri) == shown


@given(st.lists(st.text(alphabet="ab-='\"\\;&| \n<>:/@pasword", max_size=60), max_size=6))
def test_any_words_come_back_as_many(words):
    assert len(redact_cmdline(words)) == len(words)
    assert len(redact_cmdline(["virsh", "set-user-password", *words])) == len(words) + 2


@pytest.mark.parametrize(
    "piece",
    [
        "'",
        '"',
        '\\"',
        "password=",
        "password:",
        "://a:",
        "<password ",
        '{"password":"',
        "secret,",
        '"qom-type":"secret"',
        "-p",
        "\\",
        "a",
        "a.",
        "pass",
        "<",
        " ",
    ],
)
def test_long_command_lines_are_quick(piece):
    words = ["bash", "-c", "password " + piece * (16384 // len(piece))]
    started = time.process_time()
    redact_cmdline(words)
    assert time.process_time() - started < 1
