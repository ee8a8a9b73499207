//! What is known of the devices of a namespace, from notifications and lists that may overlap.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::link::LinkStatus;
use super::LinkEvent;

/// Turns link messages into events: one for each device that is new, changed or deleted.
#[derive(Debug, Default)]
pub(super) struct LinkTable {
    links: BTreeMap<u32, Known>,
    listing: Option<Listing>,
    events: VecDeque<LinkEvent>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Known {
    name: String,
    up: bool,
    mtu: u32,
}

/// A list that is being read.
#[derive(Debug, Default)]
struct Listing {
    /// Devices the list has named so far.
    named: BTreeSet<u32>,
    /// Devices a notification has named meanwhile. It is at least as new as what the list says
    /// later on, for any change after it sends a notification of its own.
    notified: BTreeSet<u32>,
}

impl LinkTable {
    /// A list of all devices has been asked for.
    pub fn begin_list(&mut self) {
        self.listing = Some(Listing::default());
    }

    /// A part of that list.
    pub fn handle_listed(&mut self, status: LinkStatus) {
        if let Some(listing) = &mut self.listing {
            listing.named.insert(status.ifindex);
            if !listing.notified.contains(&status.ifindex) {
                self.update(status);
            }
        }
    }

    /// The list is over. A device that it did not name is gone, if the list is `complete`.
    pub fn end_list(&mut self, complete: bool) {
        let Some(listing) = self.listing.take() else { return };
        if complete {
            let known: Vec<u32> = self.links.keys().copied().collect();
            for ifindex in known {
                if !listing.named.contains(&ifindex) && !listing.notified.contains(&ifindex) {
                    self.forget(ifindex);
                }
            }
        }
    }

    /// A notification that a device is new or changed.
    pub fn handle_changed(&mut self, status: LinkStatus) {
        self.note(status.ifindex);
        self.update(status);
    }

    /// A notification that a device was deleted, or moved to another namespace.
    pub fn handle_deleted(&mut self, ifindex: u32) {
        self.note(ifindex);
        self.forget(ifindex);
    }

    /// Takes the oldest event.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// Whether a list is being read.
    pub fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    fn note(&mut self, ifindex: u32) {
        if let Some(listing) = &mut self.listing {
            listing.notified.insert(ifindex);
        }
    }

    fn update(&mut self, status: LinkStatus) {
        let up = status.up();
        let LinkStatus { ifindex, name, mtu, .. } = status;
        let now = Known { name, up, mtu };
        if self.links.get(&ifindex) != Some(&now) {
            self.events.push_back(now.event(ifindex, false));
            self.links.insert(ifindex, now);
        }
    }

    fn forget(&mut self, ifindex: u32) {
        if let Some(mut was) = self.links.remove(&ifindex) {
            was.up = false;
            self.events.push_back(was.event(ifindex, true));
        }
    }
}

impl Known {
    fn event(&self, ifindex: u32, deleted: bool) -> LinkEvent {
        LinkEvent { ifindex, name: self.name.clone(), up: self.up, deleted, mtu: self.mtu }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn link(ifindex: u32, up: bool) -> LinkStatus {
        let name = format!("t{ifindex}");
        LinkStatus { ifindex, name, admin_up: up, carrier: up, mtu: 1500, ..LinkStatus::default() }
    }

    /// The pending events as `t1+ t2- t3x`: up, down, deleted.
    fn events(table: &mut LinkTable) -> String {
        let mut text = String::new();
        while let Some(event) = table.poll_event() {
            let mark = match (event.deleted, event.up) {
                (true, _) => 'x',
                (false, true) => '+',
                (false, false) => '-',
            };
            write!(text, "{}{mark} ", event.name).unwrap();
        }
        text.trim_end().into()
    }

    fn listed(links: &[LinkStatus]) -> LinkTable {
        let mut table = LinkTable::default();
        table.begin_list();
        links.iter().cloned().for_each(|link| table.handle_listed(link));
        table.end_list(true);
        table
    }

    #[test]
    fn only_what_changes_is_an_event() {
        let mut table = listed(&[link(1, true), link(2, false)]);
        assert_eq!(events(&mut table), "t1+ t2-");
        table.handle_changed(link(1, true));
        table.handle_changed(link(2, false));
        assert_eq!(events(&mut table), "");
        table.handle_changed(link(2, true));
        table.handle_changed(LinkStatus { mtu: 9000, ..link(2, true) });
        table.handle_deleted(1);
        table.handle_deleted(1);
        assert_eq!(events(&mut table), "t2+ t2+ t1x");
        table.handle_changed(LinkStatus { carrier: false, ..link(2, true) });
        assert_eq!(events(&mut table), "t2-");
    }

    #[test]
    fn a_second_list_says_what_was_missed() {
        let mut table = listed(&[link(1, true), link(2, true), link(3, true)]);
        events(&mut table);
        table.begin_list();
        table.handle_listed(link(1, true));
        table.handle_listed(link(3, false));
        table.handle_listed(link(4, true));
        table.end_list(true);
        assert_eq!(events(&mut table), "t3- t4+ t2x");
    }

    #[test]
    fn a_notification_beats_the_rest_of_a_list_that_was_begun_before_it() {
        let mut table = listed(&[link(1, true), link(2, true)]);
        events(&mut table);
        table.begin_list();
        table.handle_changed(link(1, false));
        table.handle_deleted(2);
        table.handle_changed(link(3, true));
        table.handle_listed(link(1, true));
        table.handle_listed(link(2, true));
        table.end_list(true);
        assert_eq!(events(&mut table), "t1- t2x t3+");
        assert!(!table.is_listing());
    }

    #[test]
    fn a_list_that_was_cut_short_deletes_nothing() {
        let mut table = listed(&[link(1, true), link(2, true)]);
        events(&mut table);
        table.begin_list();
        table.handle_listed(link(1, true));
        table.end_list(false);
        assert_eq!(events(&mut table), "");
    }
}
