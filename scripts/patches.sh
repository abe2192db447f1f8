#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Add the cover letters to the series, and say how to try them, how to send
# them, and to whom.
. "$TOP/scripts/lib.sh"

repo=$BUILD/series.git

# The rows of the table in a section of the README, without the bars at their ends.
table() { sed -n "/^## $1\$/,/^## ./s/^| *\(.*\) |\$/\1/p" "$TOP/README.md" | grep . ||
	die "README.md has no table in its section '$1'" "The cover letters show it: mend the one or the other."; }

# A table as a mail can show it: its first column has what the others leave of 75
# characters, in several lines where that is too little.
columns() {
	awk -F ' *[|] *' '
		{ for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > wide[i]) wide[i] = length($i) }
		  if (NF > last) last = NF }
		END {
			room = 73
			for (i = 2; i <= last; i++) room -= wide[i] + 2
			if (wide[1] > room) wide[1] = room
			for (row = 1; row <= NR; row++) {
				line = ""
				words = split(cell[row, 1], word, " ")
				for (i = 1; i <= words; i++) {
					if (length(line " " word[i]) > wide[1] + 1) { print "  " line; line = " " }
					line = line (line == "" ? "" : " ") word[i]
				}
				line = sprintf("  %-" wide[1] "s", line)
				for (i = 2; i <= last; i++) line = line sprintf("  %" wide[i] "s", cell[row, i])
				print line
			}
		}'
}

# A table that is too wide even so.
list() { awk -F ' *[|] *' 'NR == 1 { split($0, head) }
	NR > 1 { print "  " $1 "  " head[2] ": " $2 "\n      " head[3] ": " $3 }'; }

# A line "@columns Section@" of the letter stands for that table, and so does
# "@list Section@".
letter() {
	while IFS= read -r line; do
		case $line in
		@*)
			line=${line#@} line=${line%@}
			table "${line#* }" | ${line%% *}
			;;
		*) printf '%s\n' "$line" ;;
		esac
	done <"$TOP/patches/$1/cover-letter"
}

# whom GET_MAINTAINER-OPTION... PATCH...
whom() { (cd "$BUILD/linux" && scripts/get_maintainer.pl --no-git --no-git-fallback --no-rolestats --no-n "$@") |
	sed 's/ (.*//'; }

from=base on=$(git_in "$repo" log -1 --format=%s base)
for name in $SERIES; do
	series=$BUILD/series/$name
	said=$(letter "$name")
	# git takes the letter from the description of a branch, and counts the lines.
	git_in "$repo" branch -qf letter "$name"
	git_in "$repo" config branch.letter.description "$said"
	git_in "$repo" format-patch -q --no-signature --cover-letter --cover-from-description=subject \
		-o "$series" $from..letter
	set -- "$series"/*.patch
	shift
	to=$(whom --no-l --no-r "$@")
	cat <<-END

		The series '$name', on top of $on: $# patches and a cover letter in

		  $series

		To apply it to such a tree in git, and to send it, signed off by whoever does:

		  git am --empty=drop --signoff $series/*.patch
		  git format-patch -$# -o outgoing/$name
		  cp $series/0000-* outgoing/$name/
		  git send-email \\
		$(echo "$to" | sed 's/.*/    --to=& \\/')
		$(whom --no-m "$@" | grep -vxF "$to" | sed 's/.*/    --cc=& \\/')
		    outgoing/$name/*.patch
	END
	from=$name on="the series '$name'"
done
