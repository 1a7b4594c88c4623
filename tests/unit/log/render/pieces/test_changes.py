# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of what no call is known to have caused."""

import pytest

from log.events import BY_CALL, NO_CALL
from log.render import text
from tests.unit.log.render.text_samples import AT, FUNCTION, SERVED, STOPPED

pytestmark = pytest.mark.usefixtures("utc")


@pytest.mark.parametrize("view", text.View)
def test_what_no_call_is_known_to_have_caused_is_shown(view: text.View):
    alone = SERVED._replace(parent=None, children=())
    assert text.line(alone, view) == (
        f"{AT[1]} 812 rpc-libvirtd root for 41207 virsh root {FUNCTION} <3.9ms>\n"
    )
    crashed = STOPPED._replace(detail="crashed", parent=None)
    line = f"{AT[3]} 812 rpc-libvirtd root domain web1 stopped: crashed"
    assert text.line(crashed, view) == f"{line}, cause not known\n"
    assert text.line(crashed._replace(cause=NO_CALL), view) == f"{line}, by no call\n"
    assert text.line(crashed._replace(cause=BY_CALL), view) == (
        f"{line}, by a call that is not shown\n"
    )
    assert text.line(crashed._replace(one_of=("1-2", "3-4")), view).endswith(
        " domain web1 stopped: crashed, by one of 2 calls\n"
    )
