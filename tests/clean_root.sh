#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# clean_root.sh [TARGET...]: the proof for a machine that has nothing yet. A minimal Debian of this machine's release is made, this
# checkout (tracked and new files) is copied into it, and `make TARGET...` (demo check) run there. CLEAN_ROOT: where it is kept.
set -eu
cd "$(dirname "$0")/.."
root=${CLEAN_ROOT:-$PWD/.cache/clean}
# shellcheck source=/dev/null
. /etc/os-release
test -e "$root/complete" || {
	tests/roots/make.sh "$VERSION_CODENAME" "$root" make
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' |
		grep -E " $VERSION_CODENAME(-updates|-security)? main\$" | sort -u >"$root/etc/apt/sources.list"
	apt-config dump | grep -E '^Acquire::(http|https)::Proxy |^Acquire::Check-' >"$root/etc/apt/apt.conf.d/90host" || true
}
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
if [ -e /etc/pip.conf ]; then cp /etc/pip.conf "$root/etc/pip.conf"; fi
if [ -n "${PIP_CERT:-}" ]; then install -D -m 644 "$PIP_CERT" "$root/etc/pip-cert.pem"; fi

rm -rf "$root/root/libvirt-trace"
mkdir -p "$root/root/libvirt-trace"
git ls-files -co --exclude-standard -z | tar -c --null -T - | tar -x -C "$root/root/libvirt-trace"
[ $# -gt 0 ] || set -- demo check
exec tests/roots/enter.sh "$root" env ${PIP_CERT:+PIP_CERT=/etc/pip-cert.pem} make -C /root/libvirt-trace "$@"
