//! Configurations of the sites' daemons and of each router under test, all with the same sessions.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// What a stand is built for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Setup {
    /// BFD's interval, milliseconds; three lost packets are a failure.
    pub bfd_ms: u32,
    /// Prefixes (/24) that both sites announce.
    pub prefixes: usize,
}

impl Setup {
    /// Whether daemons have to run in real time for so short an interval.
    pub fn in_real_time(self) -> bool {
        self.bfd_ms < 10
    }

    /// Destinations spread evenly from the first prefix to the last.
    pub fn destinations(self, flows: usize) -> Vec<Ipv4Addr> {
        let of = |flow: usize| flow * (self.prefixes - 1) / (flows - 1).max(1);
        let flows = flows.min(self.prefixes).max(1);
        (0..flows).map(|flow| Ipv4Addr::from_bits(prefix(of(flow)).to_bits() + 9)).collect()
    }
}

/// A site.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The best.
    A,
    /// The next best: its paths are longer.
    B,
}

impl Place {
    /// As in names of namespaces, ports and neighbours.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The second octet of the link's addresses.
    fn octet(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }
}

/// A site's BIRD.
pub fn site(setup: Setup, place: Place) -> String {
    let n = place.octet();
    let asn = u32::from(n) + 65_001;
    let prepend =
        if place == Place::B { format!("bgp_path.prepend({asn}); ") } else { String::new() };
    let mut text = format!(
        "router id 10.{n}.0.2;\ndebug protocols {{ states, events }};\nprotocol device {{}}\n{}\
         protocol bgp r1 {{ local 10.{n}.0.2 as {asn}; neighbor 10.{n}.0.1 as 65001; {SESSION}\
         ipv4 {{ import none; export filter {{ {prepend}accept; }}; next hop self; }}; }}\n\
         protocol static s4 {{ ipv4;\n",
        bird_bfd(setup)
    );
    for index in 0..setup.prefixes {
        let _ = writeln!(text, "route {}/24 unreachable;", prefix(index));
    }
    text + "}\n"
}

/// nearhop; its ports' namespaces are named after `lab`. `loader` is a third neighbour, behind port `b`.
pub fn nearhop(setup: Setup, lab: &str, loader: bool) -> String {
    let mut text = format!("[router]\nname = \"{lab}\"\nid = \"10.1.0.1\"\n");
    for (index, port) in super::super::config::PORTS.into_iter().enumerate() {
        let _ = write!(
            text,
            "\n[[port]]\nname = \"{port}\"\ntun = \"nh-{port}\"\nnetns = \"{lab}-{port}\"\njoin = false\n\
             addresses = [\"10.{index}.0.1/24\"]\npeer-addresses = [\"10.{index}.0.2/24\"]\n"
        );
    }
    text.push_str("\n[bgp]\nas = 65001\n");
    for place in [Place::A, Place::B] {
        let (name, n) = (place.name(), place.octet());
        let _ = write!(
            text,
            "[[bgp.neighbor]]\nname = \"{name}\"\naddress = \"10.{n}.0.2\"\nas = {}\nimport = \"all\"\n\
             export = \"none\"\nmax-prefixes = 2000000\n\
             bfd = {{ interval = \"{}ms\", multiplier = 3 }}\n",
            u32::from(n) + 65_001,
            setup.bfd_ms
        );
    }
    if loader {
        let _ = write!(
            text,
            "[[bgp.neighbor]]\nname = \"loader\"\naddress = \"{LOADER}\"\nas = {LOADER_AS}\n\
             passive = true\nimport = \"all\"\nexport = \"none\"\nmax-prefixes = 2000000\n"
        );
    }
    text
}

/// BIRD under test.
pub fn bird(setup: Setup) -> String {
    let mut text = format!(
        "router id 10.1.0.1;\nprotocol device {{}}\nprotocol direct {{ ipv4; }}\n{}\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n",
        bird_bfd(setup)
    );
    for place in [Place::A, Place::B] {
        let (name, n) = (place.name(), place.octet());
        let _ = writeln!(
            text,
            "protocol bgp {name} {{ local 10.{n}.0.1 as 65001; neighbor 10.{n}.0.2 as {}; {SESSION}\
             ipv4 {{ import all; export none; }}; }}",
            u32::from(n) + 65_001
        );
    }
    text
}

/// FRR's bgpd under test, with zebra and bfdd.
pub fn bgpd() -> String {
    let mut text = String::from(
        "router bgp 65001\n bgp router-id 10.1.0.1\n no bgp ebgp-requires-policy\n\
         no bgp network import-check\n timers bgp 30 90\n",
    );
    for place in [Place::A, Place::B] {
        let n = place.octet();
        let asn = u32::from(n) + 65_001;
        let _ = write!(
            text,
            " neighbor 10.{n}.0.2 remote-as {asn}\n neighbor 10.{n}.0.2 timers connect 1\n \
             neighbor 10.{n}.0.2 advertisement-interval 0\n neighbor 10.{n}.0.2 bfd profile p\n"
        );
    }
    text
}

/// FRR's bfdd: bgpd itself takes no interval below 50 ms.
pub fn bfdd(setup: Setup) -> String {
    let ms = setup.bfd_ms;
    format!(
        "bfd\n profile p\n  detect-multiplier 3\n  receive-interval {ms}\n  transmit-interval {ms}\n"
    )
}

/// Routes of the kernel alone, for `ip -batch`: by `a`, and at a higher metric by `b`.
pub fn kernel_routes(setup: Setup) -> String {
    let mut text = String::new();
    for index in 0..setup.prefixes {
        let prefix = prefix(index);
        let _ = writeln!(text, "route replace {prefix}/24 via 10.1.0.2 dev a metric 10");
        let _ = writeln!(text, "route replace {prefix}/24 via 10.2.0.2 dev b metric 20");
    }
    text
}

fn bird_bfd(setup: Setup) -> String {
    let ms = setup.bfd_ms;
    format!(
        "protocol bfd {{ interface \"*\" {{ min rx interval {ms} ms; min tx interval {ms} ms; \
         idle tx interval {ms} ms; multiplier 3; }}; }}\n"
    )
}

/// A /24 from 11.0.0.0 on.
fn prefix(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits((11 << 24) + (index as u32) * 256)
}

/// What every BGP protocol of BIRD has: it is to be back soon after a failure.
const SESSION: &str = "bfd on; hold time 90; connect delay time 1; connect retry time 1; \
                       error wait time 1, 2; error forget time 1;\n";

/// The neighbour that announces a full table.
pub const LOADER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 9);
/// Its AS.
pub const LOADER_AS: u32 = 63_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearhop_takes_its_configuration() {
        let setup = Setup { bfd_ms: 10, prefixes: 1 };
        for (loader, neighbors) in [(false, 2), (true, 3)] {
            let text = nearhop(setup, "l", loader);
            let (config, _) = ::nearhop::config::parse("l.toml", &text).unwrap();
            assert_eq!(config.bgp.unwrap().neighbors.len(), neighbors);
        }
    }

    #[test]
    fn samples_reach_from_the_first_prefix_to_the_last() {
        let sample = Setup { bfd_ms: 10, prefixes: 10_000 }.destinations(40);
        assert_eq!(sample.len(), 40);
        assert_eq!(
            (sample[0], sample[39]),
            (Ipv4Addr::new(11, 0, 0, 9), Ipv4Addr::new(11, 39, 15, 9))
        );
        assert_eq!(Setup { bfd_ms: 10, prefixes: 1 }.destinations(40).len(), 1);
    }
}
