# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units, as people read them."""

import pytest

from log.render import units


@pytest.mark.parametrize(
    "ns, expected",
    [
        (0, "0ns"),
        (999, "999ns"),
        (1000, "1.0us"),
        (9949, "9.9us"),
        (9960, "10us"),
        (212_300, "212us"),
        (999_499, "999us"),
        (999_600, "1.0ms"),
        (4_100_000, "4.1ms"),
        (999_600_000, "1.0s"),
        (3_725_000_000_000, "3725s"),
    ],
)
def test_duration_has_two_or_three_digits(ns, expected):
    assert units.duration(ns) == expected
