//! The folder of a run.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{EventLog, Run, page};
use crate::measure::{Summary, Trace};
use crate::utc::Utc;

/// A folder for the files of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}; check free space and permissions", path.display())]
pub struct ReportError {
    /// The file.
    pub path: PathBuf,
    /// The kernel's error.
    pub source: io::Error,
}

impl RunFolder {
    /// Creates `ROOT/DATE-N` with the first free N, counted from 1; concurrent runs get different
    /// folders.
    pub fn create(root: &Path, now: Utc) -> Result<Self, ReportError> {
        fs::create_dir_all(root).map_err(ReportError::at(root))?;
        let date = now.date();
        for number in 1u32.. {
            let path = root.join(format!("{date}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ReportError::at(&path)(error)),
            }
        }
        Err(ReportError::at(root)(io::ErrorKind::AlreadyExists.into()))
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates `events.jsonl`.
    pub fn events(&self) -> Result<EventLog, ReportError> {
        EventLog::create(&self.path.join("events.jsonl"))
    }

    /// Writes `records.csv.gz`: one line per probe, times in CLOCK_MONOTONIC nanoseconds, empty
    /// fields for what never arrived. Returns its path.
    pub fn write_records(&self, traces: &[Trace]) -> Result<PathBuf, ReportError> {
        self.write("records.csv.gz", |out| {
            let mut out = BufWriter::new(GzEncoder::new(out, Compression::fast()));
            writeln!(out, "{RECORDS_HEADER}")?;
            traces.iter().try_for_each(|trace| write_trace(&mut out, trace))?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.finish().map(drop)
        })
    }

    /// Writes `summary.json`. Returns its path.
    pub fn write_summary(&self, summary: &Summary) -> Result<PathBuf, ReportError> {
        self.write("summary.json", |mut out| {
            serde_json::to_writer_pretty(&mut out, summary)?;
            out.write_all(b"\n")
        })
    }

    /// Writes `report.html`. Returns its path.
    pub fn write_report(&self, run: &Run) -> Result<PathBuf, ReportError> {
        self.write("report.html", |mut out| out.write_all(page(run).as_bytes()))
    }

    fn write(
        &self,
        name: &str,
        content: impl FnOnce(BufWriter<&File>) -> io::Result<()>,
    ) -> Result<PathBuf, ReportError> {
        let path = self.path.join(name);
        let written = File::create(&path).and_then(|file| content(BufWriter::new(&file)));
        written.map_err(ReportError::at(&path))?;
        Ok(path)
    }
}

impl ReportError {
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

fn write_trace(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    let flow = &trace.flow;
    let prefix = format!(
        "{},{},{},{},{}",
        csv(&flow.client),
        flow.id,
        flow.family.label(),
        flow.source_port,
        flow.destination
    );
    for probe in &trace.probes {
        write!(out, "{prefix},{},{},", probe.seq, probe.sent_ns)?;
        match &probe.arrival {
            Some(arrival) => {
                let site = csv(trace.site(arrival));
                write!(out, "{},{},{site}", arrival.server_ns, arrival.client_ns)?;
            }
            None => write!(out, ",,")?,
        }
        writeln!(out, ",{}", probe.duplicates)?;
    }
    Ok(())
}

/// A field, quoted where RFC 4180 requires it.
fn csv(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

const RECORDS_HEADER: &str =
    "client,flow,family,source_port,destination,seq,sent_ns,server_ns,client_ns,site,duplicates";
