//! The tables at the end of a demo, for a terminal of 80 columns.
#![forbid(unsafe_code)]

use crate::measure::{KillKind, KillSummary, Summary, Takeover};

/// A line, and whether it is good news.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) mood: Mood,
}

/// How a line is to be coloured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mood {
    Plain,
    Good,
    Bad,
}

/// What was reached, where the time went, who took over, and what failed.
pub(super) fn tables(summary: &Summary) -> Vec<Line> {
    let mut lines = Vec::new();
    if !summary.kills.is_empty() {
        lines.extend(["", BLACKOUTS].map(Line::plain));
        lines.extend(summary.kills.iter().flat_map(speed));
        lines.extend(["", SPLIT].map(Line::plain));
        lines.extend(summary.kills.iter().map(split));
        lines.push(Line::plain(REST));
        lines.push(Line::plain(""));
        lines.extend(takeovers(&summary.kills));
    }
    lines.push(totals(summary));
    lines.extend(summary.failures.iter().map(|what| Line::bad(format!("FAILED   {what}"))));
    lines
}

/// What is said of the whole, and in which colour.
pub(super) fn verdict(summary: &Summary) -> (&'static str, String) {
    if !summary.ok {
        return ("31", "not every expectation held".to_owned());
    }
    let all = summary.kills.len();
    match summary.kills.iter().filter(|kill| !kill.judged).count() {
        0 => ("32", "every expectation held".to_owned()),
        some => ("32", format!("every expectation held; speed not judged in {some} of {all} rows")),
    }
}

/// One kind and family; the reason is on a line of its own where it would be cut.
fn speed(kill: &KillSummary) -> Vec<Line> {
    let row = format!(
        "{:<9}  {:<6}  {:>7.2}  {:>7.2}  {:>7}  {:>5}",
        kill.kind.label(),
        kill.family.label(),
        kill.blackout_ms.p50,
        kill.blackout_ms.max,
        // One that holds nobody is not shown.
        if kill.judged { format!("{:.2}", kill.budget_ms) } else { "-".to_owned() },
        kill.lost
    );
    let (word, mood) = match kill.met {
        Some(true) => ("met".to_owned(), Mood::Good),
        Some(false) => ("MISSED".to_owned(), Mood::Bad),
        None => (format!("not judged: {}", kill.why), Mood::Plain),
    };
    if row.chars().count() + 2 + word.chars().count() <= COLUMNS {
        return vec![Line { text: format!("{row}  {word}"), mood }];
    }
    vec![Line { text: row, mood }, Line { text: format!("           {word}"), mood }]
}

fn split(kill: &KillSummary) -> Line {
    Line::plain(format!(
        "{:<9}  {:<6}  {:>8.3}  {:>8.3}  {:>8.3}  {:>8.3}  {:>8.3}",
        kill.kind.label(),
        kill.family.label(),
        kill.blackout_ms.p50,
        kill.detect_ms,
        kill.publish_ms,
        kill.repair_ms,
        kill.rest_ms
    ))
}

/// One line for each kind, or two where families were served by different sites.
fn takeovers(kills: &[KillSummary]) -> Vec<Line> {
    let line = |kind: KillKind, family: &str, of: &[Takeover]| {
        let reported: Vec<String> = of.iter().map(takeover).collect();
        Line::plain(format!("{:<9}  {family:<6}  {}", kind.label(), reported.join(", ")))
    };
    let mut lines = vec![Line::plain("WHO DIED AND WHO TOOK OVER, AND HOW OFTEN")];
    for kind in KillKind::ALL {
        let rows: Vec<_> = kills.iter().filter(|kill| kill.kind == kind).collect();
        match rows.as_slice() {
            [one, other] if one.takeovers == other.takeovers => {
                lines.push(line(kind, "both", &one.takeovers));
            }
            rows => {
                let of = |row: &&KillSummary| line(kind, row.family.label(), &row.takeovers);
                lines.extend(rows.iter().map(of));
            }
        }
    }
    lines
}

fn takeover(one: &Takeover) -> String {
    format!("{} -> {} ×{}", one.from_site, one.to_site, one.repeats)
}

fn totals(summary: &Summary) -> Line {
    let lost: u64 = summary.heals.iter().map(|heal| heal.lost).sum();
    let sent: u64 = summary.heals.iter().map(|heal| heal.sent).sum();
    let moves = summary.kills.iter().map(|kill| kill.unexplained_moves).sum::<u64>()
        + summary.heals.iter().map(|heal| heal.unexplained_moves).sum::<u64>();
    let resolution = summary.kills.iter().map(|kill| kill.resolution_ms).fold(0.0, f64::max);
    Line::plain(format!(
        "heals lost {lost} of {sent} probes · unexplained moves {moves} · resolution {resolution:.2} ms"
    ))
}

impl Line {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), mood: Mood::Plain }
    }

    fn bad(text: String) -> Self {
        Self { text, mood: Mood::Bad }
    }
}

const COLUMNS: usize = 80;
const BLACKOUTS: &str = "KILL       FAMILY   P50 MS   MAX MS   BUDGET   LOST  SPEED";
const SPLIT: &str = "MEDIAN     FAMILY  BLACKOUT = DETECT +  PUBLISH +  REPAIR +    REST  (ms)";
const REST: &str =
    "REST: the prober's spacing and the way back; negative if they overlap the parts";

#[cfg(test)]
mod tests {
    use nearhop::ids::Family;

    use super::*;
    use crate::measure::testing::{heal_result, kill_result};
    use crate::measure::{Standard, Wanted};

    fn summary(stall_ms: f64) -> Summary {
        let mut kills = Vec::new();
        for (kind, blackout) in KillKind::ALL.into_iter().zip([0.62, 22.913, 5.127, 124.3]) {
            for (family, sites) in
                [(Family::Ipv4, ["fra", "ams", "fra"]), (Family::Ipv6, ["ams", "par", "ams"])]
            {
                for site in sites {
                    let mut kill = kill_result(kind, family, blackout);
                    kill.from_site = site.into();
                    kill.to_site = "par".into();
                    kill.wake_ms = if kind == KillKind::Site { stall_ms } else { 0.1 };
                    kills.push(kill);
                }
            }
        }
        let rules = KillKind::ALL.into_iter().zip([0.0, 30.0, 30.0, 30.0]).collect();
        let wanted = Wanted { kinds: KillKind::ALL.to_vec(), repeats: 3 };
        let heals = [heal_result(0)];
        Summary::new(&kills, &heals, &Standard::Machine(rules), &wanted, vec![])
    }

    #[test]
    fn the_tables_fit_a_terminal_of_eighty_columns() {
        let summary = summary(116.2);
        let lines = tables(&summary);
        let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        insta::assert_snapshot!(text.join("\n"));
        for line in text {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        assert_eq!(
            verdict(&summary),
            ("32", "every expectation held; speed not judged in 2 of 8 rows".to_owned())
        );
    }

    #[test]
    fn a_kind_that_misses_is_bad_news() {
        let summary = summary(0.1);
        assert!(!summary.ok, "124 ms of 30 and a little");
        let missed: Vec<_> =
            tables(&summary).into_iter().filter(|line| line.mood == Mood::Bad).collect();
        // A row and a failure for each family.
        assert_eq!(missed.len(), 4, "{missed:?}");
        assert!(missed[0].text.ends_with("MISSED") && missed[2].text.starts_with("FAILED"));
        assert_eq!(verdict(&summary).1, "not every expectation held");
    }
}
