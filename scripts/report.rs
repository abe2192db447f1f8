// SPDX-License-Identifier: GPL-2.0

//! Sums up test results: reads files of KTAP, names what failed or was skipped and why, and
//! closes with `N passed, N failed, N skipped`. Exits with 1 if anything failed.
//!
//! `report FILE...`; of `OURS=UPSTREAM` no result in OURS may be worse than that in UPSTREAM. Those
//! tests are upstream's, and so are the failures on both.

use std::{collections::BTreeMap, env, fs, path::Path, process::ExitCode};

#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

use Outcome::*;

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
    match (ok, remark.strip_prefix("SKIP")) {
        (_, Some("")) => Skipped("the test gives no reason".to_owned()),
        (_, Some(reason)) => Skipped(reason.trim().to_owned()),
        (true, None) => Passed,
        (false, None) => Failed(remark.to_owned()),
    }
}

/// The results of a file, by name. A test that contains tests stands for itself only if they do
/// not explain how it ended: then something broke that none of them could report.
fn results(text: &str) -> BTreeMap<String, Outcome> {
    let mut all = BTreeMap::new();
    let mut inner: Vec<(String, Outcome)> = Vec::new();
    let mut running = String::new();
    let (mut plan, mut seen) = (None, 0);

    for line in text.lines() {
        let (depth, bare) = {
            let bare = line.trim_start_matches(['#', ' ']);
            (line.len() - bare.len(), bare)
        };
        if let Some(test) = bare.strip_prefix("RUN ") {
            running = test.trim().trim_end_matches(" ...").to_owned();
        }
        if let Some(count) = bare.strip_prefix("1..").filter(|_| depth == 0) {
            plan = count
                .split_whitespace()
                .next()
                .and_then(|n| n.parse::<usize>().ok());
        }
        let Some((ok, name, remark)) = result_line(bare) else {
            continue;
        };
        let outcome = outcome(ok, remark);
        if depth > 0 {
            inner.push((name.to_owned(), outcome));
            continue;
        }

        seen += 1;
        let explained = match &outcome {
            Failed(_) => inner.iter().any(|(_, o)| matches!(o, Failed(_))),
            _ => !inner.is_empty(),
        };
        let name = name.trim_start_matches("selftests: ").replace(": ", "/");
        for (test, outcome) in inner.drain(..) {
            // A name may come again, as the result of another variant: keep the worse.
            let slot = all.entry(format!("{name}: {test}")).or_insert(Passed);
            if !matches!(slot, Failed(_)) {
                *slot = outcome;
            }
        }
        if !explained {
            let outcome = match outcome {
                Failed(remark) if !running.is_empty() => Failed(format!("{remark} in {running}")),
                other => other,
            };
            all.insert(name, outcome);
        }
        running.clear();
    }

    // What a crash cut off must not look like a shorter list.
    for (test, outcome) in inner {
        all.insert(test, outcome);
    }
    if plan.is_none_or(|plan| seen < plan) {
        let last = if running.is_empty() {
            "its first test".into()
        } else {
            running
        };
        all.insert(
            "the whole suite".into(),
            Failed(format!("ended early, in {last}")),
        );
    }
    all
}

fn read(path: &str) -> BTreeMap<String, Outcome> {
    match fs::read(path) {
        Ok(text) => results(&String::from_utf8_lossy(&text)),
        Err(error) => [("the whole suite".into(), Failed(format!("{path}: {error}")))].into(),
    }
}

fn main() -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);

    for argument in env::args().skip(1) {
        let (ours, upstream) = argument.split_once('=').unwrap_or((&argument, ""));
        // The directory says where it ran.
        let mut names = Path::new(ours).with_extension("");
        while names.components().count() > 2 {
            names = names.components().skip(1).collect();
        }
        let suite = names.display();
        let reference = if upstream.is_empty() {
            BTreeMap::new()
        } else {
            read(upstream)
        };
        let before = (passed, failed, skipped);

        let mut all = read(ours);
        for name in reference.keys() {
            all.entry(name.clone())
                .or_insert_with(|| Failed("said nothing, other than on upstream".into()));
        }

        for (name, outcome) in all {
            let reference = reference.get(&name);
            match outcome {
                Passed => passed += 1,
                Failed(why) if matches!(reference, Some(Failed(_))) => {
                    skipped += 1;
                    println!("skipped: {suite}: {name}: fails on upstream as well {why}");
                }
                Skipped(why) if reference == Some(&Passed) => {
                    failed += 1;
                    println!("FAILED: {suite}: {name}: skipped, other than on upstream: {why}");
                }
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
