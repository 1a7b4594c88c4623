#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# build.sh DIR: libvirt's modular daemons in DIR, from the source of this machine's release: Debian packages libvirtd alone. They
# are compiled in a minimal root beside it and find each other, their sockets and their state below DIR only. Nothing is done
# where DIR is complete.
set -eu
cd "$(dirname "$0")/../.."
# shellcheck source=/dev/null
. /etc/os-release
prefix=$1
root=$prefix-root
mkdir -p "$(dirname "$prefix")"
exec 8>"$prefix.lock"
flock 8
if [ -e "$prefix/complete" ]; then exit; fi

# libvirt has features only for what these daemons do; its documents, tests and other drivers are left out
tests/roots/make.sh "$VERSION_CODENAME" "$root" dpkg-dev gcc meson ninja-build pkgconf perl python3 rpcsvc-proto xsltproc \
	libglib2.0-dev libgnutls28-dev libnl-3-dev libnl-route-3-dev libpciaccess-dev libsasl2-dev libtirpc-dev libudev-dev \
	libxml2-dev libxml2-utils libyajl-dev python3-docutils libcap-ng-dev libjson-c-dev
sed 's/^deb /deb-src /' "$root/etc/apt/sources.list" >"$root/etc/apt/sources.list.d/source.list"
# shellcheck disable=SC2016 # the inner shell's
tests/roots/enter.sh "$root" sh -euc '
	apt-get -q -o Acquire::Retries=5 update
	rm -rf /build /installed
	mkdir /build
	cd /build
	apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=5 source libvirt
	cd libvirt-*/
	meson setup build --buildtype=debugoptimized --auto-features=disabled --prefix="$1" --libdir=lib --sysconfdir="$1/etc" \
		--localstatedir="$1/var" -Drunstatedir="$1/run" -Drpath=enabled -Dgit_werror=disabled -Dwerror=false \
		-Ddocs=disabled -Dtests=disabled -Ddriver_remote=enabled -Ddriver_libvirtd=enabled -Ddriver_qemu=enabled \
		-Ddriver_network=enabled -Ddriver_secrets=enabled -Ddriver_test=enabled -Dstorage_dir=enabled -Dsasl=enabled \
		-Dudev=enabled -Dpciaccess=enabled -Dcapng=enabled "$2=enabled" -Dqemu_user=root -Dqemu_group=root
	ninja -C build
	DESTDIR=/installed ninja -C build install
' sh "$prefix" "$([ "$VERSION_CODENAME" = bookworm ] && echo -Dyajl || echo -Djson_c)" >"$prefix.log" 2>&1 8>&- || {
	tail -n 20 "$prefix.log" >&2
	exit 1
}
rm -rf "$prefix"
mv "$root/installed/$prefix" "$prefix"
touch "$prefix/complete"
rm -rf "$root" "$root.lock" "$root.log"
