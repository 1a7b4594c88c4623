#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# cached.sh COMMAND...: inside an emulated kernel: the machine's root once more, as QEMU exports it by the name "cached", takes the root's
# place and COMMAND runs there. What was read once stays in memory there; else each program is read anew.
set -eu
mkdir /run/cached
mount -t 9p -o ro,trans=virtio,version=9p2000.L,access=any,msize=524288,cache=loose cached /run/cached
for folder in /proc /sys /dev /run /tmp /var/tmp /var/cache /var/log; do mount --rbind "$folder" "/run/cached$folder"; done
mount -t tmpfs tmpfs /run/cached/root
here=$PWD
cd /run/cached
pivot_root . mnt
cd "$here"
exec "$@"
