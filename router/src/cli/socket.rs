//! Which control socket a client asks.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::output::Failure;

/// The socket a client is to use: the one it was told, or the only one that a router answers at.
pub(super) fn find(told: Option<&Path>, dirs: &[PathBuf]) -> Result<PathBuf, Failure> {
    if let Some(path) = told {
        return Ok(path.to_owned());
    }
    let found: Vec<PathBuf> = dirs.iter().flat_map(|dir| sockets(dir)).collect();
    let mut answering: Vec<&PathBuf> = found.iter().filter(|path| !is_left_behind(path)).collect();
    match (answering.pop(), answering.pop()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => {
            let message = format!("several routers run here: {}", joined(&found));
            Err(Failure::usage(message).with_help("name one with --socket PATH"))
        }
        (None, _) => {
            let message = if found.is_empty() {
                format!("no router runs here: no socket in {}", joined(dirs))
            } else {
                format!("no router answers: {} left behind", joined(&found))
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

/// Whether the router that made this socket is gone.
fn is_left_behind(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
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
        assert!(said(find(None, &dirs)).contains("no router runs here"));

        let live = dir.path().join("live.sock");
        let _live = UnixListener::bind(&live).unwrap();
        drop(UnixListener::bind(dir.path().join("dead.sock")).unwrap());
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        assert_eq!(find(None, &dirs).unwrap(), live);
        assert_eq!(find(Some(Path::new("/told")), &dirs).unwrap(), Path::new("/told"));

        let second = UnixListener::bind(dir.path().join("second.sock")).unwrap();
        assert!(said(find(None, &dirs)).contains("several routers"));
        drop(second);
        fs::remove_file(&live).unwrap();
        assert!(said(find(None, &dirs)).contains("left behind"));
    }
}
