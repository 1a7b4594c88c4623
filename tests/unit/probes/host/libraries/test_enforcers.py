# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of the enforcer: which are believed, and how long they are held."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probes.host.libraries import enforcers
from probes.host.libraries.enforcers import Enforcer, Enforcers
from probes.host.looking import maps, opening
from probes.kernel.records import VERDICT_FUNCTION

SOURCE = f"""
int before(int x) {{ return x + 1; }}
void {VERDICT_FUNCTION}(void *verdict) {{ (void)verdict; }}
"""
Made = Callable[..., Enforcers]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with a verdict function."""
    folder = tmp_path_factory.mktemp("enforcer")
    (folder / "lib.c").write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "lib.so", "lib.c"], cwd=folder, check=True)
    return folder / "lib.so"


@pytest.fixture
def library(compiled: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a copy of it that is ours alone."""

    def copy(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(compiled.read_bytes())
        path.chmod(0o755)
        return path

    return copy


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Enforcers for which root is who runs the test, all closed at the end with nothing left
    open.
    """
    monkeypatch.setattr(enforcers, "ROOT", os.geteuid())
    before, all_made = set(os.listdir("/proc/self/fd")), list[Enforcers]()

    def make(*host: Path) -> Enforcers:
        all_made.append(Enforcers(lambda: host, Path("/nowhere")))
        return all_made[-1]

    yield make
    for each in all_made:
        each.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def mapped(path: Path) -> maps.Mapping:
    """As a process that is over had it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return maps.Mapping(1, 0, 0, *opening.place_of(fd), str(path))
    finally:
        os.close(fd)


def same_file(enforcer: Enforcer, path: Path) -> bool:
    return os.path.samestat(os.stat(enforcer.path_for_kernel), path.stat())


def test_the_function_is_where_the_linker_says(made: Made, library: Callable[[str], Path]) -> None:
    path = library("a.so")
    symbols = subprocess.run(
        ["nm", "-D", path], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    address = next(
        line.split()[0] for line in symbols.splitlines() if line.endswith(VERDICT_FUNCTION)
    )
    found = made().of(mapped(path))
    assert found is not None
    assert (found.path, found.offset) == (str(path), int(address, 16))
    assert found.text[0] <= found.offset < sum(found.text)
    assert same_file(found, path)


def test_each_file_is_told_once_by_whatever_name(
    made: Made, library: Callable[[str], Path], tmp_path: Path
) -> None:
    path, held = library("a.so"), made()
    (tmp_path / "b.so").hardlink_to(path)
    found = held.of(mapped(path))
    assert held.of(mapped(tmp_path / "b.so")) is found
    assert held.knows(mapped(path))
    assert (held.take(), held.take()) == ([found], [])


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_what_others_can_write_is_not_believed(
    made: Made, library: Callable[[str], Path], mode: int
) -> None:
    path, held = library("a.so"), made()
    path.chmod(mode)
    assert (held.of(mapped(path)), held.of(mapped(path))) == (None, None)
    assert held.refused == [
        (
            str(path),
            "verdicts in it are not believed: only a file that root owns and others can't write is",
        )
    ]
    path.chmod(0o755)
    assert held.of(mapped(path)) is not None


def test_what_another_user_owns_is_not_believed(
    made: Made, library: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, held = library("a.so"), made()
    monkeypatch.setattr(enforcers, "ROOT", os.geteuid() + 1)
    assert held.of(mapped(path)) is None
    assert [name for name, _ in held.refused] == [str(path)]


def test_the_hosts_own_is_believed(
    made: Made, library: Callable[[str], Path], tmp_path: Path
) -> None:
    path = library("a.so")
    path.chmod(0o777)
    held = made(tmp_path / "not there", path)
    found = held.of(mapped(path))
    assert found is not None
    held.refresh()
    assert held.take() == [found]
    held.begin()
    assert (held.unused(), held.unused()) == ([], [])


@pytest.mark.parametrize("content", [b"", b"text", b"\x7fELF"])
def test_other_files_are_none(made: Made, tmp_path: Path, content: bytes) -> None:
    path, held = tmp_path / "a.so", made()
    path.write_bytes(content)
    path.chmod(0o644)
    status = path.stat()
    assert (
        held.of(
            maps.Mapping(
                1, 0, 0, os.major(status.st_dev), os.minor(status.st_dev), status.st_ino, str(path)
            )
        )
        is None
    )
    assert len(held.refused) == 1


def test_a_file_that_took_the_place_of_another_is_not_it(
    made: Made, library: Callable[[str], Path]
) -> None:
    path, held = library("a.so"), made()
    was = mapped(path)
    library("b.so").rename(path)
    assert held.of(was) is None
    assert held.refused == [(str(path), "it can't be opened: it is another file by now")]


def test_what_no_process_has_mapped_twice_is_let_go(
    made: Made, library: Callable[[str], Path]
) -> None:
    held, paths = made(), [library(name) for name in ("a.so", "b.so")]
    one, other = (held.of(mapped(path)) for path in paths)
    held.begin()
    assert (held.unused(), held.unused()) == ([], [])  # nobody has attached to them yet
    assert held.take() == [one, other]
    held.begin()
    assert held.knows(mapped(paths[0]))
    assert held.unused() == []
    held.begin()
    assert held.knows(mapped(paths[0]))
    assert held.unused() == [other]
    assert other is not None
    other.close()
    assert not held.knows(mapped(paths[1]))
    again = held.of(mapped(paths[1]))
    assert again is not other
    assert held.take() == [again]


def test_as_many_as_are_allowed(
    made: Made, library: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was one too many is looked at again when there is room."""
    monkeypatch.setattr(enforcers, "MOST_ENFORCERS", 1)
    held, paths = made(), [library(name) for name in ("a.so", "b.so")]
    first = held.of(mapped(paths[0]))
    assert first is not None
    assert (held.of(mapped(paths[1])), held.of(mapped(paths[1]))) == (None, None)
    assert held.refused == [
        (str(paths[1]), "1 files of the enforcer are in use, which is the most")
    ]
    assert held.take() == [first]
    held.begin()
    assert (held.unused(), held.unused()) == ([], [first])
    first.close()
    assert held.of(mapped(paths[1])) is not None
