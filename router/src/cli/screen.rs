//! How much room there is for an answer.
#![forbid(unsafe_code)]

use std::io::IsTerminal as _;

/// The size of a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Columns.
    pub(super) width: usize,
    /// Lines.
    pub(super) lines: usize,
}

/// The width that a table has to fit: that of the terminal, or `COLUMNS` from the environment. `None` if
/// all columns are asked for, or neither is known: whoever reads a pipe wants every column.
pub(super) fn width(wide: bool) -> Option<usize> {
    let columns = || columns(std::env::var("COLUMNS").ok().as_deref());
    if wide { None } else { columns().or_else(|| size().map(|size| size.width)) }
}

/// The size of the terminal, if standard output is one.
pub(super) fn size() -> Option<Size> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    // A terminal of unknown size reports 0.
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    let (width, lines) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
    Some(Size { width: width.into(), lines: lines.into() })
}

fn columns(text: Option<&str>) -> Option<usize> {
    text?.parse().ok().filter(|&columns| columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_above_zero_is_a_width() {
        let widths = [None, Some("100"), Some("0"), Some(""), Some("wide")].map(columns);
        assert_eq!(widths, [None, Some(100), None, None, None]);
        assert_eq!(width(true), None);
    }
}
