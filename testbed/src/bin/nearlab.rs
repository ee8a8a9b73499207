//! The `nearlab` command.
#![forbid(unsafe_code)]
fn main() {}
