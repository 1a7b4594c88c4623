#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh [PYTEST-ARG...]: boots each of Debian's kernels under software emulation, with this machine's own root file system read-only,
# and runs the kernel tests in it. KERNELS: packages that depend on the kernel images to try, SUITE:PACKAGE
# of another release.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PWD/.venv/bin:$PATH:/usr/sbin:/sbin
cache=$PWD/.cache/kernels
arch=$(dpkg --print-architecture)
failed=
mkdir -p "$cache"
# the kernel's command line, which has what it runs, has room for 2,048 bytes
{
	printf 'exec tests/kernels/guest.sh'
	for argument; do printf " '%s'" "$(printf %s "$argument" | sed "s/'/'\\\\''/g")"; done
	echo
} >"$cache/guest"
for meta in ${KERNELS:-linux-image-$arch linux-image-6.12-$arch}; do
	suite=${meta%%:*} inside='' from=$cache
	if [ "$suite" != "$meta" ]; then
		root=$PWD/.cache/$suite from=$PWD/.cache/$suite/root
		tests/roots/make.sh "$suite" "$root" libvirt-clients libvirt-daemon python3-libvirt
		inside="tests/roots/enter.sh $root"
		$inside apt-get -qq update
	fi
	meta=${meta#*:}
	apt-cache show "$meta" >/dev/null 2>&1 || apt-get -qq update
	# shellcheck disable=SC2086 # a list
	packages=$(tests/kernels/packages.sh "$meta" 'binary|modules' $inside apt-cache)
	image=${packages%% *}
	if [ ! -d "$cache/$image" ]; then
		# shellcheck disable=SC2016,SC2086 # the inner shell's; lists
		$inside sh -euc 'cd "$1"; shift; apt-get -qq download "$@"' sh "$([ "$inside" ] && echo /root || echo "$cache")" $packages
		rm -rf "$cache/unpacked"
		for deb in "$from"/linux-*.deb; do
			dpkg-deb -x "$deb" "$cache/unpacked"
			rm "$deb"
		done
		[ -e "$cache/unpacked/lib" ] || ln -s usr/lib "$cache/unpacked/lib"
		mv "$cache/unpacked" "$cache/$image"
	fi
	kernel=$(find "$cache/$image" -name vmlinuz -o -name "vmlinuz-${image#linux-image-}")
	echo "== $image"
	# QEMU opens its standard output anew and would cut off a file there, hence the pipe
	{
		status=0
		# without what guards against other guests, and a simpler processor: emulated, both take most of the time
		nice timeout "${KERNEL_SECONDS:-7200}" vng --run "$kernel" --disable-kvm --user root --cpus 2 --memory 3G \
			--append "mitigations=off no_timer_check nowatchdog" --qemu-opts="-cpu Nehalem" \
			--qemu-opts="-virtfs local,path=/,mount_tag=cached,security_model=none,readonly=on,multidevs=remap" \
			--exec "tests/kernels/cached.sh sh .cache/kernels/guest" </dev/null 2>&1 || status=$?
		echo "$status" >"$cache/status"
	} | cat
	if [ "$(cat "$cache/status")" != 0 ]; then failed="$failed $image"; fi
done
if [ -n "$failed" ]; then
	echo "failed in:$failed" >&2
	exit 1
fi
