//! Files that operators name, opened so that whatever stands there ends: a pipe without a writer is not
//! waited for, and a device without an end is not read.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file of at most `max` bytes for reading.
///
/// # Errors
/// Of the file system; or it is another kind of file ([`io::ErrorKind::InvalidInput`]), or larger.
pub fn open(path: &Path, max: u64) -> io::Result<File> {
    // Opening a FIFO waits for its writer without O_NONBLOCK, which regular files ignore.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Of what was opened: the path may lead elsewhere by now.
    let found = file.metadata()?;
    if !found.is_file() {
        let kind = match found.file_type() {
            kind if kind.is_dir() => "a directory",
            kind if kind.is_fifo() => "a pipe",
            kind if kind.is_char_device() || kind.is_block_device() => "a device",
            _ => "another kind of file",
        };
        let error = format!("expected a regular file, found {kind}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
    }
    if found.len() > max {
        let found = found.len();
        return Err(too_large(max, &format!("found {found} bytes")));
    }
    Ok(file)
}

/// The content of a regular file of at most `max` bytes.
///
/// # Errors
/// As [`open`]; or the file grows beyond `max` while it is read.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_at_most(open(path, max)?, max)
}

/// Everything that `source` has, at most `max` bytes.
///
/// # Errors
/// Of the source; or it has more.
pub fn read_at_most(source: impl io::Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(too_large(max, "found more"));
    }
    Ok(bytes)
}

fn too_large(max: u64, found: &str) -> io::Error {
    io::Error::other(format!("expected at most {max} bytes, {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_or_too_large_is_refused_at_once() {
        let dir = std::env::temp_dir().join(format!("nearhop-regular-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (file, fifo) = (dir.join("file"), dir.join("fifo"));
        std::fs::write(&file, "12345").unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        for (path, max, says) in [
            (&*file, 4, "expected at most 4 bytes, found 5 bytes"),
            // Nobody will ever write to it.
            (&*fifo, 5, "found a pipe"),
            (&*dir, 5, "found a directory"),
            (Path::new("/dev/zero"), 5, "found a device"),
        ] {
            let error = read(path, max).unwrap_err().to_string();
            assert!(error.contains(says), "{}: {error}", path.display());
        }
        // Files of /proc have no size before they are read.
        let error = read(Path::new("/proc/self/maps"), 100).unwrap_err().to_string();
        assert!(error.contains("at most 100 bytes, found more"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
