#!/bin/sh
# Prepares a session container, as its root, and becomes runa at the end.
#
# The same bytes for every session: whatever differs arrives as an argument or in a file, and no
# text is ever quoted into code. Run as `sh -c SCRIPT agentd ARGUMENT...`, with
#
#   1  the agent's name, which is the session user's too
#   2  the repository's URL
#   3  the work unit, or nothing
#   4  the input's artifact type, or nothing      5  its artifact id
#   6  the clone token's scheme, or nothing       7  its user name      8  its origin
#   9  a number of mount targets, then so many targets, whose content keeps its owner
#      a number of variables, then so many triples NAME value VALUE or NAME file PATH
#      the agent's command
#
# A step that fails says so in one line and ends with status 6, so that no status of a tool can be
# mistaken for one of runa's own.
set -eu

# A variable that the image exports stays exported when it is assigned here, and every program would
# see it, a token included. Those of these names are the setup's; the agent does not get them.
unset agent_words artifact_id artifact_type audit_leaf commit count document file gosu helper home \
	ids line methodology name newline others own protocols repo repo_url runa secret status step \
	token_file token_origin token_scheme token_username tool tools unused user variable variables \
	work_unit

ids=10001
audit_leaf=.agentd/audit/runa
methodology=/agentd/methodology/manifest.toml
document=/agentd/invocation-input/document.json
token_file=/agentd/credentials/repo-token
tools='cat chown cp env find git gosu groupadd ln mkdir rm runa useradd'

newline='
'
step=arguments

fail() {
	trap - EXIT
	printf "agentd: setup step '%s' failed: %s\n" "$step" "$1" >&2
	exit 6
}

on_exit() {
	status=$?
	[ "$status" -eq 0 ] || fail "status $status"
}
trap on_exit EXIT

stopped() {
	trap - EXIT
	printf "agentd: stopped during setup step '%s'\n" "$step" >&2
	exit 130
}
trap stopped INT

user=$1 repo_url=$2 work_unit=$3 artifact_type=$4 artifact_id=$5
token_scheme=$6 token_username=$7 token_origin=$8
shift 8
home=/home/$user
repo=$home/repo

check_image() {
	for tool in $tools; do
		command -v "$tool" >/dev/null ||
			fail "the image has no '$tool'; a session image needs: sh $tools"
	done
}

# What the image sets must not steer git, nor pass for something that agentd sets.
clean_environment() {
	for name in $(env | while IFS='=' read -r variable _; do
		case $variable in
		*[!A-Za-z0-9_]*) ;;
		GIT_* | AGENTD_* | AGENT_NAME) printf '%s\n' "$variable" ;;
		esac
	done); do
		unset "$name"
	done
}

# split_entries FILE: the user's own line into $own, all others into $others. A last line may lack
# its newline.
split_entries() {
	own='' others=''
	while IFS= read -r line || [ -n "$line" ]; do
		case $line in
		"$user":*) own=$line$newline ;;
		*) others=$others$line$newline ;;
		esac
	done <"$1"
}

# The uid is fixed, because the host maps it to the daemon's user. A user of that name that came
# with the image gives way; another that has the uid stays, but a look-up by uid finds ours first.
# The files keep their owners and modes.
make_user() {
	for file in /etc/passwd /etc/shadow /etc/group /etc/gshadow; do
		[ -f "$file" ] || continue
		split_entries "$file"
		printf '%s' "$others" >"$file"
	done
	groupadd --gid "$ids" --non-unique "$user"
	useradd --uid "$ids" --non-unique --gid "$user" --home-dir "$home" --no-create-home \
		--no-log-init --shell /bin/sh "$user"
	for file in /etc/passwd /etc/group; do
		split_entries "$file"
		printf '%s' "$own$others" >"$file"
	done
	mkdir -p "$home/$audit_leaf"
}

# own_home COUNT TARGET... [WORD...]: all of home but what is mounted there, and the clone to come.
own_home() {
	count=$1
	shift
	unused=$(($# - count))
	set -- "$@" "$home" -mindepth 0 '(' -path "$home/$audit_leaf" -o -path "$repo"
	while [ "$count" -gt 0 ]; do
		set -- "$@" -o -path "$1"
		shift
		count=$((count - 1))
	done
	shift "$unused"
	find "$@" ')' -prune -o -exec chown -h "$user:$user" '{}' +
	chown "$user:$user" "$home/$audit_leaf"
}

# read_secret FILE: its bytes in $secret, newlines at the end included; the host's copy is emptied.
read_secret() {
	secret=$(cat "$1" && printf x)
	secret=${secret%x}
	: >"$1"
}

git_as_user() {
	gosu "$user:$user" env HOME=/nonexistent GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0 \
		GIT_ALLOW_PROTOCOL="$protocols" \
		git -c credential.helper= -c core.askPass= -c core.hooksPath=/dev/null "$@"
}

# Since git 2.46 a helper can answer with a token that is no password.
helper_takes_bearer() {
	case $(git_as_user credential capability 2>/dev/null || :) in
	*'capability authtype'*) ;;
	*) return 1 ;;
	esac
}

# What a credential helper says to git, gitcredentials(7).
helper_answer() {
	case $token_scheme in
	basic) printf 'username=%s\npassword=%s\n' "$token_username" "$secret" ;;
	bearer) printf 'capability[]=authtype\nauthtype=Bearer\ncredential=%s\n' "$secret" ;;
	esac
}

# The token reaches git through a pipe that one read drains. Where a bearer token cannot go that
# way, it is in the environment of this one process, and a redirect must not carry it away.
clone_with_token() {
	read_secret "$token_file"
	if [ "$token_scheme" = basic ] || helper_takes_bearer; then
		# shellcheck disable=SC2016 # git's shell is to expand it
		helper='!f() { [ "$1" != get ] || cat <&3; }; f'
		helper_answer |
			git_as_user -c "credential.$token_origin.helper=$helper" "$@" 3<&0 </dev/null
	else
		(
			export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="http.$token_origin.extraHeader"
			export GIT_CONFIG_VALUE_0="Authorization: Bearer $secret"
			git_as_user -c http.followRedirects=false "$@"
		)
	fi
	secret=
}

# The files are laid out by a git of its own, since a filter, which the repository may choose among
# those of the image, must find no token around itself.
clone() {
	rm -rf "$repo"
	protocols=https:http:git
	set -- clone --quiet --no-checkout --no-hardlinks --template= -- "$repo_url" "$repo"
	if [ -n "$token_scheme" ]; then
		protocols=https
		clone_with_token "$@"
	else
		git_as_user "$@"
	fi
	cd "$repo"
	if commit=$(git_as_user rev-parse --verify --quiet HEAD); then
		git_as_user checkout --quiet
		printf 'agentd: cloned %s\n' "$commit"
	fi
}

bridge_runa() {
	if [ -e "$repo/.runa" ] || [ -L "$repo/.runa" ]; then
		fail 'repo root .runa is reserved by agentd for persistent audit state'
	fi
	gosu "$user:$user" ln -s "$home/$audit_leaf" "$repo/.runa"
}

place_input() {
	[ -n "$artifact_type" ] || return 0
	gosu "$user:$user" mkdir -p ".runa/workspace/$artifact_type"
	gosu "$user:$user" cp "$document" ".runa/workspace/$artifact_type/$artifact_id.json"
}

step=check-image
check_image
clean_environment

step=make-user
make_user
gosu "$user:$user" runa --version >/dev/null || fail "runa does not run as the session user"

step='own-home'
own_home "$@"
shift "$(($1 + 1))"

# A shell obeys a signal when its command has ended, or at once when it waits for one beside it: a
# clone that hangs must not keep a session from being stopped.
step=clone
clone &
wait "$!"
cd "$repo"

step=bridge-runa
bridge_runa

step='runa-init'
gosu "$user:$user" runa init --methodology "$methodology"

step=place-input
place_input

step=credentials
gosu=$(command -v gosu)
runa=$(command -v runa)
variables=$1
shift
agent_words=$(($# - 3 * variables))
while [ "$variables" -gt 0 ]; do
	if [ "$2" = file ]; then
		read_secret "$3"
	else
		secret=$3
	fi
	set -- "$@" "$1" "$secret"
	shift 3
	variables=$((variables - 1))
done
secret=
set -- "$@" AGENT_NAME "$user"
if [ -n "$work_unit" ]; then
	set -- "$@" AGENTD_WORK_UNIT "$work_unit" -- "$gosu" "$user:$user" "$runa" run \
		--work-unit "$work_unit" --agent-command --
else
	set -- "$@" -- "$gosu" "$user:$user" "$runa" run --agent-command --
fi
while [ "$agent_words" -gt 0 ]; do
	set -- "$@" "$1"
	shift
	agent_words=$((agent_words - 1))
done

# From here on only positional parameters are used, since a credential may have any name, PATH and
# those of the variables above included.
unset OLDPWD
trap - INT
trap 'echo "agentd: setup step '"'start'"' failed: gosu cannot start a program with the command,\
 variables and credentials of this session: they and the variables of the image may be too large\
 together" >&2
exit 6' EXIT
while [ "$1" != -- ]; do
	export "$1=$2"
	shift 2
done
shift
# Of a failing exec not every shell tells: the same start is tried with a program that does nothing.
"$1" "$2" /bin/sh -c : "$@" </dev/null >/dev/null 2>&1 || exit 6
exec "$@"
