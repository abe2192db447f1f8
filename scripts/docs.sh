#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The page of the admin guide as HTML in build/docs, by the kernel's Makefile and
# its configuration of Sphinx. The pages that it refers to come with it, and no
# others: all of them take minutes.
. "$TOP/scripts/lib.sh"

SPHINX=8.1.3
sphinx=$CACHE/sphinx-$SPHINX
page=admin-guide/syscall-user-dispatch
pages=$page,admin-guide/sysctl/kernel
log=$BUILD/log/docs.log

venv "$sphinx" "Sphinx==$SPHINX" alabaster pyyaml

# To build a page again that did not change would hide what it was warned about.
rm -rf "$BUILD/docs/$page.html" "$BUILD/docs/.doctrees"
make -s -C "$BUILD/linux" htmldocs BUILDDIR="$BUILD/docs" SPHINXBUILD="$sphinx/bin/sphinx-build" \
	SPHINXOPTS="-D master_doc=$page -D include_patterns=$(echo "$pages" | sed 's/[^,]*/&.rst/g') -D exclude_patterns=netlink" \
	>"$log" 2>&1 || die "the documentation could not be built: $(tail -n 1 "$log")" "The whole log: $log"

warnings=$(grep -F "$page." "$log") && die "Sphinx warns about the page:" "$warnings" "The whole log: $log"
say "open $BUILD/docs/$page.html"
