#!/bin/sh
# Undoes what kill-link.sh did to a site's link, in whichever way it died. A link that is well
# stays so.
#
#   heal-link.sh SITE
set -eu
# shellcheck source=SCRIPTDIR/lab.sh
. "$(dirname -- "$0")/lab.sh"

[ $# -eq 1 ] || fail 2 "usage: heal-link.sh SITE"
need_site "$1"
need_root
need_lab

# A silent death: take the drop rules away. Without nft there cannot be any.
if command -v nft >/dev/null; then
    in_ns "nh-$1" nft -f - <<END
table inet nh_silence
delete table inet nh_silence
END
fi

# An announced death: the device up, and the addresses and routes again that went down with it.
attach "$1" "$(site_number "$1")"
