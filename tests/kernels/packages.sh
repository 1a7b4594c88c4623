#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# packages.sh META KINDS APT-CACHE...: the image's package of the kernel that META depends on, then those of its parts of these kinds;
# from Linux 7 on the kernel itself ("binary") and its modules ("modules") have packages of their own.
set -eu
meta=$1 kinds=$2
shift 2
image=$("$@" depends "$meta" | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
: "${image:?apt knows no kernel behind $meta: add bookworm-security, then apt-get update}"
parts=$("$@" depends "$image" | awk -v kinds="^linux-($kinds)-" '$1 == "Depends:" && $2 ~ kinds { print $2 }')
# shellcheck disable=SC2086 # a list
echo "$image" $parts
