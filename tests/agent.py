#!/usr/bin/python3 -I
# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU with an agent in the guest, where the guest has none: an emulator for descriptions.

It stands between libvirtd and QEMU's monitor, and says there that the guest has opened the agent's
port; what comes through that it answers itself, commands that a file beside it names not before
that is gone.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

QEMU = "/usr/bin/qemu-system-x86_64"
SILENT = "silent"  # the file
OPENED = {
    "timestamp": {"seconds": 1, "microseconds": 0},
    "event": "VSERPORT_CHANGE",
    "data": {"open": True, "id": "channel0"},
}


def take(arguments: list[str], name: str, instead: str) -> int:
    """The listening socket that libvirtd passes for it, for which QEMU gets something else."""
    for i, word in enumerate(arguments):
        if found := re.match(rf"socket,id={name},fd=([0-9]+),server=on", word):
            arguments[i] = instead
            return int(found[1])
    return -1


def relay(source: socket.socket, sink: socket.socket, *, opens: bool) -> None:
    """Passes on what comes; the guest opens its port when it begins to run."""
    for line in source.makefile("rb"):
        sink.sendall(line)
        if opens and b'"event": "RESUME"' in line:
            sink.sendall(json.dumps(OPENED).encode() + b"\r\n")
    sink.shutdown(socket.SHUT_WR)


def answer(port: socket.socket) -> None:
    """Speaks as an agent does."""
    silent = Path(sys.argv[0]).parent / SILENT
    connection, _ = port.accept()
    for line in connection.makefile("rb"):
        asked = json.loads(line.lstrip(b"\xff"))
        command = asked["execute"]
        while silent.exists() and command in silent.read_text().split():
            time.sleep(0.01)
        value: object = 1 if "fsfreeze" in command or command == "guest-get-time" else {}
        if command.startswith("guest-sync"):
            value = asked["arguments"]["id"]
        mark = b"\xff" if command == "guest-sync-delimited" else b""
        connection.sendall(mark + json.dumps({"return": value}).encode() + b"\n")


def main() -> None:
    """Is QEMU."""
    arguments = sys.argv[1:]
    ours, theirs = socket.socketpair()
    port = take(arguments, "charchannel0", "null,id=charchannel0")
    if port < 0:  # libvirtd asks what this QEMU can do
        os.execv(QEMU, [QEMU, *arguments])
    monitor = take(arguments, "charmonitor", f"socket,id=charmonitor,fd={theirs.fileno()}")
    qemu = subprocess.Popen([QEMU, *arguments], pass_fds=[theirs.fileno()])
    theirs.close()
    signal.signal(signal.SIGTERM, lambda number, frame: qemu.terminate())
    threading.Thread(target=answer, args=[socket.socket(fileno=port)], daemon=True).start()
    libvirtd, _ = socket.socket(fileno=monitor).accept()
    for ends, opens in (((ours, libvirtd), True), ((libvirtd, ours), False)):
        threading.Thread(target=relay, args=ends, kwargs={"opens": opens}, daemon=True).start()
    os._exit(qemu.wait())


if __name__ == "__main__":
    main()
