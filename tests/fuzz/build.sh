#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# build.sh policy|xml|facts OUTPUT COMPILER FLAG...: one of the fuzzed programs, or the judge as a shared library. take_policy and
# drop_policy are the harness's own.
set -eu
cd "$(dirname "$0")/../.."
what=$1 output=$2 compiler=$3
shift 3
parts() { for part; do find enforcer/library -name "$part.c" -printf '%p '; done; }
judge="policy_file policy_copy counts check judge conditions handles text"
if [ "$what" = policy ]; then
	# shellcheck disable=SC2046,SC2086
	set -- "$@" $(parts $judge objects connection) -Wl,--wrap=take_policy,--wrap=drop_policy
elif [ "$what" = facts ]; then
	# shellcheck disable=SC2046,SC2086
	set -- "$@" -shared -fPIC $(parts $judge) -Wl,--wrap=take_policy,--wrap=drop_policy
else
	# shellcheck disable=SC2046
	set -- "$@" $(pkg-config --cflags --libs libxml-2.0)
fi
# shellcheck disable=SC2046
exec "$compiler" -std=gnu11 -g -O1 -w -Ienforcer/library -Ienforcer/build -o "$output" "tests/fuzz/$what.c" $(parts xml xml_name xml_has) "$@"
