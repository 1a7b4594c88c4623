# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tracer says of itself."""

import pytest

from log.events import TargetInfo
from log.render import text
from tests.unit.log_samples import ATTACHED, CLOCK, END, LOST, UNATTACHED

pytestmark = pytest.mark.usefixtures("utc")


@pytest.mark.parametrize(
    "event, expected",
    [
        (
            ATTACHED,
            "attached to 526 functions in /usr/lib/libvirt.so.0 (libvirt 9.0.0), 9.8ms, "
            "uprobe_multi",
        ),
        (
            ATTACHED._replace(targets=(TargetInfo("/lib/libvirt.so.0", "9.0.0"),) * 2),
            "attached to 526 functions in /lib (libvirt 9.0.0, 2 files in 2 roots), 9.8ms, "
            "uprobe_multi",
        ),
        (
            ATTACHED._replace(targets=(TargetInfo("/a b", None, "32-bit"),), mapped_ms=120.4),
            'attached to 526 functions in "/a b" (version unknown; 32-bit), 9.8ms, uprobe_multi; '
            "mapped 120ms before, calls in that time were missed",
        ),
        (
            ATTACHED._replace(
                targets=(
                    *ATTACHED.targets,
                    TargetInfo("/usr/lib/libvirt-qemu.so.0", "9.0.0"),
                    TargetInfo("/a/libvirt.so.0", "9.0.0"),
                )
            ),
            "attached to 526 functions in /usr/lib (libvirt 9.0.0, 2 files), /a/libvirt.so.0 "
            "(libvirt 9.0.0), 9.8ms, uprobe_multi",
        ),
        (UNATTACHED, 'not every call of "/a b/libvirt.so.0" is seen: it is cut short'),
        (CLOCK, "the clock was set back by 3600s"),
        (
            LOST,
            "lost 12 read calls: buffer full; a larger --buffer-size or fewer functions (-f) "
            "may help",
        ),
        (END, "1234 calls, 5 failed, 1 denied, 0 lost in 12.3s"),
    ],
)
def test_other_events_speak_for_the_tracer(event, expected):
    assert text.line(event) == f"09:24:11.403660 libvirt-trace: {expected}\n"
