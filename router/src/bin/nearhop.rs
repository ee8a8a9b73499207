//! The `nearhop` command.
#![forbid(unsafe_code)]
fn main() {}
