//! Lines of tables, wide and narrow.

use serde::de::value::MapDeserializer;
use serde_json::{Value, json};

use super::*;
use crate::api::nouns::Noun;

fn lines(noun: &str, items: &Value, width: Option<usize>) -> Vec<String> {
    let mut table = TextTable::new(Noun::find(noun).map_or(&[][..], |noun| noun.columns));
    for item in items.as_array().unwrap() {
        let entries = item.as_object().unwrap().iter();
        let entries = entries.map(|(key, value)| (key.as_str(), value));
        table.push_object(MapDeserializer::<_, serde_json::Error>::new(entries)).unwrap();
    }
    table.retain_present();
    let left_out = width.map(|width| (table.fit(width), width));
    let note = left_out.and_then(|(left_out, width)| left_out.line(width));
    table.lines().into_iter().chain(note).collect()
}

#[test]
fn no_line_is_wider_than_asked_and_numbers_stay_whole() {
    let items = json!([
        { "port": "a-port-with-a-long-name", "rx_packets": 1_234_567, "device": "nh-ams" },
        { "port": "ams", "rx_packets": 12, "device": null },
    ]);
    assert_eq!(
        lines("ports", &items, Some(40)),
        [
            "PORT                     RX PACKETS",
            "a-port-with-a-long-name        1.2M",
            "ams                              12",
            "1 column more by --wide: device",
        ]
    );
    assert_eq!(lines("ports", &items, Some(18))[1], "a-por…        1.2M");
    for width in 1..60 {
        for line in lines("ports", &items, Some(width)) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn what_is_missed_least_is_left_out_first_and_named() {
    let items = json!([{
        "port": "ams", "device": null, "engine": "epoll", "state": "up", "rx_packets": 7,
        "rx_bytes": 700, "tx_packets": 8, "tx_bytes": 800, "why": "the device is set down",
    }]);
    let head = |width| lines("ports", &items, Some(width)).remove(0);
    let note = |width| lines("ports", &items, Some(width)).pop().unwrap();
    assert_eq!(lines("ports", &items, Some(100)).len(), 2, "all fits, and nothing is said");
    assert_eq!(head(87), "PORT  ENGINE  STATE  RX PACKETS  RX BYTES  TX PACKETS  TX BYTES  WHY");
    assert_eq!(note(87), "1 column more by --wide: device");
    assert_eq!(head(78), "PORT  STATE  RX PACKETS  RX BYTES  TX PACKETS  WHY");
    assert_eq!(note(78), "3 columns more by --wide: device, engine, tx bytes");
    assert_eq!(head(60), "PORT  STATE  RX PACKETS  TX PACKETS  WHY");
    let narrow = lines("ports", &items, Some(50));
    assert_eq!(narrow[1], "ams   up              7           8  the device i…");
    assert!(narrow[2].starts_with("texts are cut; 4 columns more by --wide: device"), "{narrow:?}");
}

/// The suffix of a key has no meaning: `packets_s` may be anything.
#[test]
fn what_is_not_declared_is_shown_as_it_is() {
    let items = json!([{ "port": "ams", "packets_s": 1202, "flow_ms": 17 }, { "hue": "red" }]);
    assert_eq!(
        lines("ports", &items, None),
        [
            "PORT  FLOW MS  PACKETS S  HUE",
            "ams        17       1202  -",
            "-           -          -  red"
        ]
    );
}
