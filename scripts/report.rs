// SPDX-License-Identifier: GPL-2.0

//! Sums up test results: reads files of KTAP, names what failed or was skipped and why, and
//! closes with `N passed, N failed, N skipped`. Exits with 1 if anything failed.
//!
//! `report ARGUMENT...`, where an argument is one of
//!
//! - `FILE`: nothing in it may fail, not even a test that says itself that it is expected to.
//! - `FILE+`: the same, and no program of it may be skipped as a whole, as one would be that did not
//!   find what it tests.
//! - `OURS=UPSTREAM`: no result in OURS may be worse than that in UPSTREAM. Those tests are
//!   upstream's, and so are the failures on both.
//! - `FILE!LIST`: what LIST names has to fail, which counts as passed, and nothing else may. A line
//!   of LIST is `D<n> <binary>: <test>`, the deviation and a test that shows it, or a comment, which
//!   begins with `#`.

use std::{collections::BTreeMap, env, fs, path::Path, process::ExitCode};

/// From good to bad.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

use Outcome::*;

type Outcomes = BTreeMap<String, Outcome>;

/// A result line: whether it says `ok`, its name, and its directive or remark behind `#`.
fn result_line(line: &str) -> Option<(bool, &str, &str)> {
    let (ok, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let rest = rest
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    let (name, remark) = rest.split_once('#').unwrap_or((rest, ""));
    Some((ok, name.trim().trim_start_matches("- "), remark.trim()))
}

fn outcome(ok: bool, remark: &str) -> Outcome {
    // A test cannot forgive itself: what may fail is for whoever calls us to say.
    let ok = ok && !remark.starts_with("XFAIL");
    match (ok, remark.strip_prefix("SKIP")) {
        (_, Some("")) => Skipped("the test gives no reason".to_owned()),
        (_, Some(reason)) => Skipped(reason.trim().to_owned()),
        (true, None) => Passed,
        (false, None) => Failed(remark.to_owned()),
    }
}

/// The last of what a test said, on one line.
fn explanation(said: &[&str]) -> String {
    const LINES: usize = 6;
    said[said.len().saturating_sub(LINES)..].join("; ")
}

/// The results of a file, by name. A test that contains tests stands for itself only if they do
/// not explain how it ended: then something broke that none of them could report.
fn results(text: &str) -> Outcomes {
    let mut all = BTreeMap::new();
    let mut inner: Vec<(String, Outcome)> = Vec::new();
    let mut running = String::new();
    // What was said since the last result, for it to explain a failure.
    let mut said: Vec<&str> = Vec::new();
    let (mut plan, mut inner_plan, mut seen) = (None, None, 0);
    let mut last = String::new();

    for line in text.lines() {
        let (depth, bare) = {
            let bare = line.trim_start_matches(['#', ' ']);
            (line.len() - bare.len(), bare)
        };
        if let Some(test) = bare.strip_prefix("RUN ") {
            running = test.trim().trim_end_matches(" ...").to_owned();
        }
        if let Some(count) = bare.strip_prefix("1..") {
            said.clear();
            let count = count.split_whitespace().next();
            let count = count.and_then(|n| n.parse::<usize>().ok());
            match depth {
                0 => plan = count,
                _ => inner_plan = count,
            }
            continue;
        }
        let Some((ok, name, remark)) = result_line(bare) else {
            let is_progress = ["RUN ", "OK ", "FAIL "]
                .iter()
                .any(|it| bare.starts_with(it));
            if depth > 0 && !is_progress {
                said.push(bare.trim());
            }
            continue;
        };
        let outcome = match outcome(ok, remark) {
            Failed(remark) if remark.is_empty() => Failed(explanation(&said)),
            other => other,
        };
        said.clear();
        if depth > 0 {
            inner.push((name.to_owned(), outcome));
            continue;
        }

        seen += 1;
        let explained = match &outcome {
            Failed(_) => {
                inner.iter().any(|(_, o)| matches!(o, Failed(_)))
                    && inner_plan.is_none_or(|plan| inner.len() >= plan)
            }
            _ => !inner.is_empty(),
        };
        inner_plan = None;
        let name = name.trim_start_matches("selftests: ").replace(": ", "/");
        for (test, outcome) in inner.drain(..) {
            // A name may come again, as the result of another variant: keep the worse.
            let slot = all.entry(format!("{name}: {test}")).or_insert(Passed);
            if *slot < outcome {
                *slot = outcome;
            }
        }
        if !explained {
            let outcome = match outcome {
                Failed(remark) if !running.is_empty() => Failed(format!("{remark} in {running}")),
                other => other,
            };
            all.insert(name.clone(), outcome);
        }
        running.clear();
        last = name;
    }

    // What a crash cut off must not look like a shorter list.
    for (test, outcome) in inner {
        all.insert(test, outcome);
    }
    if plan.is_none_or(|plan| seen < plan) {
        let place = match (running.as_str(), last.as_str()) {
            ("", "") => "in its first test".to_owned(),
            ("", last) => format!("after {last}"),
            (running, _) => format!("in {running}"),
        };
        all.insert(
            "the whole suite".into(),
            Failed(format!("ended early, {place}")),
        );
    }
    all
}

fn read(path: &str) -> Outcomes {
    match fs::read(path) {
        Ok(text) => results(&String::from_utf8_lossy(&text)),
        Err(error) => [("the whole suite".into(), Failed(format!("{path}: {error}")))].into(),
    }
}

/// The results in a file, where each program finds what it tests.
fn with_all_programs(file: &str) -> Outcomes {
    let mut all = read(file);
    for (name, outcome) in &mut all {
        // The tests of a program have its name before theirs.
        if let (Skipped(why), false) = (&*outcome, name.contains(": ")) {
            *outcome = Failed(format!("skipped as a whole: {why}"));
        }
    }
    all
}

/// The results of ours, judged by those of upstream.
fn beside(mut ours: Outcomes, upstream: Outcomes) -> Outcomes {
    for (test, upstream) in upstream {
        let outcome = match (ours.remove(&test), upstream) {
            (None, Passed | Skipped(_)) => Failed("said nothing, other than on upstream".into()),
            (None, Failed(why)) => Skipped(format!("fails on upstream alone: {why}")),
            (Some(Failed(why)), Failed(_)) => Skipped(format!("fails on upstream as well: {why}")),
            (Some(Skipped(why)), Passed) => {
                Failed(format!("skipped, other than on upstream: {why}"))
            }
            (Some(outcome), _) => outcome,
        };
        ours.insert(test, outcome);
    }
    ours
}

/// What a list says: the deviations, each with a test.
fn named(list: &str) -> Result<Vec<(String, String)>, String> {
    let text = fs::read_to_string(list).map_err(|error| format!("{list}: {error}"))?;
    let is_entry = |(deviation, test): &(&str, &str)| {
        let number = deviation.strip_prefix('D').map(str::parse::<u8>);
        matches!(number, Some(Ok(_))) && test.contains(": ")
    };
    let mut named = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = line.split_once(' ').filter(is_entry);
        let (deviation, test) =
            entry.ok_or_else(|| format!("{list}: not a deviation and its test: {line}"))?;
        named.push((deviation.to_owned(), test.to_owned()));
    }
    Ok(named)
}

/// The results in a file, judged by a list of what has to fail.
fn with_failures(file: &str, list: &str) -> Outcomes {
    let mut all = read(file);
    let named = match named(list) {
        Ok(named) => named,
        Err(why) => {
            all.insert("the list of failures".into(), Failed(why));
            return all;
        }
    };
    let suite = Path::new(file).file_stem().unwrap_or_default();
    let suite = suite.to_string_lossy();
    for (deviation, test) in named {
        let test = format!("{suite}/{test}");
        let but = |how: &str| Failed(format!("has to fail here, for {deviation}, but {how}"));
        let outcome = match all.get(&test) {
            Some(Failed(_)) => Passed,
            Some(Passed) => but("passed"),
            Some(Skipped(why)) => but(&format!("was skipped: {why}")),
            None => but("said nothing"),
        };
        all.insert(test, outcome);
    }
    all
}

fn main() -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);

    for argument in env::args().skip(1) {
        let (file, all) = if let Some((ours, upstream)) = argument.split_once('=') {
            (ours, beside(read(ours), read(upstream)))
        } else if let Some((file, list)) = argument.split_once('!') {
            (file, with_failures(file, list))
        } else if let Some(file) = argument.strip_suffix('+') {
            (file, with_all_programs(file))
        } else {
            (&*argument, read(&argument))
        };
        // The directory says where it ran.
        let mut names = Path::new(file).with_extension("");
        while names.components().count() > 2 {
            names = names.components().skip(1).collect();
        }
        let suite = names.display();

        let before = (passed, failed, skipped);
        for (name, outcome) in all {
            match outcome {
                Passed => passed += 1,
                Failed(why) => {
                    failed += 1;
                    println!("FAILED: {suite}: {name}: {why}");
                }
                Skipped(why) => {
                    skipped += 1;
                    println!("skipped: {suite}: {name}: {why}");
                }
            }
        }
        println!(
            "{suite}: {} passed, {} failed, {} skipped",
            passed - before.0,
            failed - before.1,
            skipped - before.2
        );
    }

    println!("{passed} passed, {failed} failed, {skipped} skipped");
    ExitCode::from(u8::from(failed > 0))
}
