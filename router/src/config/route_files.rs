//! Reads the files that `[[routes]]` names.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::check::never_forwarded;
use super::finding::Finding;
use super::model::{RouteTarget, Via};
use super::raw::{RawConfig, RawRoutes, target_of, via_of};
use super::report::{Report, list_of};
use super::suggest::did_you_mean;
use crate::address_text::{is_like_an_address, why_no_address};
use crate::policy::Martians;
use crate::rib::table::{Builder, RouteTable};
use crate::route_file::{Lines, WRONG_SHOWN, parse};

/// Reads every file. Paths are relative to `dir`.
pub(super) fn read_all(raw: &mut RawConfig, dir: &Path, report: &Report) {
    let ports: Vec<String> = raw.ports.iter().filter_map(|port| port.known_as.clone()).collect();
    let known: Vec<&str> = ports.iter().map(String::as_str).collect();
    let reader = Reader { known: &known, martians: raw.router.martians, report };
    for routes in &mut raw.route_files {
        routes.routes = reader.read(routes, dir).unwrap_or_default();
    }
}

struct Reader<'a> {
    known: &'a [&'a str],
    martians: Martians,
    report: &'a Report,
}

impl Reader<'_> {
    /// `None` if there is anything wrong, which is reported.
    fn read(&self, raw: &RawRoutes, dir: &Path) -> Option<RouteTable<RouteTarget>> {
        let file = raw.file.as_ref()?;
        let path = dir.join(file.get_ref());
        let name = path.display().to_string();
        let mut lines = match Lines::open_regular(&path) {
            Ok(lines) => lines,
            Err(error) => {
                let finding = Finding::mistake(format!("cannot read {name}: {error}"))
                    .at(file.span(), "this file of routes");
                self.report.add(finding);
                return None;
            }
        };
        let mut builder = Builder::new();
        let mut targets: HashMap<Box<[u8]>, u32> = HashMap::new();
        let mut wrong: BTreeMap<u64, Finding> = BTreeMap::new();
        let (mut count, mut number) = (0, 0);
        while wrong.len() < WRONG_SHOWN {
            number += 1;
            let line = match lines.read() {
                Ok(None) => break,
                Ok(Some(line)) => line,
                Err(error) => {
                    let finding = Finding::mistake(format!("cannot read {name}: {error}"));
                    wrong.insert(number, finding.in_line(&name, number, ""));
                    break;
                }
            };
            let taken = self.take(line, &mut builder, &mut targets);
            count += usize::from(matches!(taken, Ok(true)));
            let taken = taken.and_then(|_| too_many(count));
            if let Err(finding) = taken {
                let text = String::from_utf8_lossy(line);
                wrong.insert(number, finding.in_line(&name, number, &text));
            }
        }
        if wrong.is_empty() {
            return Some(builder.finish());
        }
        for finding in wrong.into_values() {
            self.report.add_elsewhere(finding);
        }
        None
    }

    /// Returns whether the line is a route.
    fn take(
        &self,
        line: &[u8],
        builder: &mut Builder<RouteTarget>,
        targets: &mut HashMap<Box<[u8]>, u32>,
    ) -> Result<bool, Finding> {
        let Some((prefix, word)) = parse(line).map_err(Finding::mistake)? else {
            return Ok(false);
        };
        let target = if let Some(&target) = targets.get(word) {
            target
        } else {
            let target = builder.target(self.target(&String::from_utf8_lossy(word))?);
            targets.insert(word.into(), target);
            target
        };
        if let Some(kind) = never_forwarded(prefix, self.martians) {
            return Err(Finding::mistake(format!("{prefix} cannot be forwarded"))
                .help(format!("{kind} addresses are never forwarded")));
        }
        builder.add(prefix, target);
        Ok(true)
    }

    fn target(&self, word: &str) -> Result<RouteTarget, Finding> {
        if let Some(target) = target_of(word) {
            return Ok(target);
        }
        let via = via_of(word);
        let is_known = match &via {
            Via::Address(_) => true,
            Via::Port(name) => self.known.contains(&name.as_str()),
        };
        if is_known {
            return Ok(RouteTarget::Via(vec![via]));
        }
        let finding = Finding::mistake(format!("{word:?} is not a port, nor an address"));
        Err(match did_you_mean(word, self.known) {
            Some(port) => finding.help(format!("did you mean {port:?}?")),
            None if is_like_an_address(word) => finding.help(why_no_address(word)),
            None => finding.help(list_of("known ports", self.known)),
        })
    }
}

fn too_many(count: usize) -> Result<(), Finding> {
    if count <= ROUTES_MAX {
        return Ok(());
    }
    let text = format!("more routes than fit: expected at most {ROUTES_MAX} in one file");
    Err(Finding::mistake(text))
}

/// Routes of one file.
const ROUTES_MAX: usize = 1 << 22;
