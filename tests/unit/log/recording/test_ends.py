# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a record ends: also one whose recorder was killed, or whose newest segment has no seal."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from log.recording.ends import last_end, sealed
from log.recording.folder import make_folder
from tests.unit.recording_samples import destroy, record, without_index


def test_last_frame_of_a_record_with_and_without_its_index(tmp_path) -> None:
    (segment,) = record(tmp_path, [destroy(1)], [destroy(2)])
    folder = make_folder(str(tmp_path))
    found = last_end(folder)
    assert found and (found.segment, found.ended) == (segment.name, True)
    without_index(segment)
    assert last_end(folder) == found == last_end(folder, segment.name)


def test_a_segment_without_a_seal_is_passed_over(tmp_path) -> None:
    (segment,) = record(tmp_path, [destroy(1)])
    found = last_end(make_folder(str(tmp_path)))
    newer = segment.name.replace("-20", "-21")
    (tmp_path / newer).write_bytes(segment.read_bytes()[:10])
    assert last_end(make_folder(str(tmp_path))) == found
    assert last_end(make_folder(str(tmp_path)), newer) is None


def test_damage_is_no_other_end(tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("record")
    (segment,) = record(folder, [destroy(1)], [destroy(2)])
    content = segment.read_bytes()  # has other times, and another length, whenever it is made

    @settings(max_examples=50)
    @given(st.integers(0, len(content) - 1), st.integers(1, 255))
    def damage(place: int, bits: int) -> None:
        damaged = bytearray(content)
        damaged[place] ^= bits
        segment.write_bytes(damaged)
        found = last_end(make_folder(str(folder)))
        assert found is None or found.segment == segment.name

    damage()


def test_seal_is_the_last_line() -> None:
    seal = b'{"type":"seal","frame":1}\n'
    assert sealed(b'{"type":"call"}\n' + seal) == sealed(seal) == seal
    assert sealed(seal + b'{"type":"call"}\n') is None and sealed(b"") is None
