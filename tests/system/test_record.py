# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records of what a daemon does for its clients: shown later as live, and nothing of it is
missing when reads are counted.
"""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.neighbours import readable
from tests.readme import without_sessions
from tests.recorded import ask, lines_of, run_record


def virsh(libvirtd, work: str) -> tuple[str, ...]:
    """As the COMMAND that is traced; what it prints is not looked at."""
    shell = ("--", "sh", "-c", 'exec "$@" >/dev/null', "sh")
    return (*shell, "virsh", "-q", "-c", libvirtd.uri, work)


@pytest.mark.parametrize(
    "options",
    [(), ("--tree", "full"), ("--both", "-c")],
    ids=lambda options: " ".join(options) or "fold",
)
def test_log_shows_what_a_daemon_did_in_the_same_characters(libvirtd, guest, tmp_path, options):
    folder, file = tmp_path / "record", tmp_path / "file"
    work = f"suspend {guest.name}; resume {guest.name}; dominfo {guest.name}; dumpxml {guest.name}"
    command = virsh(libvirtd, work)
    done = run_record(folder, "--show", "--reads", "full", "-o", file, *options, *command)
    assert " 0 lost in " in done.stderr, done.stderr
    shown = ask("log", folder, "-s", "65536", *options).stdout.decode()
    assert shown == done.stdout and "virDomainSuspend(" in shown
    assert "libvirtd " in shown or options, "the daemon's share of the time"
    lines = ask("log", folder, "-s", "65536", "--json").stdout.decode().splitlines()
    assert [
        line for line in lines if not line.startswith('{"type":"recording"')
    ] == file.read_text().splitlines()


def test_calls_that_caused_a_change_are_written_and_others_counted_once_each(
    libvirtd, guest, tmp_path
):
    folder = tmp_path / "record"
    work = f"suspend {guest.name}; resume {guest.name}; " + f"dominfo {guest.name}; " * 5
    done = run_record(folder, *virsh(libvirtd, work))
    assert " 0 lost in " in done.stderr, done.stderr
    lines = lines_of(folder)
    (end,) = (line for line in lines if line["type"] == "end")
    calls = [line for line in lines if line["type"] == "call"]
    counted = [line for line in lines if line["type"] == "reads"]
    assert len(calls) + sum(line["calls"] for line in counted) == end["calls"]
    ids = {call["id"] for call in calls}
    assert all(call["parent"] in ids for call in calls if call["parent"])
    info = [line for line in counted if line["function"] == "virDomainGetInfo"]
    assert sorted((line["calls"], line.get("caused", False)) for line in info) == [
        (5, False),
        (5, True),
    ]
    writes = ask("log", folder, "-w", "--object", guest.name).stdout.decode().splitlines()
    of_calls = [line for line in writes if "(domain=" in line]
    assert len(of_calls) == 2 and all("libvirtd " in line for line in of_calls), writes
    assert ask("log", folder, "-f", "virDomainGetInfo").stdout.count(b"5 reads until") == 1
    assert ask("verify", folder).stdout.startswith(b"intact: ")
    page, trace = str(tmp_path / "page.html"), str(tmp_path / "trace.json")
    drawn = ask("report", folder, "--object", guest.name, "--html", page, "--perfetto", trace)
    assert drawn.returncode == 0, drawn
    check_page(Path(page).read_text(), guest)
    check_trace(json.loads(Path(trace).read_text())["traceEvents"], guest)


def check_page(page, guest):
    """The guest is paused, then runs; who did it is told."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    shown = json.loads(data)
    (domain,) = shown["domains"]
    assert (domain["name"], domain["uuid"]) == (guest.name, guest.uuid)
    states = [shown["states"][state] for _, _, state in domain["states"]]
    assert (states, domain["counts"]["write"]) == (["paused", "running"], 2)
    changes = ["".join(line[1::2]) for *_, line in shown["changes"]]
    by = ("virDomainSuspend", "virDomainResume")
    assert all(
        f", by {name}, for virsh root" in line for name, line in zip(by, changes, strict=True)
    )


def check_trace(events, guest):
    """Arrows lead from virsh to libvirtd, from there to the monitor and to the domain's state."""
    tracks = {one["pid"]: one["args"]["name"] for one in events if one["name"] == "process_name"}
    assert {"virsh", "libvirtd", f"domain {guest.name}"} <= set(tracks.values())
    slices = [one for one in events if one["ph"] == "X"]
    for command in ("stop", "cont"):
        (told,) = (one for one in slices if one["name"] == command)
        assert tracks[told["pid"]] == f"domain {guest.name}"
    ends: dict[int, dict[str, str]] = collections.defaultdict(dict)
    for one in events:
        if one["ph"] in "sf":
            ends[one["id"]][one["ph"]] = tracks[one["pid"]]
    arrows = collections.Counter((end["s"], end["f"]) for end in ends.values())
    assert arrows["virsh", "libvirtd"] == 2
    assert arrows["libvirtd", f"domain {guest.name}"] >= 4


# nobody's own libvirtd, with drivers that do nothing; then root asks it for something
OWN_DAEMON = """
setpriv --reuid=65534 --regid=65534 --clear-groups \\
    env -i PATH=/usr/bin HOME="$1" XDG_RUNTIME_DIR="$1" \\
    "$1/libvirtd" --config "$1/libvirtd.conf" --timeout 30 2>"$1/log" &
while ! test -S "$1/libvirt-sock"; do kill -0 $!; sleep 0.1; done
virsh -q -c "test+unix:///default?socket=$1/libvirt-sock" suspend test >/dev/null
kill $!
wait
"""


def test_what_a_users_own_daemon_says_of_its_clients_chooses_nothing(tmp_path):
    """Live and recorded: that root has asked it is told, and marked as its word."""
    place = tmp_path / "own"
    place.mkdir()
    readable(place)
    shutil.copy("/usr/sbin/libvirtd", place / "libvirtd")
    (place / "libvirtd.conf").write_text(f'unix_sock_dir = "{place}"\nauth_unix_rw = "none"\n')
    for path in (place, *place.iterdir()):
        os.chown(path, 65534, 65534)
    folder = tmp_path / "record"
    wanted = ("-f", "virDomainSuspend", "--reads", "full")
    done = run_record(folder, *wanted, "--", "sh", "-eu", "-c", OWN_DAEMON, "sh", place)
    assert " 0 lost in " in done.stderr and done.returncode == 0, (
        done,
        (place / "log").read_text(),
    )
    (by_root, by_daemon) = sorted(
        (line for line in lines_of(folder) if line["type"] == "call"), key=lambda line: line["uid"]
    )
    assert (by_root["client"], by_daemon["uid"]) == (None, 65534)
    client = by_daemon["client"]
    assert (client["uid"], client["pid"], client["unproved"]) == (0, by_root["pid"], True)

    def shown(*words: str) -> list[str]:
        lines = without_sessions(ask("log", folder, "--both", *words).stdout.decode()).splitlines()
        return [line for line in lines if " virDomainSuspend(" in line]

    of_daemon = re.compile(r" nobody for [0-9]+ virsh root \(unproved\) ").search
    both = shown()
    (own,) = filter(of_daemon, both)
    for words in (("-u", "root"), ("-p", str(by_root["pid"])), ("-n", "virsh")):
        assert shown(*words) == [line for line in both if line != own], words
    assert shown("-u", "nobody") == [own] and len(both) == 2
