#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What `make demo` traces: calls that read, change, fail and are denied, from virsh and Python, on libvirt's test driver, which lives
# in memory.
set -eu
virsh --quiet -c test:///default 'list --all; suspend test; resume test; destroy nosuch' >/dev/null 2>&1 || true
/usr/bin/python3 -E -s - <<'PROGRAM'
import libvirt

connection = libvirt.open("test:///default")
domain = connection.lookupByName("test")
domain.setMemory(1 << 20)
domain.shutdown()
PROGRAM

policy=$(mktemp)
trap 'rm "$policy"' EXIT
cat >"$policy" <<'POLICY'
[[rule]]
name = "keep-test"
action = "deny"
function = ["virDomainDestroy*", "virDomainUndefine*"]
object = ["te*"]
message = "this guest is kept"
POLICY
/usr/bin/python3 -E -s tracer.py enforce --policy "$policy" -- virsh --quiet -c test:///default 'destroy test' 2>&1 || true
