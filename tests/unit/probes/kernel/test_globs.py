# SPDX-License-Identifier: LGPL-2.1-or-later
"""The automaton that runs in the kernel agrees with fnmatch."""

import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from probes.kernel.globs import compile_globs

letters = st.sampled_from("ab1é€]![-")
patterns = st.lists(st.text(st.sampled_from("ab1é*?"), max_size=8), min_size=1, max_size=3)
sets = st.sampled_from(["[ab]", "[!ab]x", "[a-c]*", "x[!1]?", "[]]", "[!]]a", "[a", "[-a]"])


def expected(text, globs):
    return any(fnmatch.fnmatchcase(text, glob) for glob in globs)


@given(patterns, st.text(letters, max_size=10))
def test_stars_and_question_marks_match_as_fnmatch_does(globs, text):
    automaton = compile_globs(globs)
    assert automaton is not None
    assert automaton.matches(text.encode()) == expected(text, globs)


@given(sets, st.text(letters, max_size=6))
def test_sets_match_as_fnmatch_does(glob, text):
    automaton = compile_globs([glob])
    assert automaton is not None
    assert automaton.matches(text.encode()) == expected(text, [glob])


def test_too_many_places_are_left_to_the_reader():
    assert compile_globs(["a" * 63]) is not None
    assert compile_globs(["a" * 64]) is None
    assert compile_globs(["a" * 31, "b" * 31]) is not None
    assert compile_globs(["a" * 31, "b" * 32]) is None


def test_sets_of_other_alphabets_are_left_to_the_reader():
    assert compile_globs(["[é]"]) is None
