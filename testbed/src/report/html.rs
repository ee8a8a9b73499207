//! The report page: one file, without scripts, for light and dark mode and small screens.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::svg::{esc, fmt_ms};
use super::{ReportedKill, Run, bars, played, timeline, zoom};
use crate::measure::{HealSummary, KillSummary};

/// The whole page.
pub fn page(run: &Run) -> String {
    let mut html = head(run);
    html.push_str(&verdict(run));
    html.push_str(&run.played.as_ref().map(played::sections).unwrap_or_default());
    let measured_kills = !run.kills.is_empty();
    if measured_kills {
        html.push_str(&headline(run));
        html.push_str(&split(run));
        html.push_str(&takeovers(run));
    }
    html.push_str(&whole_run(run));
    if measured_kills {
        html.push_str(&kills(run));
        html.push_str(&heals(run));
    }
    html.push_str(&method(run));
    html + "</main>\n</html>\n"
}

fn head(run: &Run) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>nearlab {}, {}</title>\n<style>\n{STYLE}</style>\n<main>\n",
        run.played.as_ref().map_or_else(|| "demo".to_owned(), |one| esc(&one.scenario)),
        esc(&run.started)
    )
}

fn verdict(run: &Run) -> String {
    let (title, done) = if let Some(one) = &run.played {
        (esc(&one.scenario), count(one.steps.len() as u64, "step"))
    } else {
        let kills = run.summary.kills.iter().map(|kill| kill.repeats).sum();
        ("Anycast failover".to_owned(), count(kills, "kill"))
    };
    let (class, word) = if run.summary.ok {
        match run.summary.kills.iter().filter(|kill| !kill.judged).count() {
            0 => ("good", "every expectation held".to_owned()),
            some => (
                "good",
                format!(
                    "every expectation held; speed not judged in {some} of {} rows",
                    run.summary.kills.len()
                ),
            ),
        }
    } else {
        ("bad", "not every expectation held".to_owned())
    };
    let mut html = format!(
        "<header><h1>{title}</h1>\n\
         <p class=\"verdict {class}\">{word}</p>\n\
         <p class=\"quiet\">{} · {done} · {} sites · {} flows · seed {}</p>\n",
        esc(&run.started),
        run.sites.len(),
        run.traces.len(),
        run.seed
    );
    if !run.summary.failures.is_empty() {
        html.push_str("<ul class=\"failures\">\n");
        for failure in &run.summary.failures {
            let _ = writeln!(html, "<li>{}</li>", esc(failure));
        }
        html.push_str("</ul>\n");
    }
    html + "</header>\n"
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn headline(run: &Run) -> String {
    let mut html = String::from(
        "<section><h2>Blackouts</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>kill<th>\
         <th class=\"n\">repeats<th class=\"n\">p50 ms<th class=\"n\">max ms<th class=\"n\">budget ms\
         <th>speed<th class=\"n\">resolution ms<th class=\"n\">lost<th class=\"n\">sent\
         <th class=\"n\">reordered<th class=\"n\">moves without reason</tr></thead>\n<tbody>\n",
    );
    for kill in &run.summary.kills {
        html.push_str(&headline_row(kill));
    }
    html.push_str("</tbody></table></div>\n<p class=\"quiet\">");
    html + "A blackout is the longest time between two arrivals of any flow that was hit, in \
            either direction, less the sending interval. The budget of the median is the time that \
            the checks need, and what this machine added in this run: the call that did the harm, the \
            resolution, and how late its threads woke. Where these hide what is to be judged, speed \
            is not judged.</p></section>\n"
}

fn headline_row(kill: &KillSummary) -> String {
    let (class, word) = match kill.met {
        Some(true) => ("good", "met"),
        Some(false) => ("bad", "missed"),
        None => ("quiet", "not judged"),
    };
    format!(
        "<tr><th>{}<td>{}<td class=\"n\">{}<td class=\"n strong {class}\">{}<td class=\"n\">{}\
         <td class=\"n\">{}<td class=\"why\"><span class=\"{class}\">{word}</span> \
         <span class=\"quiet\">{}</span><td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
         <td class=\"n\">{}<td class=\"n{}\">{}</tr>\n",
        esc(kill.kind.label()),
        kill.family.label(),
        kill.repeats,
        fmt_ms(kill.blackout_ms.p50),
        fmt_ms(kill.blackout_ms.max),
        fmt_ms(kill.budget_ms),
        esc(&kill.why),
        fmt_ms(kill.resolution_ms),
        kill.lost,
        kill.sent,
        kill.reordered,
        if kill.unexplained_moves > 0 { " bad" } else { "" },
        kill.unexplained_moves
    )
}

fn takeovers(run: &Run) -> String {
    let mut html = String::from(
        "<section><h2>Who died and who took over</h2>\n<div class=\"scroll\"><table>\n\
         <thead><tr><th>kill<th><th>died<th>took over<th class=\"n\">repeats</tr></thead>\n<tbody>\n",
    );
    for kill in &run.summary.kills {
        for one in &kill.takeovers {
            let _ = writeln!(
                html,
                "<tr><th>{}<td>{}<td>{}<td>{}<td class=\"n\">{}</tr>",
                esc(kill.kind.label()),
                kill.family.label(),
                listed(&one.from_site),
                listed(&one.to_site),
                one.repeats
            );
        }
    }
    html + "</tbody></table></div></section>\n"
}

fn split(run: &Run) -> String {
    format!(
        "<section><h2>Where the time went</h2>\n<p class=\"legend\">\
         <span class=\"key detect\"></span>detect: fault to the router's event \
         <span class=\"key publish\"></span>publish: event to the stored byte \
         <span class=\"key repair\"></span>repair: stored byte to the first packet on the new path \
         <span class=\"key rest\"></span>rest: the prober's spacing and the way back \
         <span class=\"key budget\"></span>budget</p>\n{}\
         <p class=\"quiet\">Milliseconds of the repeat whose blackout is the median; the parts add up \
         to it. The rest is the time from the last arrival to the fault, and from the first packet on \
         the new path to the next probe of the flow that was hit hardest, at the client with its way \
         back, less the sending interval; so it may be negative. Every bar has its own scale, so that \
         the budgets stand in one line.</p></section>\n",
        bars::draw(run)
    )
}

fn whole_run(run: &Run) -> String {
    format!(
        "<section><h2>The whole run</h2>\n<p class=\"legend\">{}\
         <span class=\"key lost\"></span>no answer \
         <span class=\"sign fault\">▼</span>fault <span class=\"sign heal\">▲</span>heal \
         <span class=\"sign change\">◆</span>change</p>\n\
         <div class=\"scroll\">{}</div>\n<p class=\"quiet\">One row for each flow, in the colour of \
         the site that answers. Outages are drawn at least 1.6 pixels wide, or nobody would see \
         them.</p></section>\n",
        site_keys(run),
        timeline::draw(run)
    )
}

fn site_keys(run: &Run) -> String {
    let key = |(site, at): (&String, usize)| {
        format!("<span class=\"key k{}\"></span>{} ", at % 8, esc(site))
    };
    run.sites.iter().zip(0..).map(key).collect()
}

fn kills(run: &Run) -> String {
    let mut html = format!(
        "<section><h2>Every kill, close up</h2>\n<p class=\"legend\">{}\
         <span class=\"key lost\"></span>lost, where it was sent \
         <span class=\"key gap\"></span>longest gap of the flow that was hit hardest</p>\n\
         <p class=\"quiet\">A dot is a probe, where and when it arrived. The first of each kind is \
         open; tap the others.</p>\n",
        site_keys(run)
    );
    let mut shown = Vec::new();
    for (kill, number) in run.kills.iter().zip(1u32..) {
        let key = (kill.kill.kind, kill.kill.family);
        let first = !shown.contains(&key);
        shown.push(key);
        html.push_str(&one_kill(run, kill, number, first));
    }
    html + "</section>\n"
}

fn one_kill(run: &Run, reported: &ReportedKill, number: u32, open: bool) -> String {
    let kill = &reported.kill;
    let title = format!("{number}. {} kill of {}, {}", kill.kind, kill.site, kill.family.label());
    let (figure, body) = match &reported.measured {
        Ok(measured) => {
            let result = &measured.result;
            let figure = format!(
                "{} ms · {} lost · now {}",
                fmt_ms(result.blackout_ms),
                result.lost,
                listed(&result.to_site)
            );
            (figure, format!("<div class=\"scroll\">{}</div>", zoom::draw(run, reported, measured)))
        }
        Err(error) => {
            ("no figure".to_owned(), format!("<p class=\"bad\">{}</p>", esc(&error.to_string())))
        }
    };
    format!(
        "<details{}><summary>{} <span class=\"quiet\">{figure}</span></summary>\n{body}</details>\n",
        if open { " open" } else { "" },
        esc(&title)
    )
}

fn heals(run: &Run) -> String {
    let mut html = String::from(
        "<section><h2>The way back</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>heal after\
         <th><th class=\"n\">lost<th class=\"n\">sent<th class=\"n\">moves without reason</tr></thead>\n\
         <tbody>\n",
    );
    let class = |count| if count > 0 { " bad" } else { "" };
    let row = |heal: &HealSummary| {
        format!(
            "<tr><th>{}<td>{}<td class=\"n{}\">{}<td class=\"n\">{}<td class=\"n{}\">{}</tr>\n",
            esc(heal.kind.label()),
            heal.family.label(),
            class(heal.lost),
            heal.lost,
            heal.sent,
            class(heal.unexplained_moves),
            heal.unexplained_moves
        )
    };
    html.extend(run.summary.heals.iter().map(row));
    html + "</tbody></table></div>\n<p class=\"quiet\">A heal must lose nothing.</p></section>\n"
}

fn method(run: &Run) -> String {
    let machine = &run.machine;
    let mut rows = vec![
        ("kernel".to_owned(), machine.kernel.clone()),
        ("system".to_owned(), machine.system.clone()),
        (
            "machine".to_owned(),
            format!("{}, {} cores, {} MiB", machine.cpu, machine.cores, machine.memory_mib),
        ),
    ];
    rows.extend(run.method.iter().cloned());
    let mut html = String::from("<section><h2>Machine and method</h2>\n<dl>\n");
    for (what, how) in rows {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", esc(&what), esc(&how));
    }
    let _ = write!(
        html,
        "</dl>\n<h2>Again</h2>\n<pre><code>{}</code></pre>\n<p class=\"quiet\">Seed {}. \
         <code>events.jsonl</code> has every event, <code>records.csv.gz</code> every probe, \
         <code>summary.json</code> the figures above for scripts.</p></section>\n",
        esc(&run.command),
        run.seed
    );
    html
}

/// Names joined by commas, with possible line breaks.
fn listed(names: &str) -> String {
    esc(&names.replace(',', ", "))
}

const STYLE: &str = include_str!("style.css");
