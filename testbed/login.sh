#!/bin/sh
# As root: runs a command of a user as in a login on a machine under systemd whose cgroups are of
# version 2, whatever this machine has:  login.sh USER COMMAND [ARGUMENT...]
#
# The command sees such cgroups, those below one of the user's own, and a machine that systemd has
# booted, so a `systemd --user` can run in it. What it leaves behind is killed.
set -eu

seen=/sys/fs/cgroup

# The kernel refuses to lay them over themselves.
lay_cgroups() {
    [ "$(stat --file-system --format %T "$seen")" != cgroup2fs ] || umount --lazy "$seen"
    mount -t cgroup2 none "$seen"
}

case ${AGENTD_LOGIN_STAGE-} in
    '')
        AGENTD_LOGIN_STAGE=enter exec unshare --mount --propagation private -- sh "$0" "$@"
        ;;
    enter)
        lay_cgroups
        own=$seen$(sed -n 's/^0:://p' /proc/self/cgroup)
        login=$(mktemp -d "$own/agentd-login-XXXXXX")
        chmod 755 "$login"
        leave() {
            echo 1 >"$login/cgroup.kill"
            while grep -q '^populated 1' "$login/cgroup.events"; do sleep 0.1; done
            find "$login" -depth -type d -exec rmdir {} +
        }
        trap leave EXIT
        (
            echo 0 >"$login/cgroup.procs"
            AGENTD_LOGIN_STAGE=run exec unshare --mount --cgroup -- sh "$0" "$@"
        )
        ;;
    run)
        unset AGENTD_LOGIN_STAGE
        lay_cgroups
        if [ ! -d /run/systemd/system ]; then
            mkdir -p /run/systemd
            mount -t tmpfs none /run/systemd
            mkdir /run/systemd/system
        fi
        user=$1
        shift
        chown "$user:" "$seen" "$seen/cgroup.procs" "$seen/cgroup.threads" "$seen/cgroup.subtree_control"
        [ "$user" != root ] || exec "$@"
        exec runuser -u "$user" -- "$@"
        ;;
esac
