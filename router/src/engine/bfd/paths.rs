//! What BFD sessions say of paths: bytes, and news of them.

use std::sync::atomic::Ordering;

use nearhop_fib::{PathId, Reason};

use super::BfdEngine;
use crate::bfd::machine::{Ends, SessionId};
use crate::bfd::packet::State;
use crate::bfd::session::{Event, Why};
use crate::liveness::bfd::{BfdNews, BfdView};
use crate::time::Nanos;

impl BfdEngine {
    /// Nothing is known of a path any more: its number may become another's.
    pub fn forget_path(&mut self, path: PathId) {
        for id in self.by_path.remove(&path).unwrap_or_default() {
            if let Some(watched) = self.sessions.get_mut(&id) {
                watched.paths.remove(&path);
            }
            self.fib.clear_path_down(path, Reason::Bfd);
        }
    }

    pub(super) fn watch(&mut self, ends: Ends, path: PathId, heeds_past: bool) {
        let Some(id) = self.machine.find(&ends) else { return };
        let Some(watched) = self.sessions.get_mut(&id) else { return };
        let was_up = heeds_past || watched.view == BfdView::Up;
        *watched.paths.entry(path).or_default() |= was_up;
        self.by_path.entry(path).or_default().insert(id);
        self.store(path);
    }

    pub(super) fn unwatch(&mut self, id: SessionId, path: PathId) {
        if let Some(watched) = self.sessions.get_mut(&id) {
            watched.paths.remove(&path);
        }
        if let Some(of) = self.by_path.get_mut(&path) {
            of.remove(&id);
            let is_over = of.is_empty();
            self.store(path);
            if is_over {
                self.by_path.remove(&path);
            }
        }
    }

    /// Stores whether one of a path's sessions has failed.
    fn store(&mut self, path: PathId) {
        let failed = |id: &SessionId| {
            let watched = self.sessions.get(id);
            watched.is_some_and(|one| {
                one.view == BfdView::Failed && one.paths.get(&path) == Some(&true)
            })
        };
        let changed = if self.by_path.get(&path).is_some_and(|of| of.iter().any(failed)) {
            self.fib.set_path_down(path, Reason::Bfd)
        } else {
            self.fib.clear_path_down(path, Reason::Bfd)
        };
        if changed {
            self.changes.fetch_add(1, Ordering::Release);
            self.moved.push_back(path);
        }
    }

    /// What sessions did becomes bytes and news.
    pub(super) fn settle(&mut self, now: Nanos) {
        while let Some((id, event)) = self.machine.poll_event() {
            match event {
                Event::State { at, from, to, why } => {
                    let view = self.sessions.get(&id).map_or(BfdView::Unknown, |one| one.view);
                    let view = view_after(view, (from, to), why);
                    if let Some(watched) = self.sessions.get_mut(&id) {
                        (watched.since, watched.pace) = (at, 1);
                    }
                    self.note(now, id, view, Some(event));
                }
                Event::Pace { factor, .. } => {
                    if let Some(watched) = self.sessions.get_mut(&id) {
                        watched.pace = factor;
                        let view = watched.view;
                        self.note(now, id, view, Some(event));
                    }
                }
            }
        }
    }

    /// A neighbour that says after a failure that an operator wants the session down says nothing of the path.
    pub(super) fn forgive(&mut self, now: Nanos, id: SessionId) {
        let is_failed = self.sessions.get(&id).is_some_and(|one| one.view == BfdView::Failed);
        let says = self.machine.get(id).map(|(_, session, _)| session.remote().state);
        if is_failed && says == Some(State::AdminDown) {
            self.note(now, id, BfdView::Unknown, None);
        }
    }

    fn note(&mut self, now: Nanos, id: SessionId, view: BfdView, event: Option<Event>) {
        let Some(watched) = self.sessions.get_mut(&id) else { return };
        let ends = watched.ends;
        if std::mem::replace(&mut watched.view, view) != view {
            if view == BfdView::Up {
                watched.paths.values_mut().for_each(|was_up| *was_up = true);
            }
            let paths: Vec<PathId> = watched.paths.keys().copied().collect();
            for path in paths {
                self.store(path);
            }
        }
        let stored = self.clock.map_or(now, |clock| clock());
        self.news.push_back(BfdNews { ends, view, stored, event });
    }
}

/// What a session says of its path after a change of its state.
fn view_after(before: BfdView, (from, to): (State, State), why: Why) -> BfdView {
    match (from, to, why) {
        (_, State::Up, _) => BfdView::Up,
        (_, State::AdminDown, _) | (_, _, Why::NeighborAdminDown) => BfdView::Unknown,
        (State::Up, ..) => BfdView::Failed,
        _ => before,
    }
}
