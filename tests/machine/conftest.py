# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Debian 13 of its own: emulated, with its kernel, systemd and AppArmor; nothing that happens in
it is kept.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import free_ports
from tests.needs import MACHINE, PATIENCE, ROOT

# nothing fails at boot because it takes long
UNHURRIED = "systemd.default_timeout_start_sec=3600 systemd.default_device_timeout_sec=3600"
# what guards against processors with faults makes an emulated one several times as slow
FAST = "no_timer_check mitigations=off"
BOOT_SECONDS = 600  # a processor that is emulated by one of two busy ones


class Machine:
    """The running machine; commands run in it as the user alice, who may use sudo."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.console = folder / "console"
        self._process = subprocess.Popen(
            [
                *(
                    "qemu-system-x86_64",
                    "-accel",
                    "tcg",
                    "-cpu",
                    "Nehalem",
                    "-smp",
                    "1",
                    "-m",
                    "2048",
                    "-display",
                    "none",
                ),
                *("-kernel", MACHINE / "vmlinuz", "-initrd", MACHINE / "initrd.img"),
                *("-append", f"root=/dev/vda rw console=ttyS0 {FAST} {UNHURRIED}"),
                *("-drive", f"file={MACHINE}/disk,format=raw,if=virtio,snapshot=on"),
                # it reaches nobody, and is reached from here only
                *(
                    "-nic",
                    f"user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
                ),
                *("-serial", f"file:{self.console}"),
            ],
            stdin=subprocess.DEVNULL,
        )
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "60",
            "ControlMaster": "auto",
            "ControlPath": folder / "ssh",
            "ControlPersist": "yes",
            "LogLevel": "ERROR",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
        }
        flags = [f"-o{name}={value}" for name, value in options.items()]
        self._ssh = [
            "ssh",
            "-T",
            "-i",
            str(MACHINE / "key"),
            "-p",
            str(port),
            *flags,
            "alice@127.0.0.1",
        ]

    def wait_booted(self) -> None:
        """Return when commands can be run, and everything that begins at boot has begun."""
        deadline = time.monotonic() + BOOT_SECONDS * PATIENCE
        while (
            self.run("systemctl is-system-running --wait", check=False).returncode == 255
        ):  # no ssh yet
            assert self._process.poll() is None and time.monotonic() < deadline, (
                self.console.read_text(errors="replace")[-2000:]
            )
            time.sleep(1)  # nothing else tells

    def run(
        self, command: str, check: bool = True, stdin: bytes = b"", seconds: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """The finished shell command; AssertionError if it failed, unless `check` is False."""
        done = subprocess.run(
            [*self._ssh, command], input=stdin, capture_output=True, timeout=seconds * PATIENCE
        )
        result = subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        assert not check or result.returncode == 0, result
        return result

    def reboot(self) -> None:
        """Shut down and boot, as it should be done; the disk stays."""
        boot = self.run("cat /proc/sys/kernel/random/boot_id").stdout
        self.run("sudo systemctl reboot", check=False)
        subprocess.run([*self._ssh, "-O", "exit"], capture_output=True)
        deadline = time.monotonic() + BOOT_SECONDS * PATIENCE
        while self.run("cat /proc/sys/kernel/random/boot_id", check=False).stdout in ("", boot):
            assert time.monotonic() < deadline, self.console.read_text(errors="replace")[-2000:]
            time.sleep(1)  # nothing else tells
        self.wait_booted()

    def copy_checkout(self) -> None:
        """This checkout, as a clone in alice's home: tracked and new files."""
        files = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
        archive = subprocess.run(
            ["tar", "-c", "--null", "-T", "-"],
            cwd=ROOT,
            input=files,
            check=True,
            capture_output=True,
        ).stdout
        self.run("mkdir libvirt-trace && tar -x -C libvirt-trace", stdin=archive)

    def end(self) -> None:
        """Pull the plug."""
        subprocess.run([*self._ssh, "-O", "exit"], capture_output=True)
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The machine, booted."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    try:
        machine.wait_booted()
        yield machine
    finally:
        machine.end()
