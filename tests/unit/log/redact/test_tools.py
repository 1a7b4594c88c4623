# SPDX-License-Identifier: LGPL-2.1-or-later
"""A marked word in every option and position of every program of libvirt-clients and virtinst
is seen where this says, nowhere else.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest

from log.redact.cmdline import commands, redact_cmdline
from log.redact.marker import REDACTED
from tests.needs import lack

MARK = "Xq7markedZ"
# a secret with more around it, which no name, path or word has
DISGUISES: tuple[str, ...] = (
    f"<a b='{MARK}'/>",
    f'{{"x":"{MARK}"}}',
    f"set_password vnc {MARK}",
    f"a'{MARK}",
    f"x;{MARK}",
    f"qemu+tcp://u:{MARK}@h/system",
    f"u:{MARK}\x01",
)
DISGUISES = (
    *DISGUISES,
    f"vnc,password={MARK}",
    f"a;b={MARK}",
    f"{MARK} 'x",
    f"--{MARK}",
    f"-{MARK}",
    f"--password={MARK}",
    f"$({MARK})",
)

# options and positions of virsh's and virt-admin's commands whose value is seen, as they were
# reviewed; all are names of objects, devices, files, formats or modes, or numbers with a unit, and
# none has a secret for its value
SEEN = frozenset(
    """action algorithm alias allocation arch backing-vol backing-vol-format backupxml base
    binding bridge cache cap capacity checkpointname checkpointxml codeset command
    comp-methods config cpulist dest dev device devname dir disable dname domain driver
    emulator emulatorbin enable event file format from group-name host inputpool interface io
    keycode listen-address mac machine migrate-disks mode model mountpoint name network
    new-name newname nodeset nwfilter path persistent-xml pid pool port script secret
    secrethdr section server signame snapshotname source source-dev source-format source-host
    source-host-name source-host-transport source-mode source-path source-protocol-ver
    sourcetype srcSpec state subdriver target targetbus tls-destination top type vcpulist
    virttype vol wwn xml xmlfile""".split()  # noqa: SIM905
)
# commands in which even such a value may be what was meant for another place
STRICT = {"set-user-password": {"domain"}, "secret-set-value": {"file"}}
GOOD = {
    "name": "web1",
    "word": "word",
    "path": "/x",
    "xml": "/x",
    "uuid": "6695eb01-f6a4-8304-79aa-97f2502e193f",
    "number": "1",
    "uri": "test:///default",
}


def good(kind: str) -> str:
    return GOOD.get(kind.rstrip("!."), "x")


def lines(shell: str, name: str, value: str):
    """Command lines with the value at each option and position of the command, by the option."""
    options = commands()[shell][name]
    needed = [option for option, kind in options.items() if kind.endswith("!")]
    for option, kind in options.items():
        if not kind:
            continue
        others = [
            word
            for other in needed
            if other != option
            for word in (f"--{other}", good(options[other]))
        ]
        if option:
            yield option, [shell, name, *others, f"--{option}", value]
            yield option, [shell, name, f"--{option}={value}", *others]
            yield option, [shell, "-c", "test:///default", name, *others, f"--{option}", value]
        if kind.endswith("!"):
            yield (
                option,
                [
                    shell,
                    name,
                    *(value if each == option else good(options[each]) for each in needed),
                ],
            )
        # one too many
        yield option, [shell, name, *(good(options[each]) for each in needed), value]
        yield option, [shell, name, value]  # nothing else


@pytest.mark.parametrize("shell", ["virsh", "virt-admin"])
def test_a_marked_word_in_every_option_of_every_command(shell):
    seen: dict[str, set[str]] = {}
    for name in commands()[shell]:
        for option, words in lines(shell, name, MARK):
            if (
                MARK in " ".join(redact_cmdline(words))
                and words[-1] == MARK
                and f"--{option}" in words[-2]
            ):
                seen.setdefault(option, set()).add(name)
            if MARK in " ".join(redact_cmdline(words)):
                assert option in SEEN or words[-1] == MARK, words
            assert (
                name not in STRICT
                or MARK not in " ".join(redact_cmdline(words))
                or words[-1] == MARK
                or option in STRICT[name]
            ), words
    assert set(seen) <= SEEN, set(seen) - SEEN
    for name, allowed in STRICT.items():
        assert {option for option, names in seen.items() if name in names} <= allowed


@pytest.mark.parametrize("shell", ["virsh", "virt-admin"])
def test_no_other_text_is_seen_anywhere(shell):
    for name in commands()[shell]:
        for disguise in DISGUISES:
            for _, words in lines(shell, name, disguise):
                assert MARK not in " ".join(redact_cmdline(words)), words
                assert MARK not in " ".join(redact_cmdline([words[0], shlex.join(words[1:])])), (
                    words
                )


def test_the_list_of_what_is_seen_is_not_longer_than_needed():
    known = {
        option for shell in commands().values() for options in shell.values() for option in options
    }
    assert known >= SEEN


# of the other programs: options whose value is seen
TOOLS = {
    "virt-install": "--name -n --cdrom -l --location --initrd-inject --os-variant --osinfo "
    "--reinstall --arch --machine"
    " --virt-type --autoconsole"
    " --disk --filesystem --print-xml --prompt",
    "virt-clone": (
        "--original -o --name -n --file -f --nvram --original-xml --mac -m --skip-copy --force-copy"
    ),
    "virt-xml": "--os-variant --osinfo --edit --disk --filesystem --print-xml --domain",
    "virt-host-validate": "",
    "virt-pki-validate": "",
    "virt-xml-validate": "",
    "virt-viewer": "-H --hotkeys -K --keymap -C --cursor --kiosk-quit",
    "virt-qemu-run": "-r --root",
    "virt-login-shell": "",
    "virt-pki-query-dn": "",
}


def options_of(tool: str) -> set[str]:
    if not shutil.which(tool):
        if tool in ("virt-viewer", "virt-login-shell", "virt-qemu-run", "virt-pki-query-dn"):
            return {"--connect", "--root", "--cmd", "--password", "-c", "-s", "-r"}
        lack("unit", f"{tool} is not installed")
    text = subprocess.run(
        [tool, "--help"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stdout
    return set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", text)) | {"-p", "-s", "-x", "--password"}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_marked_word_in_every_option_of_a_program(tool):
    allowed = set(TOOLS[tool].split())
    for option in options_of(tool):
        for value in (MARK, *DISGUISES):
            for words in (
                [tool, option, value],
                [tool, f"{option}={value}"],
                [tool, f"{option}{value}"],
                ["python3", f"/usr/bin/{tool}", option, value],
            ):
                shown = redact_cmdline(words)
                assert (
                    MARK not in " ".join(shown)
                    or (option in allowed and value == MARK)
                    or is_position(tool, words)
                ), (words, shown)


def is_position(tool: str, words: list[str]) -> bool:
    """Whether the value is read as a name or file that the program works on, as the option
    before it takes none.
    """
    return (
        tool
        in ("virt-xml", "virt-viewer", "virt-qemu-run", "virt-xml-validate", "virt-host-validate")
        and words[-1] == MARK
    )


@pytest.mark.parametrize(
    "option",
    [
        "--graphics",
        "--disk",
        "--network",
        "--boot",
        "--tpm",
        "--channel",
        "--filesystem",
        "--sysinfo",
        "--cloud-init",
    ],
)
@pytest.mark.parametrize(
    "part",
    [
        "{}",
        "password={}",
        "vnc,password={}",
        "vnc,passwd={}",
        "x,{}",
        "type=vnc,password={},port=1",
        "password=a,,{}",
        "p={}",
    ],
)
def test_a_marked_part_of_an_option_of_virt_install(option, part):
    for value in (
        MARK,
        f"{MARK} x",
        f"a,{MARK}",
        f"a,,{MARK}",
        f"a;{MARK}",
        f"'{MARK}'",
        f'"{MARK}"',
        f"a&{MARK}",
    ):
        for words in (
            ["virt-install", option, part.format(value)],
            ["virt-xml", "web1", "--edit", f"{option}={part.format(value)}"],
        ):
            shown = redact_cmdline(words)
            is_path = option in ("--disk", "--filesystem") and (part, value) in (
                ("{}", MARK),
                ("{}", f"{MARK} x"),
            )
            assert MARK not in " ".join(shown) or is_path, (words, shown)


@pytest.mark.parametrize(
    "program",
    [
        "tool",
        "./tool",
        "sudo",
        "ssh",
        "env",
        "sh",
        "bash",
        "python3",
        "perl",
        "curl",
        "sshpass",
        "virt-v2v",
        "qemu-system-x86_64",
    ],
)
def test_of_an_unknown_program_no_value_is_seen(program):
    for value in (MARK, *DISGUISES):
        for words in (
            [program, "-c", value],
            [program, "-p", value],
            [program, f"-p{value}"],
            [program, "--password", value],
            [program, "--", value],
        ):
            shown = redact_cmdline(words)
            assert MARK not in " ".join(shown), (words, shown)
            assert REDACTED in " ".join(shown)
