# shellcheck shell=sh
# shellcheck disable=SC2034 # what is set here is used by the scripts that source this file
# What the scripts share. They source this file; it does nothing by itself.

# The folder these scripts are in, wherever they are called from.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

# Everything the lab has to remember: what up.sh made, process numbers, logs, sockets. It is under
# /run, so a reboot, which ends the lab, empties it too.
state=/run/nearhop-netns

# Each site is a namespace nh-NAME with a TUN device nh-NAME in it, and so is the client.
sites='ams fra par'

# The addresses that every site serves.
anycast4=198.51.100.53
anycast6=2001:db8:53::53

# Debian leaves the sbin folders out of an ordinary user's PATH; ip and nft live there.
PATH="$PATH:/usr/sbin:/sbin"

# fail STATUS TEXT: say what is wrong and end. 1 it did not work, 2 wrong usage, 3 this machine
# cannot do it.
fail() {
    echo "$(basename "$0"): $2" >&2
    exit "$1"
}

# Network namespaces are for root: of the machine, or of a user namespace (README.md says how).
need_root() {
    [ "$(id -u)" -eq 0 ] || fail 3 "needs root; README.md says how to do without"
}

# need_program NAME PACKAGE: end here rather than half-way.
need_program() {
    command -v "$1" >/dev/null || fail 3 "needs the program $1: apt-get install $2"
}

# Ends unless up.sh was here.
need_lab() {
    [ -e "$state/namespaces" ] || fail 1 "the lab is not up: run up.sh first"
}

# need_site NAME: ends unless that is one of the sites.
need_site() {
    case " $sites " in
    *" $1 "*) ;;
    *) fail 2 "no site is named '$1'; there are: $sites" ;;
    esac
}

# in_ns NAMESPACE COMMAND...: run a command with the network of that namespace.
in_ns() {
    ip netns exec "$@"
}

# wait_for SECONDS WHAT COMMAND...: try the command ten times a second until it succeeds.
wait_for() {
    tries=$(($1 * 10))
    what=$2
    shift 2
    until "$@"; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            echo "$(basename "$0"): gave up waiting for $what" >&2
            return 1
        fi
        sleep 0.1
    done
}

# has_netns NAME: whether there is a namespace of that name.
has_netns() {
    [ -e "/run/netns/$1" ]
}

# attach SITE NUMBER: give a site its way to the router. The kernel forgets routes and IPv6
# addresses when a device is set down, so this serves for the first time and for every later one.
attach() {
    ip -n "nh-$1" link set "nh-$1" up
    # No duplicate address detection: nobody else is on this wire.
    ip -n "nh-$1" address replace "10.0.$2.2/24" dev "nh-$1"
    ip -n "nh-$1" address replace "fd00:0:0:$2::2/64" dev "nh-$1" nodad
    # Answers to whoever asked go back through the router.
    ip -n "nh-$1" route replace default dev "nh-$1"
    ip -n "nh-$1" -6 route replace default dev "nh-$1"
}

# site_number NAME: its place in the list, which is the third byte of its link's addresses.
site_number() {
    number=0
    for site in $sites; do
        number=$((number + 1))
        [ "$site" != "$1" ] || echo "$number"
    done
}

# ask ADDRESS: which site answers the client there? Its name, or "-" if none does within a second.
# id.server is the name under which a DNS server says who it is (RFC 4892).
ask() {
    if reply=$(in_ns nh-client dig +short +time=1 +tries=1 "@$1" id.server CH TXT); then
        echo "$reply" | tr -d '"'
    else
        echo -
    fi
}
