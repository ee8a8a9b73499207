//! What `--help` and the manual say of commands at length.
#![forbid(unsafe_code)]

pub(super) const WATCH: &str = "Follow a running router's events, until Ctrl-C.

On a terminal an event is a line for people: the time in UTC, its kind, and what happened. Elsewhere, and \
with --json, it is one JSON object per line (nearhop.event.v1). A router remembers its latest 16,384 \
events, of 8 MiB at most; --since begins with these, and says when there were more.

If the router ends, the command says so and exits with 4; if the reader of standard output ends, with 0.";

pub(super) const DRAIN: &str = "Drain a site: its flows move to other sites, and it serves only where nobody else is left.

All its flows move at once, those that are there too: the router keeps no table of flows. No packet is lost by that: \
what is on its way to the site is still answered. What is one question and one answer, such as DNS by UDP, goes on \
at the next site; a TCP connection ends, because the next site does not know it and resets it. Its client has to \
connect once more. The answer says who serves each service now, and how many sites are left.

A drain is kept over reloads, and over restarts if [router] has a state-dir, until `nearhop undrain`. The site is \
checked meanwhile, and serves again where no other site is up and no other route covers the service.

What is announced by BGP changes where fewer sites are left than min-sites of a service.

With --router, all that the router announces is made what nobody should prefer (GRACEFUL_SHUTDOWN, a longer path, the \
worst MED), so that neighbours move traffic to other routers while this one still forwards it. After drain-wait in [bgp] \
it is withdrawn. That is kept as the drain of a site is, until `nearhop undrain --router`.";

pub(super) const UNDRAIN: &str = "Use a drained site again.

Flows that it is the best site for move to it at once, those that are there too. A TCP connection that moves ends, \
because the site does not know it.";

pub(super) const DISABLE: &str = "Disable a site: its flows move to other sites, and it never serves until it is enabled.

Flows move as by `nearhop drain`: at once, and their TCP connections end. A disabled site does not serve even where \
nobody else is left.";

pub(super) const ENABLE: &str = "Use a disabled site again.

Once its checks pass, flows that it is the best site for move to it, those that are there too. A TCP connection that \
moves ends, because the site does not know it.";

pub(super) const BLOCK: &str = "Block a prefix: its packets are discarded here, and by neighbours that have blackhole = true.

A blocked prefix beats every other route to it, from whatever source. A longer prefix in it keeps its own routes, so \
that a service or a customer in the middle of a blocked network is served. Neighbours with blackhole = true in their \
[[bgp.neighbor]] hear of it with the communities BLACKHOLE (RFC 7999) and NO_EXPORT.

A prefix that has an address of the router, of a neighbour or of a service is refused unless --force is given. Blocks \
are kept over reloads, and over restarts if [router] has a state-dir, until `nearhop unblock`; `nearhop show blocks` \
lists them. There are 1,024 at most.";

pub(super) const LOOKUP: &str = "Look up addresses in a file of routes, without a router.

The file has lines PREFIX NEXTHOP, where NEXTHOP is any word; IPv4 and IPv6 may be mixed, and # \
begins a comment. If a prefix appears twice, the last line counts. If any line is invalid, the \
command fails and answers nothing.

Each address gets one line, in input order: ADDRESS PREFIX NEXTHOP, or ADDRESS - - if no prefix \
covers it. An invalid address is reported on standard error as ADDRESS ! REASON; the others are \
still answered, and the exit status is 2.

With --json a line is {\"schema\":\"nearhop.lookup.v1\",\"address\":...,\"prefix\":...,\"next_hop\":...}, with \
null for what there is not. That of an invalid address has \"error\" too, and nothing is on standard error.";
