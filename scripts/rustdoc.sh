#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The documentation of our crate, private items included, as build/docs/rust: it
# is the design document of the code.
. "$TOP/scripts/lib.sh"

# That a public item refers to a private one is what we want: all are shown.
mkdir -p "$BUILD/docs"
instead_of_rustc rustdoc --document-private-items -Arustdoc::private_intra_doc_links \
	--generate-link-to-definition --output "$BUILD/docs/rust"
