# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiled programs that are kept: the same ones come out, and nothing that is damaged,
another's or of other sources.
"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from probes.kernel.loading import kept

CODE = {"on_entry": bytes(range(256)), "on_return": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def test_what_was_written_is_read(folder):
    assert kept.read("a", folder) is None
    kept.write("a", CODE, folder)
    assert kept.read("a", folder) == CODE
    assert kept.read("b", folder) is None
    assert (folder.stat().st_mode & 0o777, (folder / "a").stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"[1]", b'{"on_entry": 7}', b'{"on_entry": "0g"}', b"\xff"]
)
def test_damaged_file_is_as_none(folder, content):
    kept.write("a", CODE, folder)
    (folder / "a").write_bytes(content)
    assert kept.read("a", folder) is None


def test_any_other_byte_makes_a_file_damaged(folder):
    """The kernel would refuse the program, or run another one."""
    kept.write("a", CODE, folder)
    whole = (folder / "a").read_bytes()
    for at in range(0, len(whole), 7):
        (folder / "a").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert kept.read("a", folder) is None
        (folder / "a").write_bytes(whole[:at])
        assert kept.read("a", folder) is None


def test_a_full_disk_leaves_nothing_behind(folder):
    kept.write("a", CODE, folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        kept.write("b", CODE, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert os.listdir(folder) == ["a"]


def test_file_or_folder_that_others_may_write_to_is_not_believed(folder):
    for what in (folder, folder / "a"):
        kept.write("a", CODE, folder)
        what.chmod(0o777)
        assert kept.read("a", folder) is None
        what.chmod(0o700)
    assert kept.read("a", folder) == CODE
    (folder / "b").symlink_to("a")
    assert kept.read("b", folder) is None
    os.mkfifo(folder / "c", 0o600)
    assert kept.read("c", folder) is None


def test_nothing_is_kept_where_it_can_not_be(folder):
    folder.write_text("a file")
    kept.write("a", CODE, folder)
    assert kept.read("a", folder) is None
    assert folder.read_text() == "a file"


def test_few_are_kept(folder):
    for number in range(kept.MOST_FILES + 3):
        kept.write(str(number), CODE, folder)
        os.utime(folder / str(number), (number, number))
    kept.write("last", CODE, folder)
    assert len(list(folder.iterdir())) == kept.MOST_FILES
    assert kept.read("last", folder) == CODE
    assert kept.read("0", folder) is None


def test_key_depends_on_sources_settings_and_compiler(tmp_path, monkeypatch):
    source, other = tmp_path / "a.c", tmp_path / "b.c"
    source.write_text("1")
    other.write_text("2")
    keys = {
        kept.key_of([source], 1),
        kept.key_of([source], 2),
        kept.key_of([other], 1),
        kept.key_of([source, other], 1),
    }
    source.write_text("12")
    keys |= {kept.key_of([source], 1)}
    (tmp_path / "bcc.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    keys |= {kept.key_of([source], 1)}
    assert len(keys) == 6 and None not in keys
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="5.15.0", machine="x86_64"))
    assert kept.key_of([source], 1) not in keys
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert kept.key_of([source], 1) is None


def test_an_answer_is_of_one_kernel(tmp_path):
    notes = tmp_path / "notes"
    notes.write_bytes(b"\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0 one")
    key = kept.key_of_kernel("question", notes)
    assert key and key == kept.key_of_kernel("question", notes)
    assert key != kept.key_of_kernel("another question", notes)
    notes.write_bytes(b"\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0 another")
    assert kept.key_of_kernel("question", notes) not in (None, key)


@pytest.mark.parametrize("content", [b"", b"\6\0\0\0\4\0\0\0\1\1\0\0Linux\0\0\0\0\0\0\0", None])
def test_a_kernel_without_an_identity_is_asked_each_time(tmp_path, content):
    notes = tmp_path / "notes"
    if content is not None:
        notes.write_bytes(content)
    assert kept.key_of_kernel("question", notes) is None
