//! Reads `[[routes]]`: a file of routes.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

use crate::config::model::{RouteFile, RouteTarget};
use crate::config::value::{self, text};
use crate::config::walk::Table;
use crate::rib::table::RouteTable;

/// A file of routes as written, and what was read from it.
pub(in crate::config) struct RawRoutes {
    /// `None` if missing or invalid.
    pub(in crate::config) file: Option<Spanned<PathBuf>>,
    name: Option<Spanned<String>>,
    /// Position of the whole section.
    pub(in crate::config) span: Range<usize>,
    /// Empty until [`crate::config::route_files`] has read it.
    pub(in crate::config) routes: RouteTable<RouteTarget>,
}

impl RawRoutes {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let example = "file = \"table.txt\", with a line PREFIX NEXTHOP for each route";
        let file = table.need("file", example, text("a path", |path| Ok(PathBuf::from(path))));
        let name = table.get("name", text("a name", value::name));
        let span = table.span();
        table.finish();
        Self { file, name, span, routes: RouteTable::default() }
    }

    /// As given, else the file's.
    pub(in crate::config) fn name(&self) -> String {
        let of_file = || Some(self.file.as_ref()?.get_ref().file_name()?.to_string_lossy().into());
        let given = self.name.as_ref().map(|name| name.get_ref().clone());
        given.or_else(of_file).unwrap_or_default()
    }

    /// Where the name stands.
    pub(in crate::config) fn name_span(&self) -> Range<usize> {
        let of_file = self.file.as_ref().map(Spanned::span);
        self.name.as_ref().map(Spanned::span).or(of_file).unwrap_or(self.span.clone())
    }

    pub(super) fn into_model(self) -> RouteFile {
        let name = self.name();
        let path = self.file.map(Spanned::into_inner).unwrap_or_default();
        RouteFile { name, path, routes: self.routes }
    }
}
