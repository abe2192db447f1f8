#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Whether ./guest runs commands as env, sudo or ssh do, as KTAP. Each test boots a
# guest. Nothing is a matter of time: each side waits for what the other one says.
. "$TOP/scripts/lib.sh"
# What fails is for check to say.
set +e
exec </dev/null

tmp=$(mktemp -d)
hidden=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$tmp" "$hidden"' EXIT
trap 'exit 130' INT TERM HUP
# Where guests have their sockets, by which they are known.
export TMPDIR="$tmp"
number=0

# None that hangs is waited for for ever.
guest() { "$TOP/guest" -t 900 "$@"; }

# check NAME: whether $seen is $right. What is said is for whoever looks for the cause.
check() {
	number=$((number + 1))
	if [ "$seen" = "$right" ]; then
		echo "ok $number $1"
	else
		printf '%s\n' "expected: $right" "seen: $seen" "$(cat "$tmp/err" 2>/dev/null)" | sed 's/^/# /'
		echo "not ok $number $1"
	fi
}

# status NAME RIGHT COMMAND...
status() {
	name=$1 right=$2
	shift 2
	seen=0
	"$@" >"$tmp/out" 2>"$tmp/err" </dev/null || seen=$?
	# The command has run, and nothing else is said.
	seen="$seen $(cat "$tmp/out")"
	check "$name"
}

echo "KTAP version 1"

right=$(printf '[%s]' 'a  b' '' '$HOME' "it's" '"*"' 'one
two' '\n' '-k')
seen=$(guest -- printf '[%s]' 'a  b' '' '$HOME' "it's" '"*"' 'one
two' '\n' '-k' 2>"$tmp/err")
check "arguments: arrive as they were typed"

home=$HOME
[ -d "$home" ] || home=/root
right="$home root"
seen=$(cd / && make -s -C "$TOP" exec CMD='echo $HOME $(id -un)' 2>"$tmp/err")
check "arguments: make exec takes a command of the shell as it is"

head -c 1000000 /dev/urandom >"$tmp/random"
right=$(sha256sum <"$tmp/random")
seen=$(guest cat <"$tmp/random" 2>"$tmp/err" | sha256sum)
check "streams: a megabyte of anything comes back"

mkfifo "$tmp/to" "$tmp/from"
guest cat <"$tmp/to" >"$tmp/from" 2>"$tmp/err" &
exec 3>"$tmp/to" 4<"$tmp/from"
right="one two"
echo one >&3
read -r first <&4
echo two >&3
read -r second <&4
exec 3>&- 4<&-
wait $!
seen="$first $second"
check "streams: each line arrives before the next is sent"

right="through the device"
seen=$(guest sh -c 'echo through the device >/dev/stdout' 2>"$tmp/err")
check "streams: /dev/stdout is the standard output"

right="out err"
seen="$(guest sh -c 'echo out; echo err >&2' 2>"$tmp/err") $(cat "$tmp/err")"
check "streams: standard output and error are apart"

right="y 141"
seen=$({ guest yes 2>"$tmp/err" || echo $? >"$tmp/status"; } | head -n 1; cat "$tmp/status")
seen=$(echo $seen)
check "streams: a reader that is gone ends the command"

right="125 No space left on device"
seen=$(guest seq 1000000 2>"$tmp/err" >/dev/full; echo $?)
seen="$seen $(grep -o 'No space left on device' "$tmp/err")"
check "streams: what cannot be written is said"

right=0
seen=$(guest sh -c 'yes & sleep 1' 2>"$tmp/err" >/dev/null; echo $?)
check "streams: who goes on writing does not keep the guest"

right="31 97"
seen=$(script -qec "stty rows 31 cols 97; '$TOP/guest' stty size" /dev/null </dev/null 2>"$tmp/err" | tr -d '\r' | grep -o '[0-9]* [0-9]*$')
check "terminal: the command has one where the caller has, of the same size"

right="out err"
seen="$(script -qec "'$TOP/guest' sh -c 'echo out; echo err >&2' 2>'$tmp/apart'" /dev/null 2>"$tmp/err" | tr -d '\r' | grep -o 'out.*') $(cat "$tmp/apart")"
check "terminal: standard error can be somewhere else"

# The command says that it is there, then its terminal changes.
mkfifo "$tmp/ready"
cat >"$tmp/resized" <<END
{ read -r _ <"$tmp/ready"; stty rows 50 cols 90 </dev/tty; } &
exec "$TOP/guest" sh -c 'trap "stty size; exit" WINCH; echo >&2; while :; do sleep 1; done' 2>"$tmp/ready"
END
right="50 90"
seen=$(script -qec "sh '$tmp/resized'" /dev/null 2>"$tmp/err" | tr -d '\r' | grep -o '[0-9]* [0-9]*$')
check "terminal: its size is followed"

for code in 0 1 2 7 124 125 126 127 130 137 255; do
	status "status: $code" "$code done" guest sh -c "echo done; exit $code"
done
status "status: a signal that kills the command" "139 done" guest sh -c 'echo done; kill -SEGV $$'

# fails NAME STATUS SAYS COMMAND...
fails() {
	name=$1 says=$3 right="$2, and says so"
	shift 3
	"$@" >"$tmp/out" 2>"$tmp/err" </dev/null && seen=0 || seen=$?
	! grep -q "$says" "$tmp/err" || seen="$seen, and says so"
	check "$name"
}
fails "status: a command that is not there" 127 "command not found" guest no-such-command
fails "status: a path that is not there" 127 "No such file" guest ./no-such-command
fails "status: a command that cannot be executed" 126 "Permission denied" guest /etc/passwd
fails "end: a panic" 125 "sysrq triggered crash" guest sh -c 'echo c >/proc/sysrq-trigger; sleep 1000'
fails "end: a panic for want of memory" 125 "panic_on_oom" guest -m 512M sh -c 'echo 1 >/proc/sys/vm/panic_on_oom; tail /dev/zero'
fails "end: switched off" 125 "ended before the command" guest sh -c 'poweroff -f; sleep 1000'
fails "end: a kernel that does not boot" 125 "could not boot" guest -a root=/dev/nonsense true
fails "end: a time-out while it boots" 125 "did not end within 1 s" "$TOP/guest" -t 1 true
fails "end: a time-out" 125 "did not end within 60 s" "$TOP/guest" -t 60 sh -c 'echo done; sleep 1000'
right=done
seen=$(cat "$tmp/out")
check "end: a time-out comes while the command runs"
fails "errors: an option that is unknown" 125 "unexpected argument" guest --nonsense true
fails "errors: a kernel that is unknown" 125 "none of ours, c, upstream" guest -k nonsense true
fails "errors: a directory that is not there" 125 "/nonsense" guest -w /nonsense true
fails "errors: a directory that the guest has of its own" 125 "of its own" guest -w /run true
fails "errors: a console that cannot be kept" 125 "/nonsense/console" guest --console /nonsense/console true
fails "errors: a fragment that is not there" 125 "FRAGMENT=nonsense" env FRAGMENT=nonsense "$TOP/guest" true

# signalled NAME SIGNALS STATUS COMMAND [IGNORED]: sent when the command says so, and again
# each time it says so again. Whoever starts it ignores the signals IGNORED.
signalled() {
	name=$1 signals=$2 right=$3
	rm -f "$tmp/from"
	mkfifo "$tmp/from"
	setsid env --default-signal=INT ${5:+--ignore-signal=$5} "$TOP/guest" -t 900 sh -c "$4" \
		>"$tmp/from" 2>"$tmp/err" </dev/null &
	while read -r _; do
		for signal in $signals; do kill -"$signal" $!; done
	done <"$tmp/from"
	wait $! && seen=0 || seen=$?
	check "$name"
}
signalled "Ctrl-C: ends the command" INT 130 'echo; exec sleep 1000'
signalled "Ctrl-C: twice, ends a guest whose command goes on" INT 130 'trap echo INT; echo; while :; do sleep 1; done'
signalled "signals: SIGHUP ends the command" HUP 129 'echo; exec sleep 1000'
signalled "signals: SIGTERM ends the guest, too" TERM 143 'trap "" TERM; echo; while :; do sleep 1; done'
signalled "signals: SIGHUP is ignored where it is by the caller" "HUP TERM" 143 'echo; exec sleep 1000' HUP

# pressed NAME STATUS COMMAND: on a terminal, each time that the command says so. The
# terminal is as it was before.
pressed() {
	name=$1 right="$2 same"
	rm -f "$tmp/ready"
	mkfifo "$tmp/ready"
	echo "$3" >"$tmp/command"
	cat >"$tmp/session" <<-END
		before=\$(stty -g)
		"$TOP/guest" -t 900 sh "$tmp/command" 2>"$tmp/ready"
		echo \$? >"$tmp/status"
		[ "\$(stty -g)" != "\$before" ] || echo same >>"$tmp/status"
	END
	while read -r _; do printf '\003'; done <"$tmp/ready" |
		setsid script -qc "sh '$tmp/session'" /dev/null >"$tmp/out" 2>"$tmp/err"
	seen=$(echo $(cat "$tmp/status"))
	check "$name"
}
pressed "Ctrl-C: on a terminal, ends the command" 130 'echo >&2; exec sleep 1000'
pressed "Ctrl-C: on a terminal, twice at once, ends the guest" 130 \
	'trap "echo >&2; echo >&2" INT; echo >&2; while :; do sleep 1; done'

# What the command wrote waits for a reader who does not come.
mkfifo "$tmp/unread"
exec 3<>"$tmp/unread"
rm -f "$tmp/from"
mkfifo "$tmp/from"
"$TOP/guest" -t 900 sh -c 'head -c 100000 /dev/zero; echo >&2' >"$tmp/unread" 2>"$tmp/from" &
read -r _ <"$tmp/from"
kill -TERM $!
wait $!
seen=$? right=143
exec 3>&-
check "signals: SIGTERM ends a guest that nobody reads"

# killed NAME: the guest is, which says so.
killed() {
	seen=
	read -r _ <"$tmp/from" || seen="it did not run"
	kill -KILL $!
	wait $! 2>/dev/null
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		pgrep -f "$tmp/sud-guest-" >/dev/null || break
		sleep 1
	done
	right=
	seen=$seen$(pgrep -af "$tmp/sud-guest-")
	check "$1"
}
"$TOP/guest" -t 900 sh -c 'echo; exec sleep 1000' >"$tmp/from" 2>"$tmp/err" &
killed "end: of a guest whose host is killed nothing is left running"
{ timeout 300 sh -c 'until pgrep -f "$0" >/dev/null; do sleep 0.1; done' "qemu-system.*$tmp/sud-guest-" && echo; } >"$tmp/from" &
"$TOP/guest" -t 900 sleep 1000 >/dev/null 2>"$tmp/err" &
killed "end: nor of one that boots"

mkdir -p "$tmp/lasts"
right="kept $tmp A=a B=b"
seen=$(cd "$tmp" && B=b guest -w lasts -e A=a -e B -- sh -c '
	echo kept >lasts/file && echo >other && echo >/usr/other && echo >~/other.sud-guest-test && echo "$PWD A=$A B=$B"' 2>"$tmp/err")
seen="$(cat "$tmp/lasts/file") $seen"
check "files: the directory is the caller's, and all can be written"
right=
seen=$(ls -d "$tmp/other" /usr/other ~/other.sud-guest-test 2>/dev/null)
check "files: nothing lasts but what is asked for"

# Whatever a path contains.
odd="$tmp/a b;c,d\"e=f:g'\$h"
mkdir "$odd"
right="kept $odd"
seen=$(cd "$odd" && guest -w . -k "$BUILD/bzImage" -- sh -c 'echo kept >file && echo "$PWD"' 2>"$tmp/err")
seen="$(cat "$odd/file") $seen"
check "files: paths are what they are"

# Where the guest has a directory of its own, the agent is found, too.
cp "$BUILD/bin/guest" "$hidden/guest"
right=0
seen=$("$hidden/guest" true 2>"$tmp/err"; echo $?)
check "files: the program may lie below /var/tmp"

right=
seen=$(pgrep -af "$tmp/sud-guest-")
check "end: nothing is left running"
right=err
seen=$(cd "$tmp" && ls -d err sud-* virtme* 2>/dev/null)
check "end: nothing is left in the directory for temporary files"
echo "1..$number"
