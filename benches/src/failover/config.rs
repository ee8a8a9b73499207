//! The configuration of both routers: N services of ten prefixes, each with two sites.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// A size of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size {
    /// Services, each a group of its own.
    pub services: usize,
    /// Prefixes in all.
    pub prefixes: usize,
}

impl Size {
    /// One service with ten prefixes.
    pub const SMALL: Self = Self { services: 1, prefixes: 10 };
    /// Ten thousand services with ten prefixes each.
    pub const LARGE: Self = Self { services: 10_000, prefixes: 100_000 };

    /// Prefix `index`, in the order in which they are inserted: a /24 from 11.0.0.0 on.
    pub fn prefix(index: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST.to_bits() + (index as u32) * 256)
    }

    /// The destination of flow `index` of `flows`: flows are spread evenly from the first prefix
    /// to the last.
    pub fn destination(self, index: usize, flows: usize) -> Ipv4Addr {
        let prefix = index * (self.prefixes - 1) / (flows - 1).max(1);
        Ipv4Addr::from_bits(Self::prefix(prefix).to_bits() + 1)
    }
}

/// nearhop's configuration; the ports' namespaces are named after `lab`.
pub fn nearhop(size: Size, lab: &str) -> String {
    let mut text = format!("[router]\nname = \"{lab}\"\n");
    for (index, port) in PORTS.into_iter().enumerate() {
        let _ = write!(
            text,
            "\n[[port]]\nname = \"{port}\"\ntun = \"nh-{port}\"\nnetns = \"{lab}-{port}\"\n\
             join = false\naddresses = [\"10.{index}.0.1/24\"]\npeer-addresses = [\"10.{index}.0.2/24\"]\n"
        );
    }
    let each = size.prefixes / size.services;
    for service in 0..size.services {
        let prefixes: Vec<String> = (service * each..(service + 1) * each)
            .map(|index| format!("\"{}/24\"", Size::prefix(index)))
            .collect();
        let _ = write!(
            text,
            "\n[[service]]\nname = \"s{service}\"\nprefixes = [{}]\n\
             [[service.site]]\nname = \"a\"\nvia = \"a\"\ncost = 10\n\
             [[service.site]]\nname = \"b\"\nvia = \"b\"\ncost = 20\n",
            prefixes.join(", ")
        );
    }
    text
}

/// The kernel's routes, as `ip -batch` takes them: every prefix by `a`, and by `b` at a higher
/// metric. `only_a` leaves those by `b` as they are.
pub fn kernel_routes(size: Size, only_a: bool) -> String {
    let mut text = String::new();
    for index in 0..size.prefixes {
        let prefix = Size::prefix(index);
        let _ = writeln!(text, "route add {prefix}/24 via 10.1.0.2 dev a metric 10");
        if !only_a {
            let _ = writeln!(text, "route add {prefix}/24 via 10.2.0.2 dev b metric 20");
        }
    }
    text
}

/// The client's port, the cheaper site's and the other's; the place is the second byte of the
/// addresses.
pub const PORTS: [&str; 3] = ["c", "a", "b"];

const FIRST: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_large_configuration_is_what_it_says() {
        let text = nearhop(Size::LARGE, "l");
        let (config, _) = nearhop::config::parse("l.toml", &text).unwrap();
        assert_eq!(config.services.len(), 10_000);
        let prefixes: usize = config.services.iter().map(|service| service.prefixes.len()).sum();
        assert_eq!(prefixes, 100_000);
    }

    #[test]
    fn samples_reach_from_the_first_prefix_to_the_last() {
        for size in [Size::SMALL, Size::LARGE] {
            assert_eq!(size.destination(0, 1000), Ipv4Addr::new(11, 0, 0, 1));
            let last = Size::prefix(size.prefixes - 1).to_bits() + 1;
            assert_eq!(size.destination(999, 1000).to_bits(), last);
        }
    }
}
