#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# make.sh SUITE DIR [PACKAGE...]: a minimal Debian SUITE in DIR, from the mirrors that this machine's apt uses, in which apt and pip work.
# Nothing is done where it is complete; one that was not finished is made anew. ARCH: if not this machine's; with FOREIGN=yes packages
# are unpacked only, as this machine can't run them.
set -eu
suite=$1 root=$2
shift 2
mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock 9
if [ -e "$root/complete" ]; then exit; fi

# shellcheck source=/dev/null
. /etc/os-release
# shellcheck disable=SC2016 # apt's own variables
sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' |
	sed -n "s/ $VERSION_CODENAME\(-updates\|-security\|\) main\$/ $suite\1 main/p" | sort -u)
if [ "$suite" = sid ]; then sources=$(echo "$sources" | grep ' sid main$'); fi
mirror=$(echo "$sources" | sed -n "s/^deb \(.*\) $suite main\$/\1/p" | head -n 1)
: "${mirror:?apt has no source for $VERSION_CODENAME main}"
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
export http_proxy="${http_proxy-}" https_proxy="${https_proxy-}"

packages=$(echo "$@" | tr ' ' ,)
for attempt in 1 2 3; do
	rm -rf "$root"
	if debootstrap ${ARCH:+"--arch=$ARCH"} ${FOREIGN:+--foreign} --variant=minbase ${packages:+"--include=$packages"} "$suite" "$root" "$mirror" \
		>"$root.log" 2>&1 9>&-; then
		break
	elif [ "$attempt" = 3 ]; then
		tail -n 20 "$root.log" >&2
		exit 1
	fi
done
if [ -n "${FOREIGN:-}" ]; then
	for deb in "$root"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root/debootstrap"
	mkdir -p "$root/etc/apt/apt.conf.d" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp"
	for file in passwd group; do cp "$root/usr/share/base-passwd/$file.master" "$root/etc/$file"; done
fi
echo "$sources" >"$root/etc/apt/sources.list"
apt-config dump | grep -E '^Acquire::(http|https)::Proxy |^Acquire::Check-' >"$root/etc/apt/apt.conf.d/90host" || true
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
if [ -e /etc/pip.conf ]; then cp /etc/pip.conf "$root/etc/pip.conf"; fi
if [ -n "${PIP_CERT:-}" ]; then install -D -m 644 "$PIP_CERT" "$root/etc/pip-cert.pem"; fi
touch "$root/complete"
