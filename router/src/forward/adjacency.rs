//! Adjacencies, as workers read them.
#![forbid(unsafe_code)]

use std::sync::Arc;

use nearhop_fib::AdjacencyId;

use crate::ids::PortId;

/// An adjacency, a way out of the router: a port, the link header put in front of packets there,
/// and the resulting MTU. A point-to-point port has one adjacency; a port with neighbours has one
/// for each; a tunnel has its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Adjacency {
    /// The port packets leave by.
    pub port: PortId,
    /// Bytes of the largest IP packet that fits.
    pub mtu: u16,
    /// Link header put in front of each packet: at most [`PREPEND_MAX`](crate::batch::PREPEND_MAX)
    /// bytes, usually none.
    pub prepend: Box<[u8]>,
}

impl Adjacency {
    /// The adjacency of a point-to-point port, which has no link header.
    pub fn point_to_point(port: PortId, mtu: u16) -> Self {
        Self { port, mtu, prepend: Box::default() }
    }
}

/// All adjacencies by id, in chunks, so that a change copies one chunk only.
#[derive(Clone, Debug, Default)]
pub struct Adjacencies {
    chunks: Vec<Arc<Chunk>>,
}

type Chunk = [Option<Adjacency>; CHUNK];

impl Adjacencies {
    /// The adjacency with this id; `None` if it was removed, or never was.
    #[inline]
    pub fn get(&self, id: AdjacencyId) -> Option<&Adjacency> {
        let (chunk, place) = place(id);
        self.chunks.get(chunk)?[place].as_ref()
    }

    /// Sets or removes an adjacency. If that changes it, and another snapshot shares its chunk, the
    /// chunk is copied.
    pub fn set(&mut self, id: AdjacencyId, adjacency: Option<Adjacency>) {
        if self.get(id) == adjacency.as_ref() {
            return;
        }
        let (chunk, place) = place(id);
        while self.chunks.len() <= chunk {
            self.chunks.push(Arc::new([const { None }; CHUNK]));
        }
        Arc::make_mut(&mut self.chunks[chunk])[place] = adjacency;
    }

    /// Every adjacency and its id.
    pub fn iter(&self) -> impl Iterator<Item = (AdjacencyId, &Adjacency)> {
        let all = self.chunks.iter().flat_map(|chunk| chunk.iter()).zip(0..);
        all.filter_map(|(adjacency, id)| Some((AdjacencyId(id), adjacency.as_ref()?)))
    }
}

impl FromIterator<(AdjacencyId, Adjacency)> for Adjacencies {
    fn from_iter<I: IntoIterator<Item = (AdjacencyId, Adjacency)>>(all: I) -> Self {
        let mut adjacencies = Self::default();
        all.into_iter().for_each(|(id, adjacency)| adjacencies.set(id, Some(adjacency)));
        adjacencies
    }
}

fn place(id: AdjacencyId) -> (usize, usize) {
    (id.0 as usize / CHUNK, id.0 as usize % CHUNK)
}

/// Adjacencies in a chunk: a change copies at most 16 KiB.
const CHUNK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_copies_one_chunk_and_leaves_older_tables_alone() {
        let of = |id: u32| (AdjacencyId(id), Adjacency::point_to_point(PortId(id as u16), 1500));
        let before: Adjacencies = [of(0), of(1), of(1500)].into_iter().collect();
        let mut after = before.clone();
        after.set(AdjacencyId(1), None);
        after.set(AdjacencyId(1500), before.get(AdjacencyId(1500)).cloned());
        assert_eq!(after.get(AdjacencyId(1)), None);
        assert_eq!(before.get(AdjacencyId(1)).unwrap().port, PortId(1));
        let shared = |chunk: usize| Arc::ptr_eq(&before.chunks[chunk], &after.chunks[chunk]);
        assert_eq!([shared(0), shared(1), shared(2)], [false, true, true]);
        let ids: Vec<u32> = after.iter().map(|(id, _)| id.0).collect();
        assert_eq!(ids, [0, 1500]);
        assert_eq!(after.get(AdjacencyId(u32::MAX)), None);
    }
}
