//! Traffic that measures: numbered probes and real DNS queries.
//!
//! `nearlab probe` is one process per client, run in the client's namespace ([`probe`]): a thread
//! that paces, sends and receives the probes, and one that asks DNS. Its parent steers it over
//! standard input and output ([`protocol`]), by way of [`Prober`].
//!
//! Arrival times are the kernel's receive timestamps, at the sites as at the clients: a process that
//! is scheduled late does not lengthen an outage.

pub mod batch_io;
pub mod buffers;
pub mod dns;
mod flow;
pub mod pace;
pub mod probe;
mod prober;
pub mod protocol;
mod ring;
mod take;
pub mod wire;
mod worker;

pub use probe::ProbeOptions;
pub use prober::{Moved, Prober, ProberError, Taken};
pub use protocol::{Awaited, Patience};
