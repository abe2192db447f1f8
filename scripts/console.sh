#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# console.sh CONSOLE: whether a debug kernel has nothing to report, as KTAP. What
# it reports precedes the result as comments.
. "$TOP/scripts/lib.sh"

# Whatever watches the kernel says one of these; the trace stands for what else
# may come.
report='BUG|WARNING|KASAN:|UBSAN:|ODEBUG:|INFO: |Oops|Kernel panic|panicked at|list_.* corruption|Call Trace:'
# An empty log, or that of another kernel, is not a clean one.
watching='KernelAddressSanitizer initialized|Lock dependency validator'

echo "KTAP version 1"
echo "1..2"
if [ "$(grep -oE "$watching" "$1" | sort -u | wc -l)" = 2 ]; then echo "ok 1 console: the kernel is watching itself"
else echo "not ok 1 console: the kernel is watching itself"; fi
if grep -E "$report" "$1" | sed 's/^/# /' | grep .; then echo "not ok 2 console: nothing is reported"
else echo "ok 2 console: nothing is reported"; fi
