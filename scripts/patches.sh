#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Add the cover letter to the series, and say how to try it, send it, and to whom.
. "$TOP/scripts/lib.sh"

repo=$BUILD/series.git
series=$BUILD/series

# The rows of the table in a section of the README, without the bars at their ends.
table() { sed -n "/^## $1\$/,/^## ./s/^| *\(.*\) |\$/\1/p" "$TOP/README.md" | grep . ||
	die "README.md has no table in its section '$1'" "The cover letter shows it: mend the one or the other."; }

# A line "@columns Section@" of the letter stands for that table, and "@list
# Section@" for one that is too wide for a mail.
letter=$(while IFS= read -r line; do
	case $line in
	@*)
		section=${line#@* }
		rows=$(table "${section%@}")
		;;
	esac
	case $line in
	@columns*) echo "$rows" | column -t -s '|' | sed 's/^/  /; s/ *$//' ;;
	@list*) echo "$rows" | awk -F ' *[|] *' 'NR == 1 { split($0, head) }
		NR > 1 { print "  " $1 "  " head[2] ": " $2 "\n      " head[3] ": " $3 }' ;;
	*) printf '%s\n' "$line" ;;
	esac
done <"$TOP/patches/cover-letter")

# git takes the letter from the description of the branch, and counts the lines.
branch=$(git_in "$repo" symbolic-ref --short HEAD)
git_in "$repo" config "branch.$branch.description" "$letter"
git_in "$repo" format-patch -q --no-signature --cover-letter --cover-from-description=subject -o "$series" base

set -- "$series"/*.patch
cat <<END
The series: $(($# - 1)) patches and a cover letter, for $(git_in "$repo" log -1 --format=%s base)

  $series

To apply it to such a tree in git, and to send it, signed off by whoever does:

  git am --empty=drop $series/*.patch

  git am --empty=drop --signoff $series/*.patch
  git format-patch -$(($# - 1)) -o outgoing && cp $series/0000-* outgoing/
  git send-email --to=... --cc=... outgoing/*.patch

Whom scripts/get_maintainer.pl names for it:

END
shift
cd "$BUILD/linux"
scripts/get_maintainer.pl --no-git --no-git-fallback --no-rolestats "$@" | sed 's/^/  /'
