#!/bin/sh
# Takes away what up.sh made, and nothing else: it reads what up.sh noted. It may be run after a
# crash of any part, and as often as you like.
set -eu
# shellcheck source=SCRIPTDIR/lab.sh
. "$(dirname -- "$0")/lab.sh"

need_root
if ! [ -d "$state" ]; then
    echo "down.sh: there is no lab"
    exit 0
fi

# Which of the noted processes are still the ones we started? Numbers are used again, but a
# stranger's process is not in our namespace. One that is just ending is in none any more, and is
# waited for too.
ours=''
if [ -e "$state/processes" ]; then
    while read -r pid namespace; do
        if [ "$(ip netns identify "$pid" 2>/dev/null)" = "$namespace" ] ||
            ! readlink "/proc/$pid/ns/net" >/dev/null; then
            ours="$ours $pid"
        fi
    done <"$state/processes"
fi

# signal NAME: send it to each of them. One may have ended by itself meanwhile.
signal() {
    for pid in $ours; do
        kill -s "$1" "$pid" 2>/dev/null || true
    done
}

# Whether all have ended: no such process, or only its exit status is left (Z), for its parent.
all_gone() {
    for pid in $ours; do
        condition=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) || true
        case "$condition" in
        '' | Z) ;;
        *) return 1 ;;
        esac
    done
}

# Ask them to end, which lets nearhop remove its devices; insist after five seconds.
signal TERM
if ! wait_for 5 "the lab's processes to end" all_gone; then
    signal KILL
    wait_for 5 "the lab's processes to be gone" all_gone
fi

# With a namespace go its devices, addresses, routes and drop rules.
if [ -e "$state/namespaces" ]; then
    while read -r namespace; do
        if has_netns "$namespace"; then
            ip netns delete "$namespace"
        fi
    done <"$state/namespaces"
fi

# Last, so that an error above leaves the notes for another try.
rm -r "$state"
