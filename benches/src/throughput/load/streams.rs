//! TCP streams.
#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nearhop::time::Nanos;

use super::super::subject::{SITE, Subject};
use super::{Figures, LOAD};
use crate::report::BenchError;

/// Streams to the site, or from it, for a while.
pub(super) fn tcp(
    subject: &mut Subject,
    streams: usize,
    back: bool,
) -> Result<Figures, BenchError> {
    let listener = subject.site.within(|| TcpListener::bind((SITE, 0)));
    let listener = listener.map_err(BenchError::environment)?.map_err(BenchError::environment)?;
    let to = listener.local_addr().map_err(BenchError::environment)?;
    let mut ends = Vec::new();
    for _ in 0..streams {
        let connect = || TcpStream::connect_timeout(&to, PATIENCE);
        let near = subject.client.within(connect).map_err(BenchError::environment)?;
        let near = near.map_err(BenchError::environment)?;
        let (far, _) = listener.accept().map_err(BenchError::environment)?;
        for end in [&near, &far] {
            end.set_read_timeout(Some(PATIENCE)).map_err(BenchError::environment)?;
            end.set_write_timeout(Some(PATIENCE)).map_err(BenchError::environment)?;
        }
        ends.push(if back { (far, near) } else { (near, far) });
    }
    let start = Nanos::now();
    let received: u64 = thread::scope(|scope| {
        let running: Vec<_> = ends
            .into_iter()
            .map(|(mut from, mut to)| {
                scope.spawn(move || {
                    let data = vec![0; 1 << 17];
                    let until = start + LOAD;
                    while Nanos::now() < until && from.write_all(&data).is_ok() {}
                });
                scope.spawn(move || {
                    let mut buffer = vec![0; 1 << 18];
                    let mut received = 0;
                    while let Ok(len @ 1..) = to.read(&mut buffer) {
                        received += len as u64;
                    }
                    received
                })
            })
            .collect();
        running.into_iter().map(|reader| reader.join().unwrap_or(0)).sum()
    });
    let seconds = Nanos::now().since(start).as_secs_f64();
    let figure = received as f64 * 8.0 / seconds / 1e9;
    Ok(Figures { figure, unit: "Gbit/s", ..Figures::default() })
}

const PATIENCE: Duration = Duration::from_secs(5);
