#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# record.sh TARGET COMMAND...: runs COMMAND. With RECORD=yes, when it ended, how, and for which commit becomes TARGET's row of MATRIX.md.
set -eu
target=$1 matrix=$(dirname "$0")/MATRIX.md
shift
if [ "${RECORD:-}" != yes ]; then exec "$@"; fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
status=0
{ "$@" 2>&1 || echo "$?" >"$folder/status"; } | tee "$folder/output"
if [ -e "$folder/status" ]; then status=$(cat "$folder/status"); fi

# pytest's summaries, and in which kernel or release, where there are several
result=$(sed -n -E 's/^(Linux [^,]*|Debian [a-z]+),.*/\1:/p; s/^=+ (.*) in [0-9.]+s.*/\1/p' "$folder/output" | paste -sd ' ')
commit=$(git -C "$(dirname "$0")" describe --always --dirty 2>/dev/null || echo '?')
{
	# shellcheck disable=SC2016 # Markdown's
	printf '%s\n' 'How each target ended when it was last recorded: `make TARGET RECORD=yes` (without PYTEST_ARGS).' '' \
		'| target | UTC | commit | result |' '|---|---|---|---|'
	{
		sed -n '/^| [a-z]/{/^| target /d;p}' "$matrix" 2>/dev/null | grep -v "^| $target |" || true
		echo "| $target | $(date -u '+%F %H:%M') | $commit | ${result:-$([ "$status" = 0 ] && echo passed || echo no summary)}$([ "$status" = 0 ] || echo " (status $status)") |"
	} | sort
} >"$folder/matrix"
cat "$folder/matrix" >"$matrix"
exit "$status"
