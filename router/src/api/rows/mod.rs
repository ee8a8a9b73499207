//! The rows of every document: each field is a key of its JSON, a column of its table, and what its comment
//! says on the page of documents. Any value that is `None` is `null`, or absent where that is declared.
#![forbid(unsafe_code)]

mod announcing;
mod answers;
mod bfd;
mod counters;
mod routing;

pub use self::announcing::{AdvertisedRow, BlockRow, EffectHead, PlaybookRow};
pub use self::answers::{
    ExplainHead, ExplainRow, ExplainedGroup, OverrideHead, OverrideRow, ReloadRow, TopOfService,
    TopRow,
};
pub use self::bfd::{BfdDropRow, BfdRow};
pub use self::counters::{
    AdjacencyRow, DropRow, HostRow, PortRow, RouterRow, StepRow, VerdictRow, WorkerRow,
};
pub use self::routing::{
    BgpMessageRow, BgpNeighborRow, BgpRefusalRow, BgpRow, CheckRow, Distance, FibRow, GroupRow,
    LegPart, MemberPart, PathPart, RouteRow, ServiceRow,
};
