// SPDX-License-Identifier: GPL-2.0

//! `compare`: what one kernel did must be what the other did, but for the deviations from upstream
//! that are on purpose.

use crate::{
    by_upcall,
    rules::{self, Agreement, Rule, RULES},
};
use std::{collections::BTreeMap, fs, path::Path};

/// An operation of a transcript: its line, and those of what came of it.
pub struct Operation<'a> {
    pub line: &'a str,
    pub outcome: Vec<&'a str>,
}

struct Program<'a> {
    line: &'a str,
    operations: Vec<Operation<'a>>,
}

fn parse(text: &str) -> Result<Vec<Program<'_>>, String> {
    let mut programs: Vec<Program> = Vec::new();
    for line in text.lines() {
        if line.starts_with("program ") {
            programs.push(Program {
                line,
                operations: Vec::new(),
            });
            continue;
        }
        let program = programs
            .last_mut()
            .ok_or("a transcript begins with a program")?;
        if line.starts_with('#') {
            program.operations.push(Operation {
                line,
                outcome: Vec::new(),
            });
        } else {
            let operation = program.operations.last_mut();
            operation
                .ok_or("a program begins with an operation")?
                .outcome
                .push(line);
        }
    }
    Ok(programs)
}

/// How two kernels may differ.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    Same,
    /// By the rules.
    Upstream,
    /// By these, and those of the upcall.
    Upcall,
}

/// The first difference between what a program did on one kernel and on the other.
pub struct Difference {
    /// The operation, by its number; past the end if one transcript is shorter.
    pub operation: usize,
    pub report: String,
}

#[derive(Default)]
struct Tally {
    operations: usize,
    /// Those that cannot be compared.
    skipped: usize,
    upcalls: usize,
    fired: BTreeMap<Rule, usize>,
}

fn difference(
    ours: &Program,
    other: &Program,
    mode: Mode,
    tally: &mut Tally,
) -> Option<Difference> {
    let (mut allowed, mut parted) = (true, false);
    let pairs = ours.operations.iter().zip(&other.operations);
    for (index, (ours_operation, other_operation)) in pairs.enumerate() {
        if parted {
            tally.skipped += 1;
        } else {
            tally.operations += 1;
            let before = &ours.operations[..index];
            match agree(ours_operation, other_operation, mode, allowed, before) {
                Ok(agreement) => {
                    parted = agreement.parted;
                    for rule in agreement.fired {
                        *tally.fired.entry(rule).or_default() += 1;
                    }
                }
                Err(expected) => {
                    let report = report(ours, ours_operation, other_operation, &expected);
                    return Some(Difference {
                        operation: index,
                        report,
                    });
                }
            }
        }
        // The next operation begins in a new subject.
        parted &= !ours_operation.line.ends_with(" fence");
        let mut lines = other_operation.outcome.iter();
        let read = lines.find_map(|line| rules::text(line, "read"));
        allowed = read.map_or(allowed, |value| value != "0");
    }
    (ours.operations.len() != other.operations.len()).then(|| Difference {
        operation: ours.operations.len().min(other.operations.len()),
        report: format!("# {}: one transcript ends before the other\n", ours.line),
    })
}

/// Returns what was expected of ours where it did something else.
fn agree(
    ours: &Operation,
    other: &Operation,
    mode: Mode,
    allowed: bool,
    before: &[Operation],
) -> Result<Agreement, Vec<String>> {
    if ours.line != other.line {
        return Err(vec![other.line.to_owned()]);
    }
    match mode {
        Mode::Upstream => rules::agree(ours, other, allowed, before, false),
        Mode::Upcall => rules::agree(ours, other, allowed, before, true),
        Mode::Same if ours.outcome == other.outcome => Ok(Agreement::default()),
        Mode::Same => Err(other.outcome.iter().map(|line| line.to_string()).collect()),
    }
}

/// Both sides of a difference, from shortly before to shortly after its first line.
fn report(program: &Program, ours: &Operation, other: &Operation, expected: &[String]) -> String {
    const LINES: usize = 6;
    let pairs = ours.outcome.iter().zip(expected);
    let same = pairs.take_while(|(a, b)| **a == b.as_str()).count();
    let mut report = format!("# {}, {}\n", program.line, ours.line);
    for line in &ours.outcome[same.saturating_sub(LINES)..same] {
        report += &format!("#            {line}\n");
    }
    for line in other.outcome.iter().skip(same).take(LINES) {
        report += &format!("#   other    {line}\n");
    }
    let is_new = |line: &&String| !other.outcome.contains(&line.as_str());
    for line in expected.iter().skip(same).filter(is_new).take(LINES) {
        report += &format!("#   expected {line}\n");
    }
    for line in ours.outcome.iter().skip(same).take(LINES) {
        report += &format!("#   ours     {line}\n");
    }
    report
}

/// The kernel that a transcript comes from: the name of its directory.
fn kernel(path: &str) -> &str {
    let directory = Path::new(path).parent().and_then(Path::file_name);
    directory.and_then(|name| name.to_str()).unwrap_or(path)
}

/// Compares two transcripts, prints what differs and a summary. Returns whether they agree.
pub fn compare(ours: &str, other: &str, mode: Mode) -> Result<bool, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let names = [ours, other].map(kernel);
    let (ours, other) = (read(ours)?, read(other)?);
    let (ours, other) = (parse(&ours)?, parse(&other)?);

    let mut tally = Tally::default();
    let mut differences = 0;
    println!("KTAP version 1");
    for (ours, other) in ours.iter().zip(&other) {
        let lines = ours
            .operations
            .iter()
            .flat_map(|operation| &operation.outcome);
        tally.upcalls += lines
            .filter(|line| line.starts_with("  handler upcall"))
            .count();
        if let Some(difference) = difference(ours, other, mode, &mut tally) {
            differences += 1;
            print!("{}", difference.report);
        }
    }
    if ours.len() != other.len() || tally.operations == 0 {
        differences += 1;
        println!(
            "# {} programs of ours, {} of the other",
            ours.len(),
            other.len()
        );
    }

    println!(
        "# {} operations behind a parting of the ways, {} upcalls",
        tally.skipped, tally.upcalls
    );
    let rules: &[(Rule, &str)] = match mode {
        Mode::Same => &[],
        Mode::Upstream => &RULES,
        // Whether the others are met at all is for the comparison without upcalls to say.
        Mode::Upcall => {
            let fired = |(rule, _): &(Rule, &str)| tally.fired.get(rule).copied();
            let count: usize = RULES.iter().filter_map(fired).sum();
            println!("# {count} deviations of the two by D1 to D7");
            &by_upcall::RULES
        }
    };
    println!("1..{}", 1 + rules.len());
    println!(
        "{} 1 random programs on {} and {}{} # {} operations of {} programs, {differences} differences",
        if differences == 0 { "ok" } else { "not ok" },
        names[0],
        names[1],
        if rules.is_empty() { ", without a rule" } else { "" },
        tally.operations,
        ours.len()
    );
    for (index, (rule, name)) in rules.iter().enumerate() {
        match tally.fired.get(rule) {
            Some(count) => println!("ok {} {name} # {count} times", index + 2),
            None => println!("ok {} {name} # SKIP no operation met it", index + 2),
        }
    }
    Ok(differences == 0)
}

/// How each program of two transcripts differs, if it does.
pub fn differences(ours: &str, other: &str, mode: Mode) -> Result<Vec<Option<Difference>>, String> {
    let (ours, other) = (parse(ours)?, parse(other)?);
    let mut tally = Tally::default();
    let pairs = ours.iter().zip(&other);
    Ok(pairs
        .map(|(ours, other)| difference(ours, other, mode, &mut tally))
        .collect())
}
