# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's modular daemons, one process for each driver, and virtproxyd before them."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.daemon import DOMAIN, QEMU_CONF
from tests.enforced import library
from tests.needs import MODULAR, PATIENCE, PYTHON

CONF = """
unix_sock_rw_perms = "0777"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
auth_tcp = "none"
"""
# what each does for others: virtqemud asks the three before it for its clients
NAMES = ("virtsecretd", "virtnetworkd", "virtstoraged", "virtqemud", "virtproxyd")
# without /run they find no D-Bus and so neither the host's systemd nor its firewall; what the proxy
# listens on, TCP too, is handed to it as systemd does
START = 'mount -t tmpfs -o mode=755 tmpfs /run; export LISTEN_PID=$$; exec "$@"'
LISTENS = ("virtproxyd.socket", "virtproxyd-ro.socket", "virtproxyd-tcp.socket")
FIRST_FD = 3  # of those that are handed over


def unix_socket(path: Path) -> socket.socket:
    """It listens; anybody may connect."""
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(path))
    path.chmod(0o777)
    one.listen()
    return one


class Modular:
    """The daemons; they know each other by their compiled-in folders."""

    def __init__(self, policies: Mapping[str, Path]) -> None:
        """`policies`: of daemons that are enforced, the compiled policy."""
        for name in ("run", "var", "etc"):
            shutil.rmtree(MODULAR / name, ignore_errors=True)
        for name in ("run/libvirt", "var/lib/libvirt/images", "var/log/libvirt", "etc/libvirt"):
            (MODULAR / name).mkdir(parents=True)
        (MODULAR / "var" / "run").symlink_to("../run")  # as on any host; clients look there
        self.folder, self.policies = MODULAR / "etc" / "libvirt", policies
        (self.folder / "qemu.conf").write_text(QEMU_CONF)
        for name in NAMES:
            (self.folder / f"{name}.conf").write_text(CONF)
        sockets = MODULAR / "run" / "libvirt"
        self._listening = [
            *(unix_socket(sockets / name) for name in ("libvirt-sock", "libvirt-sock-ro")),
            socket.create_server(("127.0.0.1", 0)),
        ]
        tcp = self._listening[-1].getsockname()[1]
        self.uri = f"qemu:///system?socket={sockets}/virtqemud-sock"
        self.readonly_uri = f"{self.uri}-ro"
        self.proxy_uri = f"qemu:///system?socket={sockets}/libvirt-sock"
        self.network_uri = f"network:///system?socket={sockets}/virtnetworkd-sock"
        self.secret_uri = f"secret:///system?socket={sockets}/virtsecretd-sock"
        self.tcp_uri = f"qemu+tcp://127.0.0.1:{tcp}/system"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Modular:
        try:
            for name in NAMES:
                self._start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pid(self, name: str) -> int:
        """Of the daemon."""
        return self._processes[name].pid

    def log(self, name: str) -> str:
        """What the daemon has said."""
        return (self.folder / f"{name}.log").read_text()

    def _start(self, name: str) -> None:
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind(str(self.folder / f"{name}.ready"))
        env = {**os.environ, "NOTIFY_SOCKET": str(self.folder / f"{name}.ready"), "LC_ALL": "C"}
        if name in self.policies:
            env |= {
                "LD_PRELOAD": str(library()),
                "LIBVIRT_TRACE_POLICY": str(self.policies[name]),
            }
        handed = [one.fileno() for one in self._listening] if name == "virtproxyd" else []
        if handed:
            env |= {"LISTEN_FDS": str(len(handed)), "LISTEN_FDNAMES": ":".join(LISTENS)}
        places = range(FIRST_FD, FIRST_FD + len(handed))

        def hand_over() -> None:
            free = [fcntl.fcntl(fd, fcntl.F_DUPFD, FIRST_FD + len(handed)) for fd in handed]
            for fd, place in zip(free, places, strict=True):
                os.dup2(fd, place)

        with (self.folder / f"{name}.log").open("w") as log:
            self._processes[name] = process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-euc", START, "sh", str(MODULAR / "sbin" / name)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                pass_fds=places,
                preexec_fn=hand_over,
            )
        deadline = time.monotonic() + 30 * PATIENCE
        ready.settimeout(0.2)
        with ready:
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    if b"READY=1" in ready.recv(4096):
                        return
                except TimeoutError:
                    pass
        raise AssertionError(f"{name} did not get ready:\n{self.log(name)}")

    def virsh(
        self, *words: str, uri: str = "", before: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """`virsh WORDS` on virtqemud, or there."""
        return subprocess.run(
            [*before, "virsh", "-q", "-c", uri or self.uri, *words],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60 * PATIENCE,
            env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "en", "HOME": "/nonexistent"},
        )

    def run(self, script: str, *words: str, before: tuple[str, ...] = ()) -> str:
        """What a Python program prints that uses libvirt."""
        return subprocess.check_output(
            [*before, PYTHON, "-c", script, *words],
            text=True,
            timeout=60 * PATIENCE,
            env={**os.environ, "HOME": "/nonexistent"},
        ).strip()

    def describe(self, name: str, devices: str = "") -> Path:
        """The file that a new guest is to be made of."""
        xml = self.folder / f"{name}.xml"
        xml.write_text(DOMAIN.format(name=name).replace("</devices>", f"{devices}</devices>"))
        return xml

    def create(self, name: str) -> subprocess.CompletedProcess[str]:
        """A new running guest."""
        return self.virsh("create", str(self.describe(name)))

    def stop(self) -> None:
        """Guests end with virtqemud's last client."""
        if "virtqemud" in self._processes:
            for name in self.virsh("list", "--name").stdout.split():
                self.virsh("destroy", name)
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(20 * PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        for one in self._listening:
            one.close()


@pytest.fixture(scope="session")
def only_one() -> Iterator[None]:
    """Nobody else here runs them."""
    with (MODULAR / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
