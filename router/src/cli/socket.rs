//! Finds the control socket for a client.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use super::output::Failure;
use crate::api::is_listening;

/// The socket to use: `given` if present, else the only one on which a router listens.
pub(super) fn find(given: Option<&Path>, dirs: &[PathBuf]) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let found: Vec<PathBuf> = dirs.iter().flat_map(|dir| sockets(dir)).collect();
    let mut answering: Vec<&PathBuf> = found.iter().filter(|path| !is_stale(path)).collect();
    match (answering.pop(), answering.pop()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => {
            let message = format!("expected one running router, found sockets {}", joined(&found));
            Err(Failure::usage(message).with_help("choose one with --socket PATH"))
        }
        (None, _) => {
            let message = if found.is_empty() {
                format!("no running router found: no socket in {}", joined(dirs))
            } else {
                format!("no running router found: no router listens on {} (stale)", joined(&found))
            };
            let help = "start one with `nearhop run FILE`, or name its socket with --socket PATH";
            Err(Failure::environment(message).with_help(help))
        }
    }
}

fn sockets(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ext| ext == "sock")).collect();
    found.sort();
    found
}

/// Whether no router listens on this socket.
fn is_stale(path: &Path) -> bool {
    is_listening(path).is_ok_and(|listening| !listening)
}

fn joined(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_client_takes_the_only_router_that_answers() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().join("absent"), dir.path().to_owned()];
        let said = |result: Result<PathBuf, Failure>| format!("{:?}", result.unwrap_err());
        assert!(said(find(None, &dirs)).contains("no socket in"));

        let live = dir.path().join("live.sock");
        let _live = UnixListener::bind(&live).unwrap();
        drop(UnixListener::bind(dir.path().join("dead.sock")).unwrap());
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        assert_eq!(find(None, &dirs).unwrap(), live);
        assert_eq!(find(Some(Path::new("/reported")), &dirs).unwrap(), Path::new("/reported"));

        let second = UnixListener::bind(dir.path().join("second.sock")).unwrap();
        assert!(said(find(None, &dirs)).contains("expected one"));
        drop(second);
        fs::remove_file(&live).unwrap();
        assert!(said(find(None, &dirs)).contains("stale"));
    }
}
