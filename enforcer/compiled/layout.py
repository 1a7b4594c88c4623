# SPDX-License-Identifier: LGPL-2.1-or-later
"""The layout of a compiled policy, policy.bin: the structs of enforcer.h, little-endian, and what
numbers in them stand for; the compiler of the library holds its own words against these. Offsets
are bytes from the start of the file.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAGIC = b"LVTPOL\0\1"
# 1,900 rules on whatever changes something, 10,000 on a few functions
SIZE_MAX = 1 << 20
ROWS_MAX = 4096  # libvirt 12.8 has 528 functions
ORIGIN_MAX = 4096  # bytes of the path of the source
NAME_BYTES = 256  # of a rule, that are looked at from outside
PREFIX_MAX = 32  # bytes of a name's beginning that rules are found by


class Head(NamedTuple):
    """What a compiled policy begins with."""

    magic: bytes
    size: int  # bytes of the file
    check: int  # the CRC-32 of what is behind it
    table_hash: bytes  # of the functions that rows are for
    made: int  # s since the epoch
    flags: int  # AUDIT_MODE, DENY_ON_ERROR, MEANS_UNKNOWN
    rows: int  # how many
    rules: int
    conditions: int
    rows_at: int
    rules_at: int
    conditions_at: int
    origin: int  # where the path of the source is


HEAD = struct.Struct("<8sII32sQIIIIIIII")
CHECK_AT, CHECKED_FROM, MADE_AT = 12, 16, 48  # `check`, what is behind it, `made`
AUDIT_MODE, DENY_ON_ERROR, MEANS_UNKNOWN = 1, 2, 4
ROW = struct.Struct("<IIII")
PROGRAM = struct.Struct("<IIIIIIQ")
BUCKET = struct.Struct("<IIII")
RULE = struct.Struct("<IIIIII")
CONDITION = struct.Struct("<HHIIIQ")
PRINCIPAL = struct.Struct("<II")
SOURCE = struct.Struct("<BBBB")
COUNTS = struct.Struct("<QQ")  # and a u64 for each rule
ACTIONS = {"allow": 1, "audit": 2, "deny": 3}
# kinds of conditions
(
    IS_OBJECT, IS_UUID, IS_USER, IS_URI, IS_READONLY, IS_EXE,
    FLAGS_ANY, FLAGS_ALL, FLAGS_NONE, ARG_EQUALS, ARG_DIFFERS, CONTAINS, CONTAINS_XML, HAS_ELEMENT,
) = range(1, 15)  # fmt: skip
IN_PARAMS = 0x80  # of an argument: the document is among the typed parameters there
PRINCIPALS = {"uid": 0, "gid": 1, "sasl": 2, "x509": 3}
