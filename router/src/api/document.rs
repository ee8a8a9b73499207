//! Documents that answer something else than `show`, whole.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde_json::Value;

use super::rows::{EffectHead, ExplainHead, ExplainRow, OverrideHead, OverrideRow, ReloadRow};

/// `{"schema": ..., "items": [...]}`, with keys of its own between them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document<T, H = NoHead> {
    schema: String,
    /// Its own keys.
    #[serde(flatten)]
    pub head: H,
    /// Its rows.
    pub items: Vec<T>,
}

/// A document without keys of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NoHead {}

/// The answer of `explain`.
pub type Explanation = Document<ExplainRow, ExplainHead>;

/// The answer of commands about announcements, which has no rows.
pub type Effected = Document<Value, EffectHead>;

/// The answer of `drain`, `undrain`, `disable` and `enable`.
pub type Overridden = Document<OverrideRow, OverrideHead>;

/// The answer of `reload`.
pub type Reloaded = Document<ReloadRow>;

/// The answer of `clear`, which has no rows.
pub type Cleared = Document<Value>;

/// The answer of `undamp`, which has no rows.
pub type Undamped = Document<Value>;

impl<T, H> Document<T, H> {
    /// A document of the noun of this name.
    pub fn new(noun: &str, head: H, items: Vec<T>) -> Self {
        Self { schema: format!("nearhop.{noun}.v1"), head, items }
    }
}
