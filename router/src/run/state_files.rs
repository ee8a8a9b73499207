//! The files that keep drained and disabled sites over restarts: `overrides.json`, and a copy of it for
//! when it is damaged.
//!
//! A list that was lost must not look like an empty one: every site would serve, those under repair too.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::RunError;
use crate::control::Overrides;
use crate::regular_file;

/// Why a list could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct NotSaved {
    /// What failed, where.
    pub(super) message: String,
    /// Whether a restart may find the new list all the same.
    pub(super) may_be_on_disk: bool,
}

/// Reads the list; it is empty where there never was one. What is damaged is replaced by its copy.
///
/// # Errors
/// There is a list, but it cannot be read, and neither can its copy.
pub(super) fn load(dir: &Path) -> Result<Overrides, RunError> {
    let (path, copy_path) = (dir.join(LIST), dir.join(COPY));
    let (list, copy) = (read(&path), read(&copy_path));
    let kept = match (&list, &copy) {
        (Ok(None), Ok(None)) => return Ok(Overrides::default()),
        (Ok(Some(kept)), _) => kept.clone(),
        (_, Ok(Some(kept))) => {
            let why = match &list {
                Err(why) => format!("cannot be read: {why}"),
                Ok(_) => "is missing".to_owned(),
            };
            log::error!("{} {why}; its copy {} is used", path.display(), copy_path.display());
            kept.clone()
        }
        (Err(why), _) => return Err(unreadable(&path, why)),
        (_, Err(why)) => return Err(unreadable(&copy_path, why)),
    };
    if list != copy
        && let Err(error) = save(dir, &kept)
    {
        log::error!("drained and disabled sites are kept in one file only: {error}");
    }
    Ok(kept)
}

/// Replaces the list. It is on disk when this returns.
///
/// # Errors
/// The list is as it was before, unless the error says otherwise.
pub(super) fn save(dir: &Path, overrides: &Overrides) -> Result<(), NotSaved> {
    let before = read(&dir.join(LIST)).ok().flatten();
    let failed = |(path, error): (PathBuf, io::Error)| NotSaved {
        message: format!("cannot write {}: {error}", path.display()),
        may_be_on_disk: false,
    };
    prepare(dir, overrides).map_err(failed)?;
    put_in_place(dir).map_err(|error| {
        let is_back = prepare(dir, &before.unwrap_or_default()).and_then(|()| put_in_place(dir));
        NotSaved { may_be_on_disk: is_back.is_err(), ..failed(error) }
    })
}

/// Writes both files beside their places. All that needs room is done then.
fn prepare(dir: &Path, overrides: &Overrides) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    if !dir.is_dir() {
        fs::create_dir_all(dir).map_err(at(dir))?;
        let parent = dir.parent().unwrap_or(dir);
        sync_dir(parent).map_err(at(parent))?;
    }
    let text = serde_json::to_vec(overrides).map_err(|error| at(dir)(error.into()))?;
    for name in [LIST, COPY] {
        let (path, new) = (dir.join(name), dir.join(format!("{name}{NEW}")));
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            return Err(at(&path)(io::Error::other("a directory is in its place")));
        }
        write(&new, &text).map_err(at(&new))?;
    }
    Ok(())
}

/// Moves both files to their places: a crash leaves each as it was or as it is to be.
fn put_in_place(dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    for name in [LIST, COPY] {
        let path = dir.join(name);
        fs::rename(dir.join(format!("{name}{NEW}")), &path).map_err(|error| (path, error))?;
    }
    sync_dir(dir).map_err(|error| (dir.to_owned(), error))
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Makes new names in a directory last.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Overrides>, String> {
    match regular_file::read(path, BYTES_MAX) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            format!("it is damaged: expected a JSON list of drained and disabled sites ({error})")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn unreadable(path: &Path, why: &str) -> RunError {
    RunError::new(format!(
        "cannot read {}, which keeps drained and disabled sites: {why}",
        path.display()
    ))
    .with_help("restore it, or add --forget-overrides to start with no site drained or disabled")
}

/// The list, in the state directory.
const LIST: &str = "overrides.json";

/// Its copy.
const COPY: &str = "overrides.copy.json";

/// Added to the name of a file that is not in its place yet.
const NEW: &str = ".new";

/// More than the names of all sites of a configuration take.
const BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("nearhop-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn drained(sites: &[&str]) -> Overrides {
        let mut overrides = Overrides::default();
        for site in sites {
            overrides.drain(site, true);
        }
        overrides
    }

    #[test]
    fn a_damaged_list_is_replaced_by_its_copy_and_never_by_an_empty_one() {
        let dir = folder("damaged");
        assert_eq!(load(&dir).unwrap(), Overrides::default(), "there never was one");
        let kept = drained(&["ams", "fra"]);
        save(&dir, &drained(&["ams"])).unwrap();
        save(&dir, &kept).unwrap();
        let whole = fs::read(dir.join(LIST)).unwrap();
        for len in 0..whole.len() {
            for damaged in [LIST, COPY] {
                fs::write(dir.join(damaged), &whole[..len]).unwrap();
                assert_eq!(load(&dir).unwrap(), kept, "{damaged} cut to {len} bytes");
                assert_eq!(fs::read(dir.join(damaged)).unwrap(), whole, "it is mended");
                fs::remove_file(dir.join(damaged)).unwrap();
                assert_eq!(load(&dir).unwrap(), kept, "{damaged} is missing");
            }
            for left in [LIST, COPY] {
                fs::remove_file(dir.join(LIST)).unwrap();
                fs::remove_file(dir.join(COPY)).unwrap();
                fs::write(dir.join(left), &whole[..len]).unwrap();
                let error = load(&dir).unwrap_err();
                assert!(error.message.contains(left), "{error}");
                assert!(error.help.unwrap().contains("--forget-overrides"));
                save(&dir, &kept).unwrap();
            }
        }
        fs::remove_dir_all(dir).unwrap();
    }

    /// Files of routers that knew sites alone are read, and written so while there is nothing else.
    #[test]
    fn what_is_not_there_is_not_written() {
        let dir = folder("older");
        save(&dir, &drained(&["ams"])).unwrap();
        let text = fs::read_to_string(dir.join(LIST)).unwrap();
        assert_eq!(text, r#"{"drained":["ams"],"disabled":[]}"#);
        let mut kept = Overrides { router: true, ..drained(&["ams"]) };
        kept.playbooks.insert("away".into());
        kept.blocks.set("203.0.113.7/32".parse().unwrap(), true);
        save(&dir, &kept).unwrap();
        assert_eq!(load(&dir).unwrap(), kept);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_cannot_be_written_leaves_the_list_as_it_was() {
        let dir = folder("unwritable");
        let kept = drained(&["ams"]);
        save(&dir, &kept).unwrap();
        for in_the_way in [format!("{LIST}{NEW}"), format!("{COPY}{NEW}"), COPY.into()] {
            let path = dir.join(&in_the_way);
            let _ = fs::remove_file(&path);
            fs::create_dir(&path).unwrap();
            let error = save(&dir, &drained(&["ams", "fra"])).unwrap_err();
            assert!(error.message.contains(&in_the_way), "{error}");
            assert!(!error.may_be_on_disk, "{in_the_way}");
            assert_eq!(load(&dir).unwrap(), kept, "{in_the_way}");
            fs::remove_dir(&path).unwrap();
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
