// SPDX-License-Identifier: GPL-2.0

//! `compare`: what ours did must be what upstream did, but for the deviations that are on purpose.
//!
//! Each deviation is a rule that says what ours has to show where upstream shows what it shows.
//! The rules turn the transcript of upstream into the one that is expected of ours: a deviation
//! that is missing in ours is as much of a difference as one that is not on the list.

use crate::{program, sys::SudConfig};
use std::{collections::BTreeMap, fs};

/// A rule: the deviation of the contract that it stands for, and what ours does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    Lost,
    Number,
    NumberSuppressed,
    GetInclusive,
    SetGetInclusive,
    GetOff,
    SetGetOff,
    KillStop,
    NarrowRegion,
    NarrowSelector,
}

use Rule::*;

const RULES: [(Rule, &str); 10] = [
    (
        Lost,
        "D1: a dispatch is made again where another SIGSYS was pending",
    ),
    (
        Number,
        "D2: a number like a restart code reaches the handler as it is",
    ),
    (
        NumberSuppressed,
        "D2: nothing restarts where the tracer suppressed the signal",
    ),
    (
        GetInclusive,
        "D3: GET on an inclusive thread reports what it was armed with",
    ),
    (
        SetGetInclusive,
        "D3: SET takes back what GET reported of an inclusive thread",
    ),
    (GetOff, "D4: GET on a thread that is off reports zeros"),
    (
        SetGetOff,
        "D4: SET takes back what GET reported of a thread that is off",
    ),
    (KillStop, "D5: a kill over the selector makes no stop"),
    (
        NarrowRegion,
        "D6: the region of a 32-bit caller ends below 2^32",
    ),
    (
        NarrowSelector,
        "D6: the selector of a 32-bit caller is in its address space",
    ),
];

/// An operation of a transcript: its line, and those of what came of it.
struct Operation<'a> {
    line: &'a str,
    outcome: Vec<&'a str>,
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

/// The text of `name=` in a line.
fn text<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The value of `name=` in a line, if it is a number.
fn value(line: &str, name: &str) -> Option<i64> {
    let text = text(line, name)?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|value| value as i64),
        None => text.parse().ok(),
    }
}

/// The line with `name=` set to something else.
fn with(line: &str, name: &str, new: &str) -> String {
    let words = line.split(' ').map(|word| match word.strip_prefix(name) {
        Some(rest) if rest.starts_with('=') => format!("{name}={new}"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn config(line: &str) -> Option<SudConfig> {
    let field = |name| value(line, name).map(|value| value as u64);
    Some(SudConfig {
        mode: field("mode")?,
        selector: field("selector")?,
        offset: field("offset")?,
        len: field("len")?,
    })
}

/// What is expected of ours.
struct Expected {
    lines: Vec<String>,
    fired: Vec<Rule>,
    /// From which line on upstream went astray, and may do as it likes.
    astray: Option<usize>,
}

/// GET: from what upstream keeps to what the thread was armed with. Upstream keeps the addresses
/// that are exempt; for an inclusive thread they wrap around, for no other do they.
fn expect_get(line: &str) -> Option<(Rule, String)> {
    if value(line, "get") != Some(0) {
        return None;
    }
    let kept = config(line)?;
    let report = |config: SudConfig| {
        let prefix = line.split("mode=").next().unwrap_or_default();
        format!("{prefix}{}", program::Shown(&config))
    };
    if kept.mode == 0 && kept != SudConfig::default() {
        return Some((GetOff, report(SudConfig::default())));
    }
    let (end, wraps) = kept.offset.overflowing_add(kept.len);
    if kept.mode == 1 && wraps {
        let armed = SudConfig {
            mode: 2,
            offset: end,
            len: kept.len.wrapping_neg(),
            ..kept
        };
        return Some((GetInclusive, report(armed)));
    }
    None
}

/// The kill over a selector: an exit stop that has no entry stop, or a step over a syscall that did
/// not run.
fn is_stop_of_kill(outcome: &[&str], index: usize) -> bool {
    const ENOSYS: i64 = -38;
    let is_stop = |line: &str| line.starts_with("  stop syscall");
    let line = outcome[index];
    let end = outcome[index + 1..]
        .iter()
        .find(|line| !line.starts_with("  stop event=6"));
    let before = outcome[..index].iter().rev().find(|line| is_stop(line));
    let is_exit = is_stop(line)
        && value(line, "info") != Some(1)
        && before.is_none_or(|line| value(line, "info") != Some(1));
    let is_step = line.starts_with("  stop step")
        && value(line, "rax") == Some(ENOSYS)
        && value(line, "orig") != Some(-1);
    let is_kill =
        |line: &&str| line.ends_with("ends: signal 11") || line.ends_with("ends: signal 31");
    (is_exit || is_step) && end.is_some_and(is_kill)
}

/// The number of a dispatch that looks like a restart code.
fn restart_number(line: &str) -> Option<(i64, bool)> {
    const AUDIT_ARCH_I386: i64 = 0x4000_0003;
    if value(line, "signal") != Some(31) || value(line, "code") != Some(2) {
        return None;
    }
    let (number, is_i386) = (value(line, "nr")?, value(line, "arch")? == AUDIT_ARCH_I386);
    program::is_restart_code(number as u64, is_i386).then_some((number, is_i386))
}

/// What ours is expected to show where upstream shows `upstream`. The sysctl tells whether a thread
/// can be armed.
fn expect(upstream: &Operation, allowed: bool) -> Expected {
    let mut expected = Expected {
        lines: Vec::new(),
        fired: Vec::new(),
        astray: None,
    };
    let outcome = &upstream.outcome;
    let mut reported = None;
    // The dispatch of a number like a restart code, until its handler runs or it is over.
    let mut dispatched: Option<(&str, i64, bool)> = None;

    for (index, line) in outcome.iter().enumerate() {
        if is_stop_of_kill(outcome, index) {
            expected.fired.push(KillStop);
            continue;
        }
        if let Some((rule, line)) = expect_get(line) {
            reported = Some(rule);
            expected.fired.push(rule);
            expected.lines.push(line);
            continue;
        }
        if value(line, "setget") == Some(-22) {
            let (rule, result) = match reported.take() {
                Some(GetOff) => (SetGetOff, "0"),
                _ if allowed => (SetGetInclusive, "0"),
                _ => (SetGetInclusive, "-1"),
            };
            expected.fired.push(rule);
            expected.lines.push(with(line, "setget", result));
            continue;
        }

        if let Some((number, is_i386)) = restart_number(line) {
            dispatched = text(line, "addr").map(|addr| (addr, number, is_i386));
        }
        if let Some((addr, number, is_i386)) = dispatched {
            // In 64-bit registers a number may have nothing above it; then it is no error.
            let [narrow, wide] = [format!("{:#x}", number as u32), number.to_string()];
            let rax = text(line, "rax").unwrap_or_default();
            let is_handler = line.starts_with("  handler") && text(line, "code") != Some("-6");
            if is_handler && (text(line, "rip") != Some(addr) || (rax != narrow && rax != wide)) {
                let rax = if is_i386 { narrow } else { wide };
                expected.fired.push(Number);
                expected
                    .lines
                    .push(with(&with(line, "rip", addr), "rax", &rax));
                expected.astray = Some(expected.lines.len());
                return expected;
            }
            if is_handler || line.starts_with("  ret=") {
                dispatched = None;
            }
        }
        expected.lines.push((*line).to_owned());
    }

    narrow(upstream, &mut expected, allowed);
    expected
}

/// A 32-bit caller arms with what a 32-bit kernel refuses.
fn narrow(upstream: &Operation, expected: &mut Expected, allowed: bool) {
    let words: Vec<&str> = upstream.line.split(' ').collect();
    let is_i386 = words
        .windows(2)
        .any(|pair| matches!(pair, ["at", "int" | "compat" | "pad"]));
    if words.get(1) != Some(&"arm") || !is_i386 {
        return;
    }
    let Some(errno) = config(upstream.line)
        .as_ref()
        .and_then(program::narrow_error)
    else {
        return;
    };
    // EINVAL comes before EPERM, which comes before EFAULT.
    let said = if allowed { "0x0" } else { "-1" };
    let rule = match errno {
        22 => NarrowRegion,
        _ if allowed => NarrowSelector,
        _ => return,
    };
    let errno = format!("-{errno}");
    // Nothing comes between the call and its result, unless it was dispatched.
    let result = upstream.outcome.iter().find_map(|line| text(line, "ret"));
    if result != Some(said) {
        return;
    }
    expected.fired.push(rule);
    for line in &mut expected.lines {
        for name in ["ret", "rax", "rval"] {
            if text(line, name) == Some(said) {
                *line = with(&with(line, name, &errno), "error", "1");
            }
        }
    }
}

/// The line of a stop, one syscall instruction further back.
fn rewound(line: &str) -> Option<String> {
    let rip = text(line, "rip")?;
    let rip = match rip.split_once('+') {
        Some((name, offset)) => {
            format!("{name}+{}", offset.parse::<u64>().ok()?.checked_sub(2)?)
        }
        // As the vDSO of the program, whose code is not told apart.
        None => rip.to_owned(),
    };
    Some(with(&with(line, "rip", &rip), "orig", "-1"))
}

/// How ours agrees with upstream.
struct Agreement {
    fired: Vec<Rule>,
    /// Whether the two went different ways on purpose, which nothing brings together again.
    parted: bool,
}

/// Whether what ours did is what is expected. Returns the rules that took part.
fn agree(ours: &Operation, upstream: &Operation, allowed: bool) -> Result<Agreement, Vec<String>> {
    let mut expected = expect(upstream, allowed);
    let outcome = match expected.astray {
        Some(astray) => ours.outcome.get(..astray).unwrap_or_default(),
        None => &ours.outcome,
    };
    let agreement = |fired| {
        Ok(Agreement {
            fired,
            parted: false,
        })
    };
    if outcome == expected.lines {
        return agreement(expected.fired);
    }

    let same = ours
        .outcome
        .iter()
        .zip(&expected.lines)
        .take_while(|(a, b)| **a == b.as_str());
    let same = same.count();
    let lines = (ours.outcome.get(same), expected.lines.get(same));
    let (Some(line), Some(other)) = lines else {
        return Err(expected.lines);
    };

    // Another SIGSYS was pending while SIGSYS was blocked. Only a tracer can tell where the thread
    // is then, and only one that keeps the signal from it lets it live.
    let is_foreign = value(other, "signal") == Some(31) && value(other, "code") <= Some(0);
    let is_dispatch = text(other, "rax") == text(other, "orig");
    let is_rewound = || rewound(other).as_deref() == Some(line);
    if other.starts_with("  stop") && is_foreign && is_dispatch && is_rewound() {
        expected.fired.push(Lost);
        return Ok(Agreement {
            fired: expected.fired,
            parted: true,
        });
    }

    // Where the signal of a number like a restart code was suppressed there is no handler to tell:
    // upstream restarts, and ours goes on behind the instruction.
    let dispatch = ours.outcome[..same].iter().rev().find_map(|line| {
        line.starts_with("  stop signal")
            .then(|| restart_number(line))
            .flatten()
    });
    if let Some((number, is_i386)) = dispatch {
        let number = if is_i386 {
            i64::from(number as u32)
        } else {
            number
        };
        // A call that a handler makes is named before its result.
        let is_name = |line: &&&str| line.starts_with("  nested");
        let line = ours.outcome[same..]
            .iter()
            .find(|line| !is_name(line))
            .unwrap_or(line);
        if value(line, "ret") == Some(number) || value(line, "rax") == Some(number) {
            expected.fired.push(NumberSuppressed);
            return agreement(expected.fired);
        }
    }
    Err(expected.lines)
}

/// The first difference between what a program did on ours and on upstream.
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
    fired: BTreeMap<Rule, usize>,
}

fn difference(
    ours: &Program,
    upstream: &Program,
    same: bool,
    tally: &mut Tally,
) -> Option<Difference> {
    let mut allowed = true;
    let mut parted = false;
    let pairs = ours.operations.iter().zip(&upstream.operations);
    for (index, (ours_operation, upstream_operation)) in pairs.enumerate() {
        if parted {
            tally.skipped += 1;
            continue;
        }
        tally.operations += 1;
        let agreed = if ours_operation.line != upstream_operation.line {
            Err(vec![upstream_operation.line.to_owned()])
        } else if !same {
            agree(ours_operation, upstream_operation, allowed)
        } else if ours_operation.outcome == upstream_operation.outcome {
            Ok(Agreement {
                fired: Vec::new(),
                parted: false,
            })
        } else {
            Err(upstream_operation
                .outcome
                .iter()
                .map(|line| (*line).to_owned())
                .collect())
        };
        match agreed {
            Ok(agreement) => {
                parted = agreement.parted;
                for rule in agreement.fired {
                    *tally.fired.entry(rule).or_default() += 1;
                }
            }
            Err(expected) => {
                let report = report(ours, ours_operation, upstream_operation, &expected);
                return Some(Difference {
                    operation: index,
                    report,
                });
            }
        }
        let read = upstream_operation
            .outcome
            .iter()
            .find_map(|line| text(line, "read"));
        allowed = read.map_or(allowed, |value| value != "0");
    }
    (ours.operations.len() != upstream.operations.len()).then(|| Difference {
        operation: ours.operations.len().min(upstream.operations.len()),
        report: format!("# {}: one transcript ends before the other\n", ours.line),
    })
}

/// Both sides of a difference, from shortly before to shortly after its first line.
fn report(
    program: &Program,
    ours: &Operation,
    upstream: &Operation,
    expected: &[String],
) -> String {
    const LINES: usize = 6;
    let same = ours
        .outcome
        .iter()
        .zip(expected)
        .take_while(|(a, b)| **a == b.as_str())
        .count();
    let mut report = format!("# {}, {}\n", program.line, ours.line);
    for line in &ours.outcome[same.saturating_sub(LINES)..same] {
        report += &format!("#            {line}\n");
    }
    for line in upstream.outcome.iter().skip(same).take(LINES) {
        report += &format!("#   upstream {line}\n");
    }
    let is_new = |line: &&String| !upstream.outcome.contains(&line.as_str());
    for line in expected.iter().skip(same).filter(is_new).take(LINES) {
        report += &format!("#   expected {line}\n");
    }
    for line in ours.outcome.iter().skip(same).take(LINES) {
        report += &format!("#   ours     {line}\n");
    }
    report
}

/// Compares two transcripts, prints what differs and a summary. With `same` no deviation is
/// expected: both come from the same kernel. Returns whether they agree.
pub fn compare(ours: &str, upstream: &str, same: bool) -> Result<bool, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let (ours, upstream) = (read(ours)?, read(upstream)?);
    let (ours, upstream) = (parse(&ours)?, parse(&upstream)?);

    let mut tally = Tally::default();
    let mut differences = 0;
    println!("KTAP version 1");
    for (ours, upstream) in ours.iter().zip(&upstream) {
        if let Some(difference) = difference(ours, upstream, same, &mut tally) {
            differences += 1;
            print!("{}", difference.report);
        }
    }
    if ours.len() != upstream.len() || tally.operations == 0 {
        differences += 1;
        println!(
            "# {} programs of ours, {} of upstream",
            ours.len(),
            upstream.len()
        );
    }

    println!(
        "# {} operations behind a parting of the ways",
        tally.skipped
    );
    let rules: &[(Rule, &str)] = if same { &[] } else { &RULES };
    println!("1..{}", 1 + rules.len());
    println!(
        "{} 1 what ours does in {} operations of {} programs # {differences} differences",
        if differences == 0 { "ok" } else { "not ok" },
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
pub fn differences(ours: &str, upstream: &str) -> Result<Vec<Option<Difference>>, String> {
    let (ours, upstream) = (parse(ours)?, parse(upstream)?);
    let mut tally = Tally::default();
    let pairs = ours.iter().zip(&upstream);
    Ok(pairs
        .map(|(ours, upstream)| difference(ours, upstream, false, &mut tally))
        .collect())
}
