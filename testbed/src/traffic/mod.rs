//! Traffic that measures: numbered probes and real DNS queries.
pub mod batch_io;
pub mod wire;
