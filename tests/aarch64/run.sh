#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh FOLDER [PYTEST-ARG...]: boots what make.sh has made in FOLDER, emulated, with each of its kernels (KERNELS), and this checkout in
# it, and runs tests there (guest.sh). Nothing that happens in it is kept.
set -eu
folder=$1
shift
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/more" "$work/more/libvirt-trace"
git ls-files -co --exclude-standard -z | tar -c --null -T - | tar -x -C "$work/more/libvirt-trace"
cp tests/aarch64/init "$work/more/init"
for argument; do printf " '%s'" "$(printf %s "$argument" | sed "s/'/'\\\\''/g")"; done >"$work/more/arguments"
(cd "$work/more" && find . -print0 | cpio -0 -o -H newc --quiet) | cat "$folder/root.cpio" - >"$work/initrd"
failed=
for suite in ${KERNELS:-trixie sid}; do
	echo "== linux-image-arm64 of $suite"
	nice timeout "${KERNEL_SECONDS:-5400}" qemu-system-aarch64 -M virt -cpu max,pauth-impdef=on -smp 2 -m 4G -accel tcg \
		-nodefaults -display none -serial stdio -no-reboot -kernel "$folder/linux-$suite" -initrd "$work/initrd" \
		-append "console=ttyAMA0 quiet panic=-1 mitigations=off" </dev/null 2>&1 | tee "$work/output"
	if ! grep -q '^libvirt-trace: status 0' "$work/output"; then failed="$failed $suite"; fi
done
if [ -n "$failed" ]; then
	echo "failed with the kernel of:$failed" >&2
	exit 1
fi
