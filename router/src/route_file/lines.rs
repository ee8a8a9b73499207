//! Reads lines from files, compressed or not.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::regular_file;

/// Lines of a stream, trimmed of spaces and line ends, in one reused buffer.
pub struct Lines {
    source: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Lines of this stream, as it is.
    pub fn new(source: Box<dyn Read>) -> Self {
        Self { source: BufReader::with_capacity(BUFFER, source), line: Vec::new(), number: 0 }
    }

    /// Opens `path`, or standard input for `-`. Gzip and zstd are recognised by their first bytes,
    /// so they work on standard input too.
    ///
    /// # Errors
    /// Of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let plain: Box<dyn Read> = if path == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(path)?)
        };
        Ok(Self::new(decompressed(plain)?))
    }

    /// Like [`Self::open`], but only a regular file of at most [`TEXT_MAX`] bytes, packed and unpacked:
    /// it ends, whatever it is.
    ///
    /// # Errors
    /// Of the file system; or it is another kind of file, or too large.
    pub fn open_regular(path: &Path) -> io::Result<Self> {
        let file = regular_file::open(path, TEXT_MAX)?;
        let text = decompressed(Box::new(file))?;
        Ok(Self::new(Box::new(Limited { source: text, left: TEXT_MAX })))
    }

    /// The next line, or `None` after the last.
    ///
    /// # Errors
    /// Of the source; or a line that is too long.
    pub fn read(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        self.number += 1;
        let mut limited = (&mut self.source).take(LINE_MAX + 1);
        let read = limited.read_until(b'\n', &mut self.line)?;
        if read as u64 > LINE_MAX {
            return Err(io::Error::other(format!(
                "expected lines of at most {LINE_MAX} bytes, found a longer one"
            )));
        }
        Ok((read > 0).then(|| self.line.trim_ascii()))
    }

    /// Number, from 1, of the line that [`Self::read`] returned or failed at.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether reading the next line may block.
    pub fn would_wait(&self) -> bool {
        !self.source.buffer().contains(&b'\n')
    }
}

/// Fails where the source has more than so many bytes: little that is packed may be very much.
struct Limited {
    source: Box<dyn Read>,
    left: u64,
}

impl Read for Limited {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buf)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("expected at most {TEXT_MAX} bytes of text, found more"))
        })?;
        Ok(read)
    }
}

fn decompressed(mut source: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    let mut magic = Vec::with_capacity(MAGIC_LEN);
    (&mut source).take(MAGIC_LEN as u64).read_to_end(&mut magic)?;
    let (gzip, zstd) = (magic.starts_with(&GZIP), is_zstd(&magic));
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(source));
    Ok(if gzip {
        Box::new(MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(ZstdFrames::new(whole))
    } else {
        Box::new(whole)
    })
}

/// Whether this begins a data frame, or a skippable frame before one (RFC 8878 3.1).
fn is_zstd(magic: &[u8]) -> bool {
    let Ok(bytes) = magic.try_into() else { return false };
    let number = u32::from_le_bytes(bytes);
    number == ZSTD || number & !0xf == ZSTD_SKIPPABLE
}

/// The content of consecutive zstd frames, which parallel compressors write. The decoder itself
/// reads a single frame.
struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), in_frame: false }
    }

    /// Whether there is another frame.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = (&mut self.source).take(u64::from(length));
                    io::copy(&mut { skipped }, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    fn end(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(io::Error::other("the zstd checksum is wrong"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.in_frame && self.decoder.can_collect() > 0 {
                return self.decoder.read(buf);
            }
            if self.in_frame && self.decoder.is_finished() {
                self.end()?;
            }
            if self.in_frame {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(io::Error::other)?;
            } else if self.begin()? {
                self.in_frame = true;
            } else {
                return Ok(0);
            }
        }
    }
}

const BUFFER: usize = 64 * 1024;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const LINE_MAX: u64 = 64 * 1024;
const MAGIC_LEN: usize = 4;

/// Bytes of a file of routes that is part of a configuration.
pub const TEXT_MAX: u64 = 512 << 20;

const ZSTD: u32 = 0xfd2f_b528;
const ZSTD_SKIPPABLE: u32 = 0x184d_2a50;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text_of(bytes: Vec<u8>) -> io::Result<String> {
        let mut text = String::new();
        decompressed(Box::new(Cursor::new(bytes)))?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &str) -> Vec<u8> {
        use ruzstd::encoding::{CompressionLevel, compress_to_vec};
        compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
    }

    #[test]
    fn members_and_frames_join_and_skippable_ones_are_skipped() {
        let long = "198.51.100.0/24 fra\n".repeat(20_000);
        let skippable = [&0x184d_2a5f_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"abc"].concat();
        for (case, bytes, want) in [
            ("plain", b"x y\n".to_vec(), "x y\n".to_owned()),
            ("short", b"x".to_vec(), "x".to_owned()),
            ("empty", vec![], String::new()),
            ("gzip", gzip(&long), long.clone()),
            ("two members", [gzip("a"), gzip("b")].concat(), "ab".to_owned()),
            ("zstd", zstd(&long), long.clone()),
            (
                "two frames",
                [zstd("a"), skippable.clone(), zstd(&long)].concat(),
                format!("a{long}"),
            ),
            ("skippable first", [skippable, zstd("a")].concat(), "a".to_owned()),
        ] {
            assert!(text_of(bytes).unwrap() == want, "{case}");
        }
    }

    #[test]
    fn a_truncated_or_changed_archive_is_an_error() {
        for whole in [gzip(&"route\n".repeat(1_000)), zstd(&"route\n".repeat(1_000))] {
            for len in 5..whole.len() {
                assert!(text_of(whole[..len].to_vec()).is_err(), "{len} of {}", whole.len());
            }
            let mut changed = whole.clone();
            *changed.last_mut().unwrap() ^= 1;
            assert!(text_of(changed).is_err());
        }
    }

    #[test]
    fn what_unpacks_to_more_than_is_taken_is_refused() {
        let mut limited = Limited { source: Box::new(io::repeat(b'\n')), left: TEXT_MAX };
        let copied = io::copy(&mut limited, &mut io::sink());
        assert!(copied.unwrap_err().to_string().contains("at most 536870912 bytes of text"));
    }

    #[test]
    fn lines_are_trimmed_numbered_and_bounded() {
        let mut lines = Lines::new(Box::new(Cursor::new(b"a b\r\n\n \tc\t \nlast")));
        let mut seen = Vec::new();
        while let Some(line) = lines.read().unwrap() {
            seen.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(seen, ["a b", "", "c", "last"]);
        let mut endless = Lines::new(Box::new(io::repeat(b'x')));
        assert!(endless.read().unwrap_err().to_string().contains("at most 65536 bytes"));
        assert_eq!(endless.number(), 1);
    }
}
