#!/bin/sh
# Makes the three-site lab: a client, three sites, and nearhop between them, each in a network
# namespace of its own.
#
#   up.sh    NEARHOP=/path/to/nearhop and NEARLAB=/path/to/nearlab choose other binaries
set -eu
# shellcheck source=SCRIPTDIR/lab.sh
. "$(dirname -- "$0")/lab.sh"

# program NAME: the newest one that this checkout built, or else the one that is installed.
program() {
    # shellcheck disable=SC2012 # the paths are our own and plain; ls sorts them by age
    built=$(ls -t "$here/../target/release/$1" "$here/../target/debug/$1" 2>/dev/null | head -n 1)
    [ -n "$built" ] || built=$(command -v "$1" || true)
    echo "$built"
}

# start NAME NAMESPACE COMMAND...: run a command there, in the background, its words to NAME.log.
# It first notes its own process number, so that down.sh finds it even if this script dies now.
# setsid: an interrupt typed at the terminal is for this script, not for the lab.
start() {
    name=$1
    namespace=$2
    shift 2
    # shellcheck disable=SC2016 # the inner shell expands these
    setsid ip netns exec "$namespace" \
        sh -c 'echo "$$ $0" >>"$1"; shift; exec "$@"' "$namespace" "$state/processes" "$@" \
        >"$state/$name.log" 2>&1 </dev/null &
    started=$!
}

# ready_or_dead NAME: whether there is any use in waiting on.
ready_or_dead() {
    [ -e "$state/$1.ready" ] || ! kill -0 "$started" 2>/dev/null
}

# wait_ready NAME: until the process that was just started says that it is ready.
wait_ready() {
    status=1
    if wait_for 20 "$1" ready_or_dead "$1"; then
        [ ! -e "$state/$1.ready" ] || return 0
        # It ended instead; its own exit status says what kind of trouble it had.
        status=0
        wait "$started" || status=$?
        echo "up.sh: $1 ended (status $status) before it was ready" >&2
        [ "$status" -ne 0 ] || status=1
    fi
    echo "up.sh: the last lines that $1 wrote:" >&2
    tail -n 20 "$state/$1.log" >&2
    return "$status"
}

# Whatever goes wrong below, nothing stays behind.
undo() {
    status=$?
    trap - EXIT
    [ "$status" -eq 0 ] || "$here/down.sh" >&2
    exit "$status"
}

need_root
need_program ip iproute2
: "${NEARHOP:=$(program nearhop)}" "${NEARLAB:=$(program nearlab)}"
if ! [ -x "$NEARHOP" ] || ! [ -x "$NEARLAB" ]; then
    fail 1 "nearhop and nearlab are not built: cargo build --release --bins"
fi

# A namespace of these names that we did not make is somebody else's: leave it alone.
mkdir "$state" 2>/dev/null || fail 1 "the lab is up, or was left by a crash: run down.sh first"
trap undo EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
: >"$state/namespaces"
: >"$state/processes"
for namespace in nh-r1 nh-client nh-ams nh-fra nh-par; do
    has_netns "$namespace" && fail 1 "there is a namespace $namespace already, not made by up.sh"
    # Noted before it is made, so that a crash in between leaves nothing that down.sh would miss.
    echo "$namespace" >>"$state/namespaces"
    ip netns add "$namespace"
    # A fresh namespace has nothing but a loopback device, and that is down.
    ip -n "$namespace" link set lo up
done

# The sites: the shared addresses on the loopback device, where no neighbour asks for them, and a
# DNS and HTTP server that answers with the site's name.
for site in $sites; do
    ip -n "nh-$site" address add "$anycast4/32" dev lo
    ip -n "nh-$site" address add "$anycast6/128" dev lo nodad
    start "$site" "nh-$site" "$NEARLAB" site --name "$site" \
        --address "$anycast4" --address "$anycast6" --ready-file "$state/$site.ready"
    wait_ready "$site"
done

# The router. It opens a TUN device in each namespace and puts the addresses on; it is ready when
# it knows of every site whether it is well.
start r1 nh-r1 "$NEARHOP" run "$here/three-sites.toml" --ready-file "$state/r1.ready"
wait_ready r1

# Now the devices are there: make each site, and the client, send everything to the router.
for site in $sites; do
    attach "$site" "$(site_number "$site")"
done
ip -n nh-client route replace default dev nh-client
ip -n nh-client -6 route replace default dev nh-client

cat <<END
The lab is up. Try, each as root:
    $here/watch.sh                        which site answers the client
    $here/kill-link.sh ams silent         and heal-link.sh ams
    NEARHOP_SOCKET=$state/r1.sock $NEARHOP show services
    NEARHOP_SOCKET=$state/r1.sock $NEARHOP watch
    $here/down.sh                         take it all away
END
