#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# build.sh policy|xml|facts OUTPUT COMPILER FLAG...: one of the fuzzed programs, or the judge as a shared library. take_policy and
# drop_policy are the harness's own.
set -eu
cd "$(dirname "$0")/../.."
what=$1 output=$2 compiler=$3
shift 3
if [ "$what" = policy ]; then
	set -- "$@" enforcer/library/policy_file.c enforcer/library/counts.c enforcer/library/check.c \
		enforcer/library/judge.c enforcer/library/objects.c enforcer/library/connection.c enforcer/library/text.c -Wl,--wrap=take_policy,--wrap=drop_policy
elif [ "$what" = facts ]; then
	set -- "$@" -shared -fPIC enforcer/library/policy_file.c enforcer/library/counts.c \
		enforcer/library/check.c enforcer/library/judge.c enforcer/library/text.c -Wl,--wrap=take_policy,--wrap=drop_policy
else
	# shellcheck disable=SC2046
	set -- "$@" $(pkg-config --cflags --libs libxml-2.0)
fi
exec "$compiler" -std=gnu11 -g -O1 -w -Ienforcer/library -Ienforcer/build -o "$output" "tests/fuzz/$what.c" enforcer/library/xml_name.c "$@"
