#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh [PYTEST-ARG...]: boots each of Debian's kernels under software emulation, with this machine's own root file system read-only,
# and runs the kernel tests in it. KERNELS: packages that depend on the kernel images to try.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PWD/.venv/bin:$PATH:/usr/sbin:/sbin
cache=$PWD/.cache/kernels
arch=$(dpkg --print-architecture)
arguments=$(for argument; do printf " '%s'" "$(printf %s "$argument" | sed "s/'/'\\\\''/g")"; done)
failed=
mkdir -p "$cache"
for meta in ${KERNELS:-linux-image-$arch linux-image-6.12-$arch}; do
	apt-cache show "$meta" >/dev/null 2>&1 || apt-get -qq update
	image=$(apt-cache depends "$meta" | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
	: "${image:?apt knows no kernel behind $meta: add bookworm-security, then apt-get update}"
	if [ ! -d "$cache/$image" ]; then
		(cd "$cache" && apt-get -qq download "$image")
		rm -rf "$cache/unpacked"
		dpkg-deb -x "$cache/${image}"_*.deb "$cache/unpacked"
		rm "$cache/${image}"_*.deb
		mv "$cache/unpacked" "$cache/$image"
	fi
	echo "== $image"
	# QEMU opens its standard output anew and would cut off a file there, hence the pipe
	{
		status=0
		nice timeout "${KERNEL_SECONDS:-3600}" vng --run "$cache/$image/boot/vmlinuz-${image#linux-image-}" --disable-kvm \
			--user root --cpus 2 --memory 3G --exec "tests/kernels/guest.sh$arguments" </dev/null 2>&1 || status=$?
		echo "$status" >"$cache/status"
	} | cat
	if [ "$(cat "$cache/status")" != 0 ]; then failed="$failed $image"; fi
done
if [ -n "$failed" ]; then
	echo "failed in:$failed" >&2
	exit 1
fi
