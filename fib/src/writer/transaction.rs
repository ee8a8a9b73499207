//! Changes of several routes that are made together or not at all.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::fmt;

use super::{WriteError, Writer};
use crate::group::GroupId;
use crate::prefix::IpPrefix;

/// Changes of one transaction at most: as many as can be taken back for certain.
pub const CHANGES_MAX: usize = 1 << 14;

/// Why a transaction was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransactionError {
    /// A change was refused, and those before it were taken back.
    Refused {
        /// Its index.
        at: usize,
        /// Why.
        error: WriteError,
    },
    /// There are more than [`CHANGES_MAX`].
    TooMany,
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { at, error } => write!(f, "change {at} of the transaction: {error}"),
            Self::TooMany => {
                write!(f, "a transaction has {CHANGES_MAX} changes at most: make several of it")
            }
        }
    }
}

impl core::error::Error for TransactionError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Refused { error, .. } => Some(error),
            Self::TooMany => None,
        }
    }
}

impl Writer {
    /// Makes all of these changes, in their order, or none: a route is added or replaced, or with
    /// `None` removed if it is there.
    ///
    /// It costs what the changes cost one by one, and memory for each to take it back. **Readers see
    /// the changes one after the other**: one that looks up meanwhile may find some of them made and
    /// others not, and where one is refused, some made that are taken back again. What is to move at
    /// one stroke has to share a group, which [`Self::replace_group`] replaces.
    ///
    /// # Errors
    /// Says which change was refused, and why. Afterwards every lookup finds what it found before.
    pub fn apply(
        &mut self,
        changes: &[(IpPrefix, Option<GroupId>)],
    ) -> Result<(), TransactionError> {
        if changes.len() > CHANGES_MAX {
            return Err(TransactionError::TooMany);
        }
        let mut done = Vec::with_capacity(changes.len());
        for (at, &(prefix, group)) in changes.iter().enumerate() {
            let mark = self.v6.mark();
            match self.change(prefix, group.into()) {
                Ok(old) => done.push(((prefix, old), mark)),
                Err(error) => {
                    // It needs no room in the tables, and the list of what waits for readers may
                    // grow beyond its limit by what one transaction adds.
                    done.into_iter().rev().for_each(|(change, mark)| self.undo(change, mark));
                    self.commit();
                    return Err(TransactionError::Refused { at, error });
                }
            }
        }
        self.commit();
        Ok(())
    }
}
