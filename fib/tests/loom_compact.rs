//! The compact form's nodes under the model checker, on the real types:
//! `RUSTFLAGS="--cfg loom" cargo test -p nearhop-fib --release --test loom_compact`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(loom)]

mod checked;

use std::net::IpAddr;

use nearhop_fib::{Group, GroupId, Handle, Online, Options, Selected, V4Form, Writer, fib_with};

use checked::{FLOW, model, prefix, reader_thread};

fn compact() -> (Writer, Handle, Vec<GroupId>) {
    let (mut writer, handle) = fib_with(1, Options { v4: V4Form::Compact });
    let all = [Group::Local, Group::Blackhole, Group::Prohibit];
    let groups = all.iter().map(|group| writer.add_group(group).unwrap()).collect();
    (writer, handle, groups)
}

fn ask(online: &Online<'_>, addr: &str) -> Selected {
    let found = online.lookup(addr.parse::<IpAddr>().unwrap());
    online.select(found, FLOW)
}

/// A block gets a node: old or new, never anything else.
#[test]
fn a_node_is_seen_whole_or_not_at_all() {
    model(|| {
        let (mut writer, handle, groups) = compact();
        writer.insert(prefix("192.0.0.0/2"), groups[0]).unwrap();
        let reader = reader_thread(&handle, |online| {
            let got = ask(&online, "224.0.0.0");
            assert!(matches!(got, Selected::Local | Selected::Blackhole), "{got:?}");
            assert_eq!(ask(&online, "192.0.0.0"), Selected::Local);
        });
        writer.insert(prefix("224.0.0.0/3"), groups[1]).unwrap();
        reader.join().unwrap();
    });
}

/// A node is unlinked and its lines are used for another block's: a reader that is inside it never
/// sees the other block's answers.
#[test]
fn lines_of_nodes_are_not_reused_under_a_reader() {
    model(|| {
        let (mut writer, handle, groups) = compact();
        writer.insert(prefix("192.0.0.0/2"), groups[0]).unwrap();
        writer.insert(prefix("224.0.0.0/3"), groups[1]).unwrap();
        let reader = reader_thread(&handle, |online| {
            let got = ask(&online, "224.0.0.0");
            assert!(matches!(got, Selected::Local | Selected::Blackhole), "{got:?}");
        });
        writer.remove(prefix("224.0.0.0/3")).unwrap();
        writer.reclaim();
        writer.insert(prefix("32.0.0.0/3"), groups[2]).unwrap();
        reader.join().unwrap();
    });
}

/// An answer changes where it is: old or new, and what the new one says is there.
#[test]
fn an_answer_changed_in_place_leads_to_a_group_that_is_there() {
    model(|| {
        let (mut writer, handle, groups) = compact();
        writer.insert(prefix("192.0.0.0/2"), groups[0]).unwrap();
        writer.insert(prefix("224.0.0.0/3"), groups[1]).unwrap();
        let reader = reader_thread(&handle, |online| {
            let got = ask(&online, "224.0.0.0");
            assert!(matches!(got, Selected::Blackhole | Selected::Unreachable), "{got:?}");
            assert_eq!(ask(&online, "192.0.0.0"), Selected::Local);
        });
        let new = writer.add_group(&Group::Unreachable).unwrap();
        writer.insert(prefix("224.0.0.0/3"), new).unwrap();
        reader.join().unwrap();
    });
}
