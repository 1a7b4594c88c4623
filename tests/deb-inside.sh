#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The part of deb.sh that runs in the root.
set -eu
export DEBIAN_FRONTEND=noninteractive
cd /deb
files() {
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /deb \) -prune -o -print |
		grep -vE '^/var/(lib/dpkg|lib/apt|cache/apt|cache/debconf|log)(/|$)|/__pycache__(/|$)' | sort
}
said() {
	echo "  $*"
}

files >before
dpkg -i old.deb >log 2>&1 || { cat log; exit 1; }
test "$(libvirt-trace --version)" = "libvirt-trace $(dpkg-query -W -f '${Version}' libvirt-trace)"
sh smoke >log 2>&1 || { cat log; exit 1; }
said "installed: traces and denies"
test ! -e /etc/systemd/system/multi-user.target.wants/libvirt-trace.service
test -e /usr/share/bash-completion/completions/libvirt-trace

mkdir -p /etc/libvirt-trace /var/log/libvirt-trace
touch /etc/libvirt-trace/policy.toml /var/log/libvirt-trace/segment
dpkg -i new.deb >log 2>&1 || { cat log; exit 1; }
test -e /var/log/libvirt-trace/segment
test "$(find /usr/lib/libvirt-trace/enforcer -name '*.so')" = /usr/lib/libvirt-trace/enforcer/libvirt-trace-enforcer.so
said "upgraded: policies and records stay"

drop_in=/etc/systemd/system/libvirtd.service.d
mkdir -p $drop_in
echo 'Environment=LD_PRELOAD=/usr/lib/libvirt-trace/enforcer/libvirt-trace-enforcer.so' >$drop_in/libvirt-trace.conf
if dpkg -r libvirt-trace >log 2>&1; then
	exit 1
fi
grep -qx 'libvirtd.service would run unguarded: first libvirt-trace enforce --service libvirtd.service --remove, and restart it' log
libvirt-trace --version >/dev/null
rm -r $drop_in
said "not removed while a daemon needs it"

dpkg -r libvirt-trace >log 2>&1 || { cat log; exit 1; }
test -e /var/log/libvirt-trace/segment
dpkg -P libvirt-trace >log 2>&1 || { cat log; exit 1; }
test ! -e /var/log/libvirt-trace
files >after
diff before after
said "purged: nothing is left"
