#!/bin/sh
# Kills the link between the router and a site.
#
#   kill-link.sh SITE announced    the device goes down: the router is notified at once
#   kill-link.sh SITE silent       packets vanish both ways and nobody is notified
set -eu
# shellcheck source=SCRIPTDIR/lab.sh
. "$(dirname -- "$0")/lab.sh"

[ $# -eq 2 ] || fail 2 "usage: kill-link.sh SITE announced|silent"
need_site "$1"
case "$2" in
announced | silent) ;;
*) fail 2 "a link dies 'announced' or 'silent', not '$2'" ;;
esac
need_root
need_lab

case "$2" in
announced)
    # The site's end of the TUN device loses its carrier; the kernel notifies whoever listens.
    ip -n "nh-$1" link set "nh-$1" down
    ;;
silent)
    need_program nft nftables
    # Drop what comes from the router and what goes to it; the device stays up. Declaring the table,
    # deleting it and making it again is one transaction: the second time changes nothing.
    in_ns "nh-$1" nft -f - <<END
table inet nh_silence
delete table inet nh_silence
table inet nh_silence {
    chain from_router {
        type filter hook input priority 0
        iifname "nh-$1" drop
    }
    chain to_router {
        type filter hook output priority 0
        oifname "nh-$1" drop
    }
}
END
    ;;
esac
