//! The tests. Those of the kernel run in a sandbox, each in its own namespace.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::thread;

use nearhop::kernel::link::{LinkSetup, VethEnd};
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;

use super::Item;
use crate::lab::Namespace;
use crate::lab::silence::{Silencer, Way, has_netem};
use crate::sandbox::Blame;
use crate::sys::{self, TunKind};

/// All tests; must be called inside a sandbox.
pub(super) fn all() -> Vec<Item> {
    let mut items = vec![user_namespace()];
    match Namespace::make(NETNS) {
        Err(error) => items.push(Item {
            found: error.to_string(),
            follows: "no lab can be built".into(),
            mend: Blame::find().mend().into(),
            ..required("network namespaces")
        }),
        Ok(_namespace) => {
            items.push(Item {
                ok: true,
                found: "made one".into(),
                ..required("network namespaces")
            });
            items.extend(devices());
        }
    }
    items.extend([realtime(), cores(), kernel(), clock()]);
    items
}

/// The report when no sandbox could be made; `reported` is the error.
pub(super) fn without_a_sandbox(reported: &str) -> Vec<Item> {
    let blame = Blame::find();
    let refused = Item {
        found: reported.lines().next().unwrap_or("refused").to_owned(),
        follows: "no lab can be built, and nothing that needs one was tested".into(),
        mend: blame.mend().into(),
        ..required("user namespace")
    };
    vec![refused, cores(), kernel(), clock()]
}

fn user_namespace() -> Item {
    // Fields: inside, outside, count (user_namespaces(7)). A count of all IDs means that there is
    // no user namespace.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut fields = map.split_ascii_whitespace().skip(1);
    let found = match (fields.next(), fields.next()) {
        (Some(outside), Some("1")) => format!("root in the lab is user {outside} outside"),
        _ => "not used: running as root".to_owned(),
    };
    Item { ok: true, found, ..required("user namespace") }
}

/// Tests TUN; the other tests need a TUN device.
fn devices() -> Vec<Item> {
    let tun = tun();
    if tun.ok { vec![tun, multi_queue(), veth(), silence(), netem()] } else { vec![tun, veth()] }
}

fn tun() -> Item {
    let item = required("tun");
    match within(|| sys::open_tun("nl-probe", TunKind::Plain).map(drop)) {
        Ok(()) => Item { ok: true, found: "opened one".into(), ..item },
        Err(error) => Item {
            found: format!("/dev/net/tun: {}", said(&error)),
            follows: "no link can be built".into(),
            mend: match error.kind() {
                io::ErrorKind::PermissionDenied => "sudo chmod 0666 /dev/net/tun".into(),
                _ => "sudo modprobe tun".into(),
            },
            ..item
        },
    }
}

fn multi_queue() -> Item {
    let two = || {
        let first = sys::open_tun("nl-probe", TunKind::MultiQueue)?;
        let second = sys::open_tun("nl-probe", TunKind::MultiQueue)?;
        drop((first, second));
        Ok(())
    };
    let follows = "a single worker receives all packets";
    optional("multi-queue tun", within(two), "opened two queues", follows, "")
}

fn veth() -> Item {
    let netns = NetNs::named(NETNS);
    let end = |name: &str| VethEnd { name: name.into(), ifindex: None, netns: netns.clone() };
    let made = LinkSetup::create_veth(&end("nl-veth0"), &end("nl-veth1")).map_err(io::Error::other);
    let follows = "no Ethernet links to other routers";
    optional("veth", made, "made a pair", follows, "sudo modprobe veth")
}

fn silence() -> Item {
    let works = |way: &Way| within_tun(|ifindex| Silencer::with(*way, &netns(), PROBE, ifindex));
    let ways: Vec<_> = Way::ALL.iter().filter(|way| works(way).is_ok()).collect();
    let item = required("silent faults");
    let Some(used) = ways.first() else {
        return Item {
            found: "neither tc nor nft can drop packets".into(),
            follows: "links cannot be killed silently".into(),
            mend: "sudo modprobe -a sch_ingress cls_bpf nf_tables".into(),
            ..item
        };
    };
    let also = if ways.len() > 1 { ", with a second method available" } else { "" };
    Item { ok: true, found: format!("by {used}{also}"), ..item }
}

/// Only reported: impaired links use the same model with and without netem.
fn netem() -> Item {
    let there = within_tun(|ifindex| has_netem(&netns(), ifindex));
    let follows = "nothing: impaired links are emulated in userspace everywhere";
    let found = "not used: impaired links are emulated in userspace everywhere";
    optional("netem", there, found, follows, "")
}

fn realtime() -> Item {
    let tried = thread::spawn(sys::become_realtime).join();
    realtime_if(tried.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
}

/// What follows from whether a thread could enter real time. In a user namespace the limit alone counts, also for
/// root.
fn realtime_if(outcome: io::Result<()>) -> Item {
    let follows =
        "while cores are busy checks may be late, and BFD below 20 ms is not to be relied on";
    optional("SCHED_FIFO", outcome, "permitted", follows, "sudo prlimit --pid $$ --rtprio=1")
}

fn cores() -> Item {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Item {
        ok: cores >= 2,
        found: format!("{cores}{}", follows_from(cores)),
        follows: "router, sites and clients take turns on one core: measured times mean little"
            .into(),
        name: "cores".into(),
        ..Item::default()
    }
}

/// What so many cores mean for what a lab measures, if it is met.
const fn follows_from(cores: usize) -> &'static str {
    match cores {
        0 | 1 => "",
        2 | 3 => {
            ": fewer than a lab's busy threads, so packets wait for their turn, for milliseconds at times; \
             the demo measures that, and judges no speed that it hides"
        }
        _ => ": router, sites and clients run side by side",
    }
}

fn kernel() -> Item {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    Item {
        ok: version(&release).is_some_and(|version| version >= OLDEST_TRIED),
        follows: format!("older than {}.{}, not tested", OLDEST_TRIED.0, OLDEST_TRIED.1),
        found: release,
        name: "kernel".into(),
        ..Item::default()
    }
}

/// The smallest difference between two readings of the clock.
fn clock() -> Item {
    let mut least = u64::MAX;
    let mut last = Nanos::now();
    for _ in 0..CLOCK_READINGS {
        let now = Nanos::now();
        if now > last {
            least = least.min(now.0 - last.0);
        }
        last = now;
    }
    Item {
        ok: least <= CLOCK_STEP_MAX,
        found: format!("steps of {least} ns"),
        follows: "blackouts are not measured more precisely than that".into(),
        name: "clock".into(),
        ..Item::default()
    }
}

fn required(name: &str) -> Item {
    Item { name: name.to_owned(), required: true, ..Item::default() }
}

fn optional(name: &str, outcome: io::Result<()>, found: &str, follows: &str, mend: &str) -> Item {
    let name = name.to_owned();
    match outcome {
        Ok(()) => Item { name, ok: true, found: found.to_owned(), ..Item::default() },
        Err(error) => Item {
            name,
            found: said(&error),
            follows: follows.to_owned(),
            mend: mend.to_owned(),
            ..Item::default()
        },
    }
}

/// What an error means, in words.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "this kernel has none".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted".to_owned(),
        io::ErrorKind::Unsupported => "this kernel cannot do it".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_owned()
        }
    }
}

fn netns() -> NetNs {
    NetNs::named(NETNS)
}

fn within<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    netns().within(work).map_err(io::Error::other)?
}

/// Runs `work` in a namespace with a TUN device, which is removed afterwards.
fn within_tun<T>(work: impl FnOnce(u32) -> io::Result<T>) -> io::Result<T> {
    let _held = within(|| sys::open_tun(PROBE, TunKind::Plain))?;
    let mut links = LinkSetup::open(&netns()).map_err(io::Error::other)?;
    work(links.status(PROBE).map_err(io::Error::other)?.ifindex)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

const NETNS: &str = "nearlab-doctor";
const PROBE: &str = "nl-probe";
const CLOCK_READINGS: usize = 10_000;
const CLOCK_STEP_MAX: u64 = 10_000;
/// Debian 11's kernel.
const OLDEST_TRIED: (u32, u32) = (5, 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_words() {
        for (number, want) in [
            (libc::ENOENT, "this kernel has none"),
            (libc::EPERM, "not permitted"),
            (libc::EOPNOTSUPP, "this kernel cannot do it"),
            (libc::ENOBUFS, "No buffer space available"),
        ] {
            assert_eq!(said(&io::Error::from_raw_os_error(number)), want);
        }
        assert!(follows_from(1).is_empty() && follows_from(2).contains("turn"));
    }

    #[test]
    fn without_real_time_bfd_is_not_to_be_relied_on() {
        let refused = realtime_if(Err(io::Error::from_raw_os_error(libc::EPERM)));
        assert!(!refused.ok && !refused.required, "labs work: {refused:?}");
        assert_eq!(refused.found, "not permitted");
        assert!(refused.follows.contains("BFD below 20 ms"), "{refused:?}");
        assert!(refused.mend.contains("rtprio"), "{refused:?}");
        let permitted = realtime_if(Ok(()));
        assert!(permitted.ok && permitted.follows.is_empty(), "{permitted:?}");
    }

    #[test]
    fn kernel_versions_are_compared_as_numbers() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert!(version("6.1").unwrap() > version("5.99.1").unwrap());
        assert_eq!(version("unknown"), None);
    }
}
