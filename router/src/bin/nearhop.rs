//! The `nearhop` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    nearhop::cli::main(std::env::args_os())
}
