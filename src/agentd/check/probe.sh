#!/bin/sh
# Looks, as the root of a throw-away container, whether its image can be a session's, and says what
# it sees on standard output. Run as `sh -c SCRIPT agentd ARGUMENT...`, with
#
#   1  the session user's uid and gid       2  the home of that user
#   3  the record's directory               4  the methodology's manifest, or nothing
#   5  the agent's search path, or nothing  6  the first word of its command, or nothing
#      the programs that a session needs
#
# Nothing that is missing ends it: as much as possible is told at once.
set -u

ids=$1 home=$2 leaf=$3 manifest=$4 path=$5 word=$6
shift 6
work=/agentd-check
lacking=

say() {
	printf 'agentd-check %s %s\n' "$1" "$2"
}

# say_lines WORD TEXT
say_lines() {
	printf '%s\n' "$2" | while IFS= read -r line; do
		say "$1" "$line"
	done
}

has() {
	command -v "$1" >/dev/null 2>&1
}

as_user() {
	gosu "$ids:$ids" env HOME="$home" "$@"
}

# What a search for a program comes to; a shell's own word for it also knows what is none.
# shellcheck disable=SC2016 # the inner shell is to expand it
search='
set -f
usable() { [ -f "$1" ] && [ -x "$1" ] && printf "%s\n" "$1"; }
case $1 in
/*) usable "$1"; exit ;;
esac
IFS=:
for directory in $PATH; do
	usable "$directory/$1" && exit
done
exit 1'

look_for_command() {
	say command-looked-for "$word"
	[ -n "$word" ] || return 0
	if found=$(as_user PATH="${path:-$PATH}" /bin/sh -c "$search" sh "$word"); then
		say command "$found"
	elif found=$(PATH=${path:-$PATH} /bin/sh -c "$search" sh "$word"); then
		# All of home becomes the session user's.
		case $found in
		"$home"/*) say command "$found" ;;
		*) say command-of-root "$found" ;;
		esac
	fi
}

look_at_runa() {
	version=$(as_user runa --version 2>&1)
	say runa-status "$?"
	say_lines runa "$version"
	say runa-mcp-looked-for yes
	# Where runa looks, which follows the links to itself.
	runa=$(command -v runa)
	runa=$(readlink -f "$runa" 2>/dev/null || printf '%s\n' "$runa")
	if mcp=$(as_user PATH="${runa%/*}:${path:-$PATH}" /bin/sh -c "$search" sh runa-mcp); then
		say runa-mcp "$mcp"
	fi
}

write_as_user() {
	chown "$ids:$ids" "$home" "$home/.agentd" "$home/.agentd/audit"
	# shellcheck disable=SC2016 # the inner shell is to expand it
	as_user /bin/sh -c 'umask 077 && mkdir "$1/by-the-session-user" && echo sealed >"$1/by-the-session-user/file"' \
		sh "$leaf" && say written yes
}

# As a session does it: in a directory of the session user, whose .runa leads to the record.
init_methodology() {
	mkdir "$work" && chown "$ids:$ids" "$work" && cd "$work" || return
	as_user ln -s "$leaf" .runa
	said=$(as_user runa init --methodology "$manifest" 2>&1)
	say runa-init "$?"
	say_lines runa-init-says "$said"
}

for tool in "$@"; do
	has "$tool" || {
		lacking=yes
		say missing "$tool"
	}
done
say tools "$*"
if has gosu && has env; then
	look_for_command
	! has runa || look_at_runa
	[ -n "$lacking" ] || write_as_user
	[ -n "$lacking" ] || [ -z "$manifest" ] || init_methodology
fi
say end reached
