# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where programs run: a daemon with its clients, of which one side is enforced, and beside it a
daemon without any policy.

The latter is asked only what the model allows, by root: as a call ends there it has to end, and
what there is then is what has to be there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from enforcer.compiled.files import write_whole
from tests.daemon import CLIENT_NAME, Daemon
from tests.enforced import compiled, enforced_environment, library
from tests.model.calls import Call
from tests.model.policies import ASKED
from tests.model.rules import Person
from tests.needs import PATIENCE, PYTHON

ACCESS_DENIED, FROM_ACCESS = 88, 55
FOLDERS = (
    "etc/libvirt/qemu",
    "etc/libvirt/secrets",
    "etc/libvirt/storage",
    "var/lib/libvirt/images",
    "var/lib/libvirt/qemu/snapshot",
)


class User(NamedTuple):
    """Who runs clients."""

    uid: int
    gid: int
    sasl: str
    program: str  # a name for his Python


USERS = (
    User(0, 0, "alice", "python-of-root"),
    User(65534, 65534, "mallory", "client"),
    User(6, 60, "bob", "virsh"),
)
DATABASE = (
    "mech_list: digest-md5\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: "
    "{}/users\n"
)


class Client:
    """A process of a user's; what it is told to do is one question and one answer."""

    def __init__(self, program: Path, script: str, user: User, env: Mapping[str, str]) -> None:
        words = [
            "setpriv",
            f"--reuid={user.uid}",
            f"--regid={user.gid}",
            "--clear-groups",
            str(program),
            script,
        ]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**env, "HOME": "/nonexistent", "PYTHONHOME": "/usr"},
        )
        self.pid = self._process.pid
        self._open: set[str] = set()
        self._read()

    def ask(self, *words: object) -> list[Any]:
        """["done", RESULT], or ["failed", CODE, DOMAIN, MESSAGE]."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> list[Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"the client has ended: exit status {self._process.wait()}"
        answer: list[Any] = json.loads(line)
        return answer

    def open(self, way: str, uri: str, readonly: bool, user: str) -> None:
        """A connection, if there is none yet."""
        if way not in self._open:
            answer = self.ask("open", way, uri, readonly, user)
            assert answer == ["done", None], (way, uri, answer)
            self._open.add(way)

    def close(self) -> None:
        """All connections."""
        self.ask("close")
        self._open.clear()

    def end(self) -> None:
        """The process."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30 * PATIENCE)
        self._process.stdout.close()


class Place:
    """`kind` is "daemon", "sasl" (a daemon whose socket wants SASL) or "client": which side is
    enforced.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ways = ("sasl" if kind == "sasl" else "unix", "ro", "tcp", "tls")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Place:
        with contextlib.ExitStack() as stack:
            self._set_up(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _set_up(self, stack: contextlib.ExitStack) -> None:
        folder = Path(tempfile.mkdtemp(prefix="model-"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        self._policy = folder / "policy.bin"
        write_whole(self._policy, compiled(""))
        # a clone may be below a folder that is closed to other users
        script = str(shutil.copy(Path(__file__).with_name("client.py"), folder))
        preloaded = str(shutil.copy(library(), folder))
        for path in (script, preloaded):
            os.chmod(path, 0o755)
        env = {}
        if self.kind != "client":
            env = {"LD_PRELOAD": preloaded, "LIBVIRT_TRACE_POLICY": str(self._policy)}
        if self.kind == "sasl":
            env["SASL_CONF_PATH"] = str(_passwords(folder))
        self.target = stack.enter_context(
            Daemon(env, auth="sasl" if self.kind == "sasl" else "none")
        )
        self.reference = stack.enter_context(Daemon())
        # any user proves with it that he is the one of the certificate
        (Path(self.target.tls_uri.partition("pkipath=")[2]) / "clientkey.pem").chmod(0o644)
        self.clients = {}
        self.exes = {}
        for user in USERS:
            program = folder / user.program
            shutil.copy2(os.path.realpath(PYTHON), program)
            self.exes[user] = str(program)
            enforced = enforced_environment(self._policy, LD_PRELOAD=preloaded)
            plain = enforced_environment(None, LD_PRELOAD="")
            client = Client(program, script, user, enforced if self.kind == "client" else plain)
            stack.callback(client.end)
            self.clients[user] = client
        self._plain = Client(
            Path(PYTHON), script, USERS[0], enforced_environment(None, LD_PRELOAD="")
        )
        stack.callback(self._plain.end)

    @property
    def judging(self) -> list[str]:
        """Pids of the processes that are enforced."""
        if self.kind != "client":
            return [str(self.target.pid)]
        return [str(client.pid) for client in self.clients.values()]

    def uri(self, way: str) -> str:
        """What a client names the target."""
        return {
            "tcp": self.target.tcp_uri,
            "tls": self.target.tls_uri,
            "ro": _readonly(self.target.uri),
        }.get(way, self.target.uri)

    def person(self, user: User, way: str) -> Person:
        """Who is behind a connection, as far as the enforced side knows."""
        if self.kind == "client":
            return Person(user.uid, user.gid, exe=self.exes[user])
        if way == "tcp":
            return Person()
        if way == "tls":
            return Person(x509=CLIENT_NAME)
        return Person(user.uid, user.gid, user.sasl if way == "sasl" else None, exe=self.exes[user])

    def make(self, call: Call, user: User, way: str) -> list[Any]:
        """How the call ends on the enforced side."""
        client = self.clients[user]
        client.open(way, self.uri(way), self.kind == "client" and way == "ro", user.sasl)
        return client.ask(call.function, way, *call.arguments)

    def make_plainly(self, call: Call, way: str) -> list[Any]:
        """How it ends where there is no policy."""
        way = "ro" if way == "ro" else "unix"
        self._open_plainly(way)
        return self._plain.ask(call.function, way, *call.arguments)

    def _open_plainly(self, way: str) -> None:
        uri = _readonly(self.reference.uri) if way == "ro" else self.reference.uri
        self._plain.open(way, uri, self.kind == "client" and way == "ro", "")

    def world(self) -> dict[str, dict[str, str]]:
        """What there is: kind -> UUID -> name."""
        self._open_plainly("unix")
        answer = self._plain.ask("world", "unix")
        assert answer[0] == "done", answer
        found: dict[str, dict[str, str]] = answer[1]
        return found

    def close_connections(self) -> None:
        """With them goes what a client has said that it is."""
        for client in self.clients.values():
            client.close()

    def put_in_force(self, data: bytes, generation: int | None) -> None:
        """Returns when calls are judged by that policy. `generation`: what its denial of ASKED
        says; None: it has none.
        """
        write_whole(self._policy, data)
        for user, client in self.clients.items():
            client.open("unix", self.uri(self.ways[0]), False, user.sasl)
            deadline = time.monotonic() + 30 * PATIENCE
            while not _is_in_force(client.ask(ASKED, "unix"), generation):
                assert time.monotonic() < deadline, (
                    f"the policy does not come into force: {self.target.log}"
                )
                time.sleep(0.02)
            if self.kind != "client":
                break


def _is_in_force(answer: list[object], generation: int | None) -> bool:
    if generation is None:
        return answer[0] == "done"
    return answer == ["failed", ACCESS_DENIED, FROM_ACCESS, f"access denied: policy {generation}"]


def _readonly(uri: str) -> str:
    return uri.replace("libvirt-sock", "libvirt-sock-ro")


def _passwords(folder: Path) -> Path:
    (folder / "libvirt.conf").write_text(DATABASE.format(folder))
    for user in USERS:
        words = ["saslpasswd2", "-p", "-f", str(folder / "users"), "-a", "libvirt", "-c", user.sasl]
        subprocess.run(words, input=f"secret of {user.sasl}", text=True, check=True)
    return folder


def state(daemon: Daemon) -> dict[str, str]:
    """What the daemon has on its disk, by path: definitions, snapshots, values of secrets,
    volumes and what starts with it.
    """
    return dict(_files(Path(f"/proc/{daemon.pid}/root")))


def _files(root: Path) -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            name = str(path.relative_to(root))
            if path.is_symlink():
                yield name, f"-> {os.readlink(path)}"
            elif path.is_file():
                yield (
                    name,
                    path.read_bytes().decode(errors="backslashreplace")
                    if path.suffix in (".xml", ".base64")
                    else str(path.stat().st_size),
                )
            else:
                yield name, "folder"
