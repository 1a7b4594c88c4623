#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# make.sh SUITE DIR [PACKAGE...]: a minimal Debian SUITE in DIR, from the mirror that this machine's apt uses. ARCH: if not this machine's.
set -eu
suite=$1 root=$2
shift 2
# shellcheck source=/dev/null
. /etc/os-release
# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' | sed -n "s/ $VERSION_CODENAME main\$//p" | head -n 1)
: "${mirror:?apt has no source for $VERSION_CODENAME main}"
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
export http_proxy="${http_proxy-}" https_proxy="${https_proxy-}"

rm -rf "$root"
mkdir -p "$root"
packages=$(echo "$@" | tr ' ' ,)
debootstrap ${ARCH:+"--arch=$ARCH"} --variant=minbase ${packages:+"--include=$packages"} "$suite" "$root" "$mirror" >"$root.log" 2>&1 || {
	tail -n 20 "$root.log" >&2
	exit 1
}
touch "$root/complete"
