#!/bin/sh
# Asks the shared addresses from the client, over and over, and prints which site answered.
#
#   watch.sh [COUNT]    so many lines, about five a second; 100 unless given
set -eu
# shellcheck source=SCRIPTDIR/lab.sh
. "$(dirname -- "$0")/lab.sh"

count=${1:-100}
case "$count" in
'' | *[!0-9]*) fail 2 "usage: watch.sh [COUNT]" ;;
esac
need_root
need_program dig bind9-dnsutils
need_lab

while [ "$count" -gt 0 ]; do
    echo "$(date +%T)  ipv4 $(ask "$anycast4")  ipv6 $(ask "$anycast6")"
    count=$((count - 1))
    sleep 0.2
done
