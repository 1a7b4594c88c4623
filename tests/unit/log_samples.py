# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events for the tests of log/: one plain call to vary, hostile names, and hypothesis
strategies for any value.
"""

from __future__ import annotations

import os

from hypothesis import strategies as st

from log.client import OWN, UNKNOWN
from log.events import Attached, Call, Caller, Clock, End, Lost, TargetInfo, Unattached
from log.values import (
    NO_VALUES,
    CutText,
    EnumValue,
    Flags,
    Handle,
    Pointer,
    Redacted,
    Unreadable,
    Values,
)

# of a property that is asked for: else each test has its number
EXAMPLES = int(os.environ.get("LIBVIRT_TRACE_EXAMPLES", "0"))
NS = 1_000_000_000
START = 1_700_040_251 * NS + 403_660_789  # 2023-11-15 09:24:11 UTC
UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
HOSTILE = "\x1b[31m\n[red]\u202eevil\u2066\x9b\r\x00\x7f\ufeff\u2028\U000e0041"
# parts of documents, of which many might take a reader the square of their number
HOSTILE_PARTS = (
    "<", "<a ", "<!--", "<a>", "<a b='", "<a b=c ", "<a/>", "<a b='c'/>", "<a> </a>", "a" * 10,
    "<a " + "b" * 50, "<![CDATA[", "&lt;",
)  # fmt: skip

CALLER = Caller(41207, "/usr/bin/virsh", ("virsh", "destroy", "web1"), 0, "root", 1000, None, None)
WEB1 = Handle("domain", {"name": "web1", "uuid": UUID})
CONNECT = Handle("connect", {"uri": "qemu:///system", "driver": "QEMU"})
DESTROY = Call(
    time=START,
    tid=41207,
    comm="virsh",
    caller=CALLER,
    function="virDomainDestroyFlags",
    library="libvirt.so.0",
    depth=0,
    write=True,
    args=Values({"domain": WEB1, "flags": Flags(1, ("VIR_DOMAIN_DESTROY_GRACEFUL",))}),
    out=NO_VALUES,
    ret=0,
    returns="integer",
    failed=False,
    error=None,
    duration_ns=4_100_000,
)
ATTACHED = Attached(
    START, "1.0", 526, (TargetInfo("/usr/lib/libvirt.so.0", "9.0.0"),), 9.8, "uprobe_multi"
)
UNATTACHED = Unattached(START, "/a b/libvirt.so.0", "it is cut short")
CLOCK = Clock(START, -3_600_000_000_000)
LOST = Lost(START, 12, "read", "buffer full")
END = End(START, 1234, 5, 1, 0, 12.34)


def call_on(name: str) -> Call:
    """A call on a domain of that name."""
    return DESTROY._replace(
        args=Values(
            {"domain": Handle("domain", {"name": name, "uuid": UUID}), "flags": Flags(0, ())}
        )
    )


any_text = st.text(alphabet=st.characters(blacklist_categories=()))  # lone surrogates too
any_number = st.integers(-(2**63), 2**64 - 1)
some_length = st.none() | st.integers(0, 2**20)
any_scalar = st.one_of(
    st.none(),
    st.booleans(),
    any_number,
    st.floats(),
    any_text,
    st.builds(CutText, any_text, some_length),
    st.builds(Unreadable, st.integers(0, 2**64 - 1)),
    st.builds(Pointer, st.integers(0, 2**64 - 1)),
    st.builds(EnumValue, any_number, st.none() | any_text),
    st.builds(Flags, any_number, st.lists(any_text, max_size=3).map(tuple)),
    st.builds(Redacted, some_length),
    st.builds(
        Handle,
        any_text,
        st.fixed_dictionaries(
            {}, optional={"name": st.none() | any_text, "uuid": any_text, "uri": any_text}
        ),
    ),
)
any_value = st.recursive(
    any_scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
any_values = st.builds(Values, st.dictionaries(any_text, any_value, max_size=4))
any_peer = st.fixed_dictionaries(
    {},
    optional={
        "pid": any_number,
        "uid": any_number,
        "user": any_text,
        "readonly": st.booleans(),
        "exe": any_text,
        "cmdline": st.lists(any_text, max_size=3).map(tuple),
    },
).map(lambda known: UNKNOWN._replace(**known))  # type: ignore[arg-type]
any_client = (
    st.none()
    | st.just(OWN)
    | st.builds(
        lambda known, unproved, *others: known._replace(
            unproved=unproved, peer=others[0], claims=others[1]
        ),
        any_peer,
        st.booleans(),
        *2 * [st.none() | any_peer],
    )
)
