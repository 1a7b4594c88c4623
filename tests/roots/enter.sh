#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# enter.sh DIR COMMAND...: COMMAND in the Debian root DIR as a container has it: own mount namespace, own root directory, clean
# environment. Every step is an exec, so COMMAND keeps the pid of this script.
set -eu
if [ "$1" != --inside ]; then
	exec unshare --mount "$0" --inside "$@"
fi
root=$2
shift 2
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
pivot_root . .
umount -l .
exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" "$@"
