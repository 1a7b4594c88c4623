#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# guest.sh [PYTEST-ARG...]: what runs inside an emulated kernel: a look at it, then the kernel tests. Slow, so with more patience,
# and unless arguments say otherwise only those that are marked other_kernels and those for a kernel of their own.
set -eu
echo "Linux $(uname -r), BTF: $(test -e /sys/kernel/btf/vmlinux && echo yes || echo no)"
echo "| Linux | uprobe_multi | session | sleepable | may_goto |"
/usr/bin/python3 -B -m tests.kernels.features
export LIBVIRT_TRACE_REQUIRE=kernel,kernels LIBVIRT_TRACE_OWN_KERNEL=1 LIBVIRT_TRACE_PATIENCE="${LIBVIRT_TRACE_PATIENCE:-10}" PYTHONDONTWRITEBYTECODE=1
if [ $# = 0 ]; then set -- -m "other_kernels or kernels"; fi
case " $*" in *" tests/"*) ;; *) set -- tests/kernels tests/kernel "$@" ;; esac
exec /usr/bin/python3 -m pytest -p no:cacheprovider --timeout 1800 "$@"
