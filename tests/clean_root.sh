#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# clean_root.sh [TARGET|VARIABLE=VALUE...]: the proof for a machine that has nothing yet. This checkout (tracked and new files) is copied
# into a minimal Debian, and `make TARGET...` (demo check) run there. SUITE: its release (this machine's). CLEAN_ROOT: where it is
# kept; it is made where it is missing, and the copy is in memory, so that several runs may share it.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. /etc/os-release
suite=${SUITE:-$VERSION_CODENAME}
root=${CLEAN_ROOT:-$PWD/.cache/clean-$suite}
tests/roots/make.sh "$suite" "$root" make
cp -L /etc/resolv.conf "$root/etc/resolv.conf"

[ $# -gt 0 ] || set -- demo check
# a home of a user: nobody else may read it
# shellcheck disable=SC2016 # the inner shell's
git ls-files -co --exclude-standard -z | tar -c --null -T - | tests/roots/enter.sh "$root" \
	env ${PIP_CERT:+PIP_CERT=/etc/pip-cert.pem} ${LIBVIRT_TRACE_PATIENCE:+"LIBVIRT_TRACE_PATIENCE=$LIBVIRT_TRACE_PATIENCE"} \
	sh -euc 'mkdir -m 700 /tmp/home; mkdir /tmp/home/libvirt-trace; cd /tmp/home/libvirt-trace; tar -x
		{ dpkg --configure -a; apt-get -y --fix-broken install; } >/dev/null 2>&1 </dev/null || true # a run may have been interrupted
		exec make "$@"' sh "$@"
