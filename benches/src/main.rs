//! Measures nearhop and its peers, interleaved in one run.
#![forbid(unsafe_code)]
fn main() {}
