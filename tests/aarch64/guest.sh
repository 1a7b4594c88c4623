#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# guest.sh [PYTEST-ARG...]: what runs inside the emulated machine: a look at its kernel, and tests that are marked other_kernels. It is
# slow, so with more patience.
set -eu
echo "Linux $(uname -r) $(uname -m), BTF: $(test -e /sys/kernel/btf/vmlinux && echo yes || echo no)"
echo "| Linux | uprobe_multi | session | sleepable | may_goto |"
python3 -B -m tests.kernels.features
export LIBVIRT_TRACE_REQUIRE=kernel LIBVIRT_TRACE_PATIENCE="${LIBVIRT_TRACE_PATIENCE:-20}" PYTHONDONTWRITEBYTECODE=1
if [ $# = 0 ]; then set -- -m other_kernels tests/kernel; fi
exec python3 -m pytest -p no:cacheprovider --timeout 3600 "$@"
