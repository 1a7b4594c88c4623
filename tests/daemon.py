# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private libvirtd with QEMU guests: own mount namespace, own socket, nothing of the host's
libvirt is read or changed.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self
from xml.sax.saxutils import escape

from tests import polkit
from tests.needs import PATIENCE

# libvirtd wants its own folders and, whatever qemu.conf says, a user libvirt-qemu: both exist in
# its mount namespace only. Without /run it finds no D-Bus and so neither the host's systemd nor its
# firewall.
START = r"""
for folder in /run /etc/libvirt /var/lib /var/cache /var/log; do
    mkdir -p $folder; mount -t tmpfs -o mode=755 tmpfs $folder
done
cp "$1/qemu.conf" /etc/libvirt
[ ! -d "$1/hooks" ] || cp -r "$1/hooks" /etc/libvirt
{ cat /etc/passwd; echo libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin; } >/run/passwd
{ cat /etc/group; echo libvirt-qemu:x:64055:; } >/run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
[ ! -d "$1/polkit" ] || . "$1/polkit/start"
exec libvirtd --config "$1/libvirtd.conf" --listen
"""
LIBVIRTD_CONF = """
unix_sock_dir = "{folder}"
unix_sock_rw_perms = "0777"
auth_unix_ro = "none"
auth_unix_rw = "{auth}"
host_uuid = "{uuid}"
log_outputs = "3:stderr"
listen_addr = "127.0.0.1"
listen_tcp = 1
auth_tcp = "none"
tcp_port = "{tcp}"
listen_tls = 1
auth_tls = "none"
tls_port = "{tls}"
ca_file = "{folder}/pki/cacert.pem"
cert_file = "{folder}/pki/servercert.pem"
key_file = "{folder}/pki/serverkey.pem"
"""
# a client's certificate names the user
CLIENT_NAME = "O=clients,CN=alice"
CERTIFICATES = r"""
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
signed() {
	key "$1key.pem"
	openssl req -new -key "$1key.pem" -subj "$2" -out request.pem
	printf '%s\n' "$3" 'keyUsage = digitalSignature, keyEncipherment' >extensions
	openssl x509 -req -in request.pem -CA cacert.pem -CAkey cakey.pem -CAcreateserial -days 2 \
		-extfile extensions -out "$1cert.pem"
}
key cakey.pem
openssl req -x509 -new -key cakey.pem -subj /CN=authority -days 2 -out cacert.pem \
	-addext 'basicConstraints = critical, CA:TRUE' -addext 'keyUsage = critical, keyCertSign'
signed server /CN=localhost 'subjectAltName = IP:127.0.0.1, DNS:localhost'
signed client /O=clients/CN=alice 'extendedKeyUsage = clientAuth'
"""
# guests run as root, without what would need virtlogd, cgroups or a security module
QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
"""
DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/></devices>
</domain>
"""


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Guest(NamedTuple):
    """A running domain."""

    name: str
    uuid: str
    pid: int  # of its QEMU process


class Daemon:
    """The libvirtd process; `uri` connects to it from anywhere on the host, as any user."""

    def __init__(
        self,
        env: Mapping[str, str] | None = None,
        auth: str = "none",
        rules: str | None = None,
        settings: str = "",
        hook: str | None = None,
    ) -> None:
        """`env`: more for the daemon's environment; `auth`: how clients on the socket prove who
        they are; `rules`: of a polkit of its own, which it asks who may do what; `settings`: more
        for its configuration; `hook`: a program that it asks about guests.
        """
        self._folder = folder = Path(tempfile.mkdtemp(prefix="libvirtd-"))
        folder.chmod(0o755)  # other users are clients too
        self._log = folder / "log"
        pki = folder / "pki"
        pki.mkdir()
        subprocess.run(["sh", "-eu", "-c", CERTIFICATES], cwd=pki, check=True, capture_output=True)
        tcp, tls = free_ports(2)
        (folder / "libvirtd.conf").write_text(
            LIBVIRTD_CONF.format(folder=folder, auth=auth, tcp=tcp, tls=tls, uuid=uuid.uuid4())
        )
        with (folder / "libvirtd.conf").open("a") as configuration:
            configuration.write(settings)
        if hook is not None:
            (folder / "hooks").mkdir()
            (folder / "hooks" / "qemu").write_text(hook)
            (folder / "hooks" / "qemu").chmod(0o755)
        self.tcp_uri = f"qemu+tcp://127.0.0.1:{tcp}/system"
        self.tls_uri = f"qemu+tls://127.0.0.1:{tls}/system?pkipath={pki}"  # as CLIENT_NAME
        (folder / "qemu.conf").write_text(QEMU_CONF)
        if rules is not None:
            polkit.prepare(folder / "polkit", rules)
            with (folder / "libvirtd.conf").open("a") as configuration:
                configuration.write('access_drivers = [ "none", "polkit" ]\n')
        self.uri = f"qemu:///system?socket={folder}/libvirt-sock"
        # libvirtd tells whoever started it when it accepts connections, the way systemd asks for
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ready.bind(str(folder / "ready"))
        more = {"NOTIFY_SOCKET": str(folder / "ready"), "LC_ALL": "C"}
        self._env = {**os.environ, **(env or {}), **more}
        # each step is an exec: one process, one pid
        self._process = self._start("unshare", "--mount", "sh", "-euc", START, "sh", str(folder))
        self.pid = self._process.pid
        self._namespace = 0  # inode of its mount namespace; 0: not known yet

    def _start(self, *command: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        with self._log.open("a") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                pass_fds=fds,
            )

    def _find_pid(self) -> int:
        """libvirtd's own, however it was started."""
        return self._process.pid

    def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """End libvirtd and start it again, in the same place; its guests go on."""
        with open(f"/proc/{self.pid}/ns/mnt") as namespace:
            self._process.terminate()
            self._process.wait(20 * PATIENCE)
            meanwhile()
            place = f"--mount=/proc/self/fd/{namespace.fileno()}"
            config = str(self._folder / "libvirtd.conf")
            enter = ("nsenter", place, "libvirtd", "--config", config, "--listen")
            self._process = self._start(*enter, fds=(namespace.fileno(),))
        self.pid = self._process.pid
        self.wait_ready()

    def __enter__(self) -> Self:
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What libvirtd has logged: warnings and errors."""
        return self._log.read_text()

    def wait_ready(self, seconds: float = 30) -> None:
        """Return when libvirtd says that it accepts connections."""
        deadline = time.monotonic() + seconds * PATIENCE
        self._ready.settimeout(0.2)
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if b"READY=1" in self._ready.recv(4096):
                    self.pid = self._find_pid()
                    self._namespace = os.stat(f"/proc/{self.pid}/ns/mnt").st_ino
                    return
            except TimeoutError:
                pass
        raise AssertionError(
            f"libvirtd did not get ready (exit status {self._process.poll()}):\n{self.log}"
        )

    def virsh(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `virsh ARGUMENTS` on this daemon, in plain English."""
        result = subprocess.run(
            ["virsh", "--quiet", "-c", self.uri, *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60 * PATIENCE,
            env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "en"},
        )
        if check:
            assert result.returncode == 0, f"virsh {arguments}: {result.stderr}\n{self.log}"
        return result

    def create(self, name: str, text: str | None = None) -> Guest:
        """A new running guest of this name; `text`: its description."""
        description = self._folder / "domain.xml"
        description.write_text(text or DOMAIN.format(name=escape(name)))
        self.virsh("create", str(description))
        uuid = self.virsh("domuuid", name).stdout.strip()
        (pid,) = (
            pid
            for pid in self._members()
            if uuid.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        return Guest(name, uuid, pid)

    def end(self, guest: Guest) -> None:
        """Destroy the guest, if it still runs."""
        self.virsh("destroy", guest.uuid, check=False)

    def ask_polkit(self, rules: str | None) -> None:
        """Questions are answered by these rules from now on; None: not at all."""
        polkit.answer(self._folder / "polkit", rules)
        for pid in self._members():
            if os.readlink(f"/proc/{pid}/exe") == polkit.POLKITD:
                _kill(pid)

    def _members(self) -> Iterator[int]:
        """Pids of the processes in the daemon's mount namespace: it, its guests, its helpers,
        and nothing else.
        """
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.stat(f"/proc/{entry}/ns/mnt").st_ino == self._namespace:
                    yield int(entry)
            except OSError:  # it has ended
                continue

    def stop(self) -> None:
        """End libvirtd, then whatever it left running."""
        self._end_processes()
        self._ready.close()
        shutil.rmtree(self._folder)

    def _end_processes(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20 * PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in self._members():
            _kill(pid)


def _kill(pid: int) -> None:
    """End the process and wait until it has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], 10 * PATIENCE)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
