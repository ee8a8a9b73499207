use std::fmt::Write as _;

use super::*;
use crate::config::parse;

fn config(text: &str) -> Config {
    parse("r1.toml", text).unwrap().0
}

#[test]
fn every_kind_of_change_has_its_line() {
    let old = config(OLD);
    let new = config(NEW);
    insta::assert_snapshot!(diff(&old, &new).join("\n"));
}

#[test]
fn the_same_configuration_in_another_order_is_no_change() {
    let old = config(OLD);
    assert_eq!(diff(&old, &old), Vec::<String>::new());
    let mut turned = old.clone();
    turned.ports.reverse();
    turned.routes.reverse();
    turned.services[0].sites.reverse();
    assert_eq!(diff(&old, &turned), Vec::<String>::new());
}

#[test]
fn no_difference_of_two_models_goes_unsaid() {
    let (old, new) = (config(OLD), config(NEW));
    let mut mixed = old.clone();
    mixed.router = new.router.clone();
    assert_eq!(diff(&old, &mixed).len(), 9);
    mixed = old.clone();
    mixed.api = new.api.clone();
    assert_eq!(diff(&old, &mixed).len(), 2);
    mixed = old.clone();
    mixed.services[0].sites[0] = new.services[0].sites[0].clone();
    assert_eq!(diff(&old, &mixed).len(), 6);
}

const OLD: &str = r#"
[router]
name = "r1"
[[port]]
name = "client"
tun = "nh-client"
addresses = ["10.0.0.1/24"]
[[port]]
name = "fra"
tun = "nh-fra"
addresses = ["10.1.0.1/24"]
[[port]]
name = "ams"
tun = "nh-ams"
addresses = ["10.2.0.1/24"]
[[route]]
prefix = "10.9.0.0/16"
via = "fra"
[[route]]
prefix = "10.8.0.0/16"
via = "blackhole"
[[service]]
name = "dns"
prefixes = ["198.51.100.53/32"]
[[service.site]]
name = "fra"
via = "fra"
[[service.site]]
name = "ams"
via = "ams"
"#;

const NEW: &str = r#"
[router]
name = "r2"
id = "192.0.2.1"
workers = 2
addresses = ["192.0.2.1"]
martians = "off"
hash-seed = 5
busy-poll = "50us"
last-site-guard = "warn"
state-dir = "/var/lib/nearhop"
[[port]]
name = "client"
tun = "nh-client2"
netns = "client"
addresses = ["10.0.0.1/24", "fd00::1/64"]
peer-addresses = ["10.0.0.2/24"]
peer-routes = ["default", "10.99.0.0/16"]
mtu = 1400
reverse-path = "strict"
facing = "clients"
engine = "epoll"
join = false
[[port]]
name = "fra"
tun = "nh-fra"
addresses = ["10.1.0.1/24"]
queues = 2
persist = true
offloads = false
[[port]]
name = "par"
tun = "nh-par"
addresses = ["10.3.0.1/24"]
[[route]]
prefix = "10.9.0.0/16"
via = ["fra", "par"]
[[route]]
prefix = "10.7.0.0/16"
via = "unreachable"
[[service]]
name = "dns"
prefixes = ["198.51.100.53/32", "2001:db8:53::53/128"]
affinity = "none"
when-all-dead = "fail-open"
latency-unit = "off"
[[service.site]]
name = "fra"
via = ["par"]
cost = 20
preference = 200
weight = 3
combine = "any"
health = [{ icmp = {} }, { udp = { port = 7, payload = "x\u0000" }, target = "10.1.0.2", initial = "up" }]
[[service.site]]
name = "par"
via = "fra"
health = { dns = { name = "example.com" }, interval = "1.5s" }
[[service]]
name = "web"
prefixes = ["198.51.100.80/32"]
[api]
socket = "/run/x.sock"
http = "127.0.0.1:7780"
"#;

#[test]
fn of_many_changes_of_a_kind_the_first_are_listed_and_the_rest_counted() {
    let with = |routes: u32| {
        let mut text = String::new();
        for n in 0..routes {
            let (a, b) = (n / 256, n % 256);
            let _ = write!(text, "[[route]]\nprefix = \"10.0.{a}.{b}/32\"\nvia = \"blackhole\"\n");
        }
        config(&format!("[router]\nname = \"r1\"\n{text}"))
    };
    let lines = diff(&with(0), &with(1025));
    assert_eq!(lines.len(), 21);
    assert_eq!(
        (&*lines[19], &*lines[20]),
        ("+ route 10.0.0.19/32: blackhole", "+ 1005 more route(s)")
    );
    assert_eq!(diff(&with(21), &with(0)).last().unwrap(), "- 1 more route(s)");
    assert_eq!(diff(&with(20), &with(0)).len(), 20);
}
