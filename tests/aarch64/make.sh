#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# make.sh FOLDER PACKAGE...: Debian 13 for aarch64 with the packages, as a file system in memory
# (FOLDER/root.cpio), and the kernels of trixie and sid (FOLDER/linux-SUITE). Nothing is done where it
# is complete.
set -eu
cd "$(dirname "$0")/../.."
folder=$1
root=$folder/root
shift
packages=$*
mkdir -p "$folder"
exec 8>"$folder/lock"
flock 8
if [ "$(cat "$folder/complete" 2>/dev/null)" = "$packages" ]; then exit; fi
rm -rf "$folder/complete" "$root"

ARCH=arm64 FOREIGN=yes tests/roots/make.sh trixie "$root" "$@"
for suite in trixie sid; do
	apt=$folder/apt-$suite
	rm -rf "$apt"
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	touch "$apt/status"
	sed "s/ trixie\([a-z-]*\) / $suite\1 /" "$root/etc/apt/sources.list" |
		if [ "$suite" = sid ]; then grep ' sid main$'; else cat; fi >"$apt/sources"
	set -- -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::Etc::SourceList="$apt/sources" -o Dir::Etc::SourceParts=- \
		-o Dir::State="$apt" -o Dir::State::Status="$apt/status" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root \
		-o Dir::Etc::TrustedParts="$root/usr/share/keyrings" -o Acquire::Retries=5
	apt-get -qq "$@" update
	packages=$(tests/kernels/packages.sh linux-image-arm64 binary apt-cache "$@")
	# shellcheck disable=SC2086 # a list
	(cd "$apt" && apt-get -qq "$@" download $packages)
	for deb in "$apt"/*.deb; do dpkg-deb -x "$deb" "$apt/unpacked"; done
	find "$apt/unpacked" -name 'vmlinuz*' -exec cp {} "$folder/linux-$suite" \;
	rm -rf "$apt"
done
rm -rf "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale "$root"/var/lib/apt
(cd "$root" && find . -print0 | cpio -0 -o -H newc --quiet) >"$folder/root.cpio"
rm -rf "$root" "$root.lock" "$root.log"
echo "$packages" >"$folder/complete"
