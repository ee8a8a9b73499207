//! BIRD beside nearhop: it takes the same bytes, and sends the table that it has then.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::{Namespace, wait_for};
use nearlab::traffic::probe::sleep_until;

use super::lab::{LOCAL_AS, Lab, REMOTE_AS, ROUTER, neighbor, peak_mb, processor_s};
use super::speaker::{Ends, Speaker};
use super::table::{Announcer, Table};
use super::{Begun, Load, NEXT_HOP_V6};
use crate::linux;
use crate::program::Bird;
use crate::report::BenchError;

/// BIRD takes the table from the same speaker, then sends it to a router.
pub(super) fn with_bird(table: &Table, repeat: u32) -> Result<(Vec<Load>, Vec<Load>), BenchError> {
    if !linux::finds("bird") {
        return Ok((Vec::new(), Vec::new()));
    }
    let (local, remote) = (Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 1));
    let from = Announcer { asn: REMOTE_AS + 1, v4: local, v6: FEEDER_V6 };
    let ends = Ends { local, asn: from.asn, remote };
    let bytes = Table::encode(&table.routes, from);
    let (mut sent, mut taken) = (Vec::new(), Vec::new());
    for _ in 0..repeat {
        let mut lab = Lab::start(1, 0)?;
        let _feeder = Namespace::make("feeder").map_err(BenchError::environment)?;
        let (up, feeder) = (NetNs::named("up"), NetNs::named("feeder"));
        linux::join(&up, "feed", &feeder)?;
        for (netns, device, host) in [(&up, "feed", 1), (&feeder, "eth", 2)] {
            let mut links = LinkSetup::open(netns).map_err(BenchError::environment)?;
            for address in [format!("10.9.0.{host}/24"), format!("fd00:9::{host}/64")] {
                let address = address.parse().map_err(BenchError::environment)?;
                links.replace_address(device, address).map_err(BenchError::environment)?;
            }
        }
        let bird = Bird::start(&up, "fulltable-bird", &configuration(), false)?;
        let mut speaker = Speaker::open(&feeder, ends)?;
        let begun = speaker.send(&bytes)?;
        let has_all = || match bird.routes()? {
            have if have == table.routes.len() => Ok(Nanos::now()),
            have => Err(format!("BIRD has {have} routes")),
        };
        let loaded = wait_for("BIRD to have the table", LOADED_WITHIN, has_all);
        let loaded = loaded.map_err(BenchError::environment)?;
        let seconds = loaded.since(begun).as_secs_f64();
        let (peak_mb, processor_s) = (peak_mb(bird.pid())?, processor_s(bird.pid())?);
        taken.push(Load { seconds, peak_mb, processor_s, ..Load::default() });
        let begun = Begun::now(&lab)?;
        bird.ask("enable onward").map_err(BenchError::environment)?;
        let published = lab.wait_published(table.routes.len() as u64)?;
        let up = published.up.ok_or_else(|| BenchError::environment("no session with BIRD"))?;
        let mut load = begun.end(&lab, published.at.since(up).as_secs_f64())?;
        load.finish(&mut lab)?;
        let Load { seconds, peak_mb: router, lost, .. } = load;
        eprintln!(
            "by BIRD: {seconds:.3} s, {router:.1} MB, {lost} lost; BIRD itself {peak_mb:.1} MB"
        );
        sent.push(load);
        sleep_until(Nanos::now() + Duration::from_millis(100));
    }
    Ok((sent, taken))
}

fn configuration() -> String {
    let mut text = format!("router id {};\nprotocol device {{ scan time 1; }}\n", neighbor(0));
    let families = |import: &str, export: &str| {
        let of = |family: &str| {
            format!("{family} {{ import {import}; export {export}; next hop self; }};")
        };
        format!("{} {}", of("ipv4"), of("ipv6"))
    };
    let asn = REMOTE_AS + 1;
    let _ = write!(
        text,
        "protocol bgp feeder {{ local 10.9.0.1 as {REMOTE_AS}; neighbor 10.9.0.2 as {asn}; passive; {} }}\n\
         protocol bgp onward {{ disabled; local {} as {REMOTE_AS}; neighbor {ROUTER} as {LOCAL_AS}; {} }}\n",
        families("all", "none"),
        neighbor(0),
        families("none", "all").replace(
            "ipv6 { import none; export all; next hop self;",
            &format!("ipv6 {{ import none; export all; next hop address {NEXT_HOP_V6};")
        ),
    );
    text
}

const FEEDER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2);
const LOADED_WITHIN: Duration = Duration::from_mins(1);
