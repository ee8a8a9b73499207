//! Traffic for measurements: numbered probes and real DNS queries.
//!
//! `nearlab probe` is one process per client, in the client's namespace ([`probe`]). One thread
//! paces, sends and receives probes, another sends DNS queries. The parent controls it over
//! standard input and output ([`protocol`]), by a [`Prober`].
//!
//! Arrival times are the kernel's receive timestamps, both at sites and at clients, so a process
//! that is scheduled late does not lengthen an outage.

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
