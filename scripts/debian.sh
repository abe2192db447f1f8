# SPDX-License-Identifier: GPL-2.0
# Packages of Debian beyond the suite of this machine, to be unpacked and not
# installed: by an apt of our own, with its own lists and cache, the machine's
# mirror and proxy. Nothing under /etc changes.

apt=$CACHE/apt
papt() { tool=$1; shift; APT_CONFIG=$apt/apt.conf "$tool" "$@"; }

# The hooks of the machine's configuration are not for us; one that container
# images carry deletes the packages of an installation that runs meanwhile.
# What one script has looked up serves those that follow.
private_apt() {
	log=$1 remedy=$2
	have apt-get || die "no apt-get to fetch Debian's packages with" "$remedy"
	[ -z "$(find "$apt/lists.stamp" -mmin -60 2>/dev/null)" ] || return 0
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	mirror=$(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(.*/debian\)/*/dists/.*|\1|p" | head -n 1)
	[ -n "$mirror" ] || die "the apt of this machine has no mirror of Debian" \
		"Name one in /etc/apt/sources.list, as Debian's installer does. $remedy"
	keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	[ -e $keyring ] || die "no keyring to verify Debian's archive with" \
		"Install debian-archive-keyring. $remedy"
	: >"$apt/sources.list"
	for suite in trixie-backports sid forky trixie bookworm; do
		echo "deb [signed-by=$keyring] $mirror $suite main" \
			>>"$apt/sources.list"
	done
	cat >"$apt/apt.conf" <<-CONF
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Post-Invoke;
		Dir::Etc::sourcelist "$apt/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::State::lists "$apt/lists";
		Dir::Cache "$apt/cache";
		Acquire::Languages "none";
		Acquire::Retries "3";
	CONF
	# A suite that is gone is no failure as long as the others are there.
	papt apt-get -o APT::Update::Error-Mode=any update >"$log" 2>&1 </dev/null ||
		[ -n "$(papt apt-cache search --names-only '^linux-source-')" ] ||
		die "Debian's package lists cannot be fetched: $(grep -m 1 -E '^(E|W):' "$log")" \
			"Is there a network? (whole log: $log) $remedy"
	touch "$apt/lists.stamp"
}

# [LONG=FUNCTION] fetch LOG REMEDY PACKAGE...: into the current directory. FUNCTION runs
# the download, and says how far it is.
fetch() {
	log=$1 remedy=$2
	shift 2
	# shellcheck disable=SC2086 # a list of words
	${LONG:-} env APT_CONFIG="$apt/apt.conf" sh -c 'log=$1; shift; exec apt-get download -q "$@" >>"$log" 2>&1' \
		sh "$log" "$@" </dev/null ||
		die "$* could not be fetched: $(grep -m 1 '^E:' "$log")" \
			"Is there a network? (whole log: $log) $remedy"
}
