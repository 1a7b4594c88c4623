#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# deb.sh PACKAGE.deb SUITE...: installs the package in a minimal Debian of each SUITE, traces and denies with it, upgrades it, and
# purges it. It is refused while a daemon needs it, and nothing of it is left behind.
set -eu
package=$(realpath "$1")
shift
cd "$(dirname "$0")/.."

if [ "$1" = --inside ]; then
	root=$2 above=$(mktemp -d)
	mount -t tmpfs tmpfs "$above"
	mkdir "$above/upper" "$above/work" "$above/root"
	mount -t overlay overlay -o "lowerdir=$root,upperdir=$above/upper,workdir=$above/work" "$above/root"
	mkdir "$above/root/deb"
	cp "$package" "$above/root/deb/old.deb"
	dpkg-deb -R "$package" "$above/new"
	sed -i 's/^Version: .*/&+1/' "$above/new/DEBIAN/control"
	dpkg-deb --root-owner-group -b "$above/new" "$above/root/deb/new.deb" >/dev/null
	cp debian/tests/smoke tests/deb-inside.sh "$above/root/deb/"
	exec tests/roots/enter.sh "$above/root" sh /deb/deb-inside.sh
fi

for suite; do
	root=$PWD/.cache/deb-$suite
	tests/roots/make.sh "$suite" "$root"
	# shellcheck disable=SC2046 # a list
	# what it depends on, so that only its own files come and go
	tests/roots/enter.sh "$root" sh -euc 'apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install \
		--no-install-recommends "$@"' sh jq libvirt-clients \
		$(dpkg-deb -f "$package" Depends | sed 's/([^)]*)//g; s/:any//g; s/,/ /g') >"$root.log" 2>&1 ||
		{ tail -n 20 "$root.log"; exit 1; }
	echo "$suite:"
	unshare --mount "$0" "$package" --inside "$root"
done
