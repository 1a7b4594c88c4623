# SPDX-License-Identifier: LGPL-2.1-or-later
"""The -c table, compared whole, and its percentiles against exact ones."""

import io

from hypothesis import given
from hypothesis import strategies as st

from log.counted import Counted
from log.events import CallError, VerdictInfo
from log.sinks.screen.summary import Durations, Summary
from log.sinks.screen.terminal import make_console
from tests.unit.log_samples import ATTACHED, DESTROY, END, LOST

GET = DESTROY._replace(function="virDomainGetInfo")
DENIED = DESTROY._replace(
    ret=-1, failed=True, duration_ns=None, verdict=VerdictInfo("deny", "keep-web")
)
FAILED = DESTROY._replace(
    ret=-1,
    failed=True,
    error=CallError(1, "VIR_ERR_INTERNAL_ERROR", None, None),
    duration_ns=100_000,
)
UNFINISHED = DESTROY._replace(ret=None, duration_ns=None, unfinished="process exited")

TABLE = """\
function               calls  errors  denied  total  average    p50    p95    p99    max
virDomainDestroyFlags      4       1       1  4.2ms    2.1ms  100us  4.1ms  4.1ms  4.1ms
virDomainGetInfo         100       0       0  505us    5.0us  5.1us  9.6us   10us   10us
virDomainUndefine          1       0       1      -        -      -      -      -      -
total                    105       1       2  4.7ms
"""


def full_summary():
    summary = Summary()
    summary.write(
        [
            ATTACHED,
            DESTROY,
            DENIED,
            FAILED,
            UNFINISHED,
            DENIED._replace(function="virDomainUndefine"),
        ]
    )
    summary.write(
        [*(GET._replace(duration_ns=100 * number) for number in range(1, 101)), LOST, END]
    )
    return summary


def test_table_is_sorted_by_total_time_and_counts_everything_once():
    assert full_summary().table() == TABLE


def test_piped_table_is_plain():
    file = io.StringIO()
    assert full_summary().shown_on(make_console(file)) == TABLE
    assert file.getvalue() == ""


def test_empty_table_has_a_total_of_nothing():
    assert Summary().table().splitlines()[1].split() == ["total", "0", "0", "0", "0ns"]


@given(
    st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 10_000_000), min_size=1, max_size=300),
    st.integers(1, 100),
)
def test_percentile_is_within_its_stated_error(numbers, percent):
    durations = Durations()
    for number in numbers:
        durations.add(number)
    exact = sorted(numbers)[-(-len(numbers) * percent // 100) - 1]
    assert 0 <= (durations.percentile(percent) - exact) * 64 <= exact
    assert (durations.max, durations.total, durations.count) == (
        max(numbers),
        sum(numbers),
        len(numbers),
    )


def test_short_durations_are_exact():
    durations = Durations()
    for number in range(128):
        durations.add(number)
    assert [durations.percentile(percent) for percent in (1, 50, 95, 100)] == [1, 63, 121, 127]


def test_memory_does_not_grow_with_the_calls():
    durations = Durations()
    for exponent in range(64):
        for step in range(512):
            durations.add((1 << exponent) + (step << exponent >> 9))
    assert len(durations._buckets) <= 3776


@given(st.lists(st.integers(0, 1 << 42)), st.lists(st.integers(1, 1 << 41)))
def test_calls_that_were_only_counted_are_as_good_as_others(seen, counted):
    """Percentiles are the same, wherever a duration came from."""
    whole, parts, rest = Durations(), Durations(), Durations()
    for ns in seen:
        whole.add(ns)
        parts.add(ns)
    for ns in counted:
        whole.add(ns)
        rest.add(ns)
    parts.add_buckets(Counted("f", rest.count, 0, rest.total, rest.max, rest.buckets()))
    assert (parts.count, parts.total, parts.max) == (whole.count, whole.total, whole.max)
    for percent in (50, 95, 99):
        assert parts.percentile(percent) == whole.percentile(percent)


def test_the_table_of_calls_that_were_only_counted():
    each, counted = Summary(), Summary()
    each.write([GET._replace(duration_ns=ns) for ns in (100, 200, 300)] + [FAILED, UNFINISHED])
    counted.write([FAILED])
    some = Durations()
    for ns in (100, 200, 300):
        some.add(ns)
    counted.count(
        [
            Counted("virDomainGetInfo", 3, 0, some.total, some.max, some.buckets()),
            Counted("virDomainDestroyFlags", 1, 0, 0, 0, {}),
        ]
    )
    assert counted.table() == each.table()
