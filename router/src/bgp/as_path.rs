//! The way of a route through autonomous systems, in one allocation.
#![forbid(unsafe_code)]

use std::fmt;

/// AS_PATH (RFC 4271, section 4.3) in four-octet form: sequences and sets of AS numbers.
///
/// Segments lie one after the other: a word with kind and length, then as many AS numbers.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AsPath(Box<[u32]>);

/// A part of a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Segment<'a> {
    /// AS_SEQUENCE: in the order in which the route passed them, the latest first.
    Sequence(&'a [u32]),
    /// AS_SET: in no order. RFC 9774 forbids it in what is received or sent.
    Set(&'a [u32]),
}

impl AsPath {
    /// A path of one sequence; no segment at all if it is empty.
    pub fn sequence(ases: &[u32]) -> Self {
        Self::of_segments([Segment::Sequence(ases)])
    }

    /// A path of these segments. Sequences in a row become one, empty segments none.
    pub fn of_segments<'a>(segments: impl IntoIterator<Item = Segment<'a>>) -> Self {
        let mut words = Vec::new();
        // Where the header of a sequence is that the next one may join.
        let mut open: Option<usize> = None;
        for segment in segments {
            let (kind, ases) = match segment {
                Segment::Sequence(ases) => (0, ases),
                Segment::Set(ases) => (SET, ases),
            };
            if ases.is_empty() {
                continue;
            }
            if words.is_empty() {
                // Mostly there is one: so much, and no more, is kept for each set of attributes.
                words.reserve_exact(1 + ases.len());
            }
            match open {
                Some(at) if kind == 0 => words[at] += ases.len() as u32,
                _ => {
                    open = (kind == 0).then_some(words.len());
                    words.push(kind | ases.len() as u32);
                }
            }
            words.extend_from_slice(ases);
        }
        Self(words.into_boxed_slice())
    }

    /// The segments, the latest first.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (header, tail) = rest.split_first()?;
            let (ases, tail) = tail.split_at_checked((header & !SET) as usize)?;
            rest = tail;
            Some(if header & SET == 0 { Segment::Sequence(ases) } else { Segment::Set(ases) })
        })
    }

    /// Every AS number, those of sets too.
    pub fn ases(&self) -> impl Iterator<Item = u32> {
        self.segments().flat_map(|segment| segment.ases().iter().copied())
    }

    /// Length for the choice of paths: a set counts as one (RFC 4271, section 9.1.2.2).
    pub fn len(&self) -> usize {
        self.segments()
            .map(|segment| match segment {
                Segment::Sequence(ases) => ases.len(),
                Segment::Set(_) => 1,
            })
            .sum()
    }

    /// Whether the route comes from the neighbour's own AS (only between routers of one AS).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The AS that the route was received from; `None` if the path is empty or begins with a set.
    pub fn first(&self) -> Option<u32> {
        match self.segments().next()? {
            Segment::Sequence(ases) => ases.first().copied(),
            Segment::Set(_) => None,
        }
    }

    /// The AS that the route comes from; `None` if the path is empty or ends with a set.
    pub fn origin(&self) -> Option<u32> {
        match self.segments().last()? {
            Segment::Sequence(ases) => ases.last().copied(),
            Segment::Set(_) => None,
        }
    }

    /// How often `asn` occurs.
    pub fn count(&self, asn: u32) -> usize {
        self.ases().filter(|other| *other == asn).count()
    }

    /// The path with `asn` put in front `times` times.
    #[must_use]
    pub fn prepend(&self, asn: u32, times: u8) -> Self {
        let front = vec![asn; usize::from(times)];
        Self::of_segments([Segment::Sequence(&front)].into_iter().chain(self.segments()))
    }
}

impl<'a> Segment<'a> {
    /// The AS numbers of it.
    pub fn ases(self) -> &'a [u32] {
        match self {
            Self::Sequence(ases) | Self::Set(ases) => ases,
        }
    }
}

/// As routers show it: `65001 65002 {65003 65004}`.
impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for segment in self.segments() {
            let is_set = matches!(segment, Segment::Set(_));
            f.write_str(space)?;
            f.write_str(if is_set { "{" } else { "" })?;
            for (at, asn) in segment.ases().iter().enumerate() {
                write!(f, "{}{asn}", if at == 0 { "" } else { " " })?;
            }
            f.write_str(if is_set { "}" } else { "" })?;
            space = " ";
        }
        Ok(())
    }
}

/// Of a header: the segment is a set.
const SET: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_in_a_row_become_one_and_sets_stay_apart() {
        let path = AsPath::of_segments([
            Segment::Sequence(&[1, 2]),
            Segment::Sequence(&[3]),
            Segment::Set(&[4, 5]),
            Segment::Sequence(&[]),
            Segment::Sequence(&[6]),
        ]);
        assert_eq!(path.to_string(), "1 2 3 {4 5} 6");
        assert_eq!((path.len(), path.first(), path.origin()), (5, Some(1), Some(6)));
        assert_eq!(path.ases().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(path.prepend(1, 2).to_string(), "1 1 1 2 3 {4 5} 6");
        assert_eq!((path.prepend(1, 2).count(1), path.count(5), path.count(7)), (3, 1, 0));
    }

    #[test]
    fn an_empty_path_has_neither_first_nor_origin() {
        let path = AsPath::sequence(&[]);
        assert!(path.is_empty() && path == AsPath::default());
        assert_eq!((path.len(), path.first(), path.origin()), (0, None, None));
        assert_eq!(path.prepend(7, 1), AsPath::sequence(&[7]));
        let set = AsPath::of_segments([Segment::Set(&[1, 2])]);
        assert_eq!((set.len(), set.first(), set.origin()), (1, None, None));
    }

    #[test]
    fn longer_than_a_segment_on_the_wire_is_one_segment_here() {
        let ases: Vec<u32> = (1..=600).collect();
        assert_eq!(AsPath::sequence(&ases).len(), 600);
        assert_eq!(AsPath::sequence(&ases).segments().count(), 1);
    }
}
