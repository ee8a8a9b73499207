//! What tests under the model checker share.

use loom::thread;
use nearhop_fib::{FlowHash, Handle, IpPrefix, Online};

pub const FLOW: FlowHash = FlowHash { site: 1, label: 2 };

pub fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

pub fn prefix(text: &str) -> IpPrefix {
    text.parse().unwrap()
}

pub fn reader_thread(
    handle: &Handle,
    work: impl FnOnce(Online<'_>) + 'static,
) -> thread::JoinHandle<()> {
    let mut reader = handle.reader().unwrap();
    thread::spawn(move || work(reader.online()))
}
