// SPDX-License-Identifier: GPL-2.0

//! The deviations from upstream that are on purpose.
//!
//! Each is a rule that says what ours has to show where upstream shows what it shows. Most of them
//! turn the transcript of upstream into the one that is expected of ours: a deviation that is
//! missing in ours is as much of a difference as one that is not on the list. The others say how two
//! transcripts may part.

use crate::{arena::Site, by_upcall, compare::Operation, partings::*, program, sys::SudConfig};

/// A rule: the deviation of the contract that it stands for, and what ours does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Lost,
    LostIgnored,
    Blocked,
    Number,
    NumberKept,
    NumberSet,
    GetInclusive,
    SetGetInclusive,
    GetOff,
    SetGetOff,
    KillStop,
    NarrowRegion,
    NarrowSelector,
    Requested,
    Upcall,
    NoStop,
    Entered,
    NoReturn,
    Returned,
    Lives,
    Keys,
    Trap,
    Refused,
}

use Rule::*;

pub const RULES: [(Rule, &str); 13] = [
    (
        Lost,
        "D1: a dispatch is seen before another SIGSYS that is pending",
    ),
    (
        LostIgnored,
        "D1: a dispatch is not lost where SIGSYS was set to be ignored meanwhile",
    ),
    (
        Blocked,
        "D1: a dispatch that a tracer has blocked stays pending",
    ),
    (
        Number,
        "D2: a number like a restart code reaches the handler as it is",
    ),
    (
        NumberKept,
        "D2: it stays so without a handler, for a second signal, and for a tracer",
    ),
    (
        NumberSet,
        "D2: a number that a tracer sets together with the same restart code",
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

pub const ENOSYS: i64 = -38;

/// The text of `name=` in a line.
pub fn text<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The value of `name=` in a line, if it is a number.
pub fn value(line: &str, name: &str) -> Option<i64> {
    number(text(line, name)?)
}

pub fn number(text: &str) -> Option<i64> {
    let near_border = text.strip_prefix("border+");
    match (text.strip_prefix("0x"), near_border) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).ok().map(|value| value as i64),
        (_, Some(offset)) => Some(Site::Border.entry() as i64 + offset.parse::<i64>().ok()?),
        _ => text.parse().ok(),
    }
}

/// The line with `name=` set to something else.
pub fn with(line: &str, name: &str, new: &str) -> String {
    let words = line.split(' ').map(|word| match word.strip_prefix(name) {
        Some(rest) if rest.starts_with('=') => format!("{name}={new}"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

pub fn config(line: &str) -> Option<SudConfig> {
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
    let is_stop = |line: &str| line.starts_with("  stop syscall");
    let line = outcome[index];
    let end = outcome[index + 1..]
        .iter()
        .find(|line| !line.starts_with("  stop event=6") && !is_of_tracer(line));
    let before = outcome[..index].iter().rev().find(|line| is_stop(line));
    let is_exit = is_stop(line)
        && value(line, "info") != Some(1)
        && before.is_none_or(|line| value(line, "info") != Some(1));
    let is_step = line.starts_with("  stop step")
        && value(line, "rax") == Some(ENOSYS)
        && value(line, "orig") != Some(-1);
    (is_exit || is_step) && end.is_some_and(|line| is_kill(line))
}

/// Whether the subject dies in an operation.
fn ends(operation: &Operation) -> bool {
    let mut lines = operation.outcome.iter();
    lines.any(|line| line.starts_with("  subject ends"))
}

fn is_kill(line: &str) -> bool {
    line.ends_with("ends: signal 11") || line.ends_with("ends: signal 31")
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

/// Whether a line comes of what the tracer did at a stop.
pub fn is_of_tracer(line: &str) -> bool {
    line.starts_with("  act") || line.starts_with("  stop event=128")
}

/// Whether one of some acts of the tracer was done.
pub fn is_done(line: &str, acts: &[&str]) -> bool {
    let act = line.strip_prefix("  act ");
    act.is_some_and(|act| acts.iter().any(|name| act.starts_with(name)) && act.ends_with(" = 0"))
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
    // The last stop of a dispatch, and whether the tracer changed the registers since.
    let (mut stop, mut meddled) = ((None, None), false);
    // The dispatch of a number like a restart code, until its handler runs or it is over.
    let mut dispatched: Option<(&str, i64, bool)> = None;

    let mut killed = false;

    for (index, line) in outcome.iter().enumerate() {
        // Where there is no stop, the tracer does nothing.
        if killed && is_of_tracer(line) {
            continue;
        }
        killed = is_stop_of_kill(outcome, index);
        if killed {
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

        let origin = (text(line, "addr"), value(line, "nr"));
        if line.starts_with("  stop") && is_dispatch(line) {
            (stop, meddled) = (origin, text(line, "rip") != text(line, "addr"));
        }
        meddled |= is_done(line, &["inject", "restore", "restart"]);
        if meddled && (origin == stop || line.starts_with("  act")) {
            dispatched = None;
        } else if let Some((number, is_i386)) = restart_number(line) {
            dispatched = text(line, "addr").map(|addr| (addr, number, is_i386));
        }
        if let Some((addr, number, is_i386)) = dispatched {
            // In 64-bit registers a number may have nothing above it; then it is no error.
            let [narrow, wide] = [format!("{:#x}", number as u32), number.to_string()];
            let rax = text(line, "rax").unwrap_or_default();
            // One of another dispatch, as of the handler's own return, comes before or on top.
            let is_number = !is_dispatch(line) || origin == (Some(addr), Some(number));
            let is_handler = line.starts_with("  handler") && text(line, "code") != Some("-6");
            let is_handler = is_handler && is_number;
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

    if arms_as_i386(upstream) {
        expect_narrow(upstream, &mut expected, allowed);
    }
    expected
}

/// Whether an operation is a 32-bit call that arms.
fn arms_as_i386(upstream: &Operation) -> bool {
    let words: Vec<&str> = upstream.line.split(' ').collect();
    let is_i386 = words
        .windows(2)
        .any(|pair| matches!(pair, ["at", "int" | "compat" | "pad"]));
    words.get(1) == Some(&"arm") && is_i386
}

/// A 32-bit caller arms with what a 32-bit kernel refuses.
fn expect_narrow(upstream: &Operation, expected: &mut Expected, allowed: bool) {
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
    expect_result(upstream, expected, rule, said, &format!("-{errno}"));
}

/// By a rule, a call that upstream says one thing to gives another result, if it was made.
fn expect_result(
    upstream: &Operation,
    expected: &mut Expected,
    rule: Rule,
    said: &str,
    result: &str,
) {
    // Nothing comes between the call and its result, unless it was dispatched.
    if upstream.outcome.iter().find_map(|line| text(line, "ret")) != Some(said) {
        return;
    }
    let error = if result == "0x0" { "0" } else { "1" };
    expected.fired.push(rule);
    for line in &mut expected.lines {
        for name in ["ret", "rax", "rval"] {
            if text(line, name) == Some(said) {
                *line = with(&with(line, name, result), "error", error);
            }
        }
    }
}

/// How ours agrees with upstream.
#[derive(Default)]
pub struct Agreement {
    pub fired: Vec<Rule>,
    /// Whether the two went different ways on purpose, which nothing brings together again before
    /// the next subject.
    pub parted: bool,
}

/// Whether what ours did is what is expected. Returns the rules that took part. `before` are the
/// operations of ours up to this one. With `upcall` its dispatches may be upcalls.
pub fn agree(
    ours: &Operation,
    upstream: &Operation,
    allowed: bool,
    before: &[Operation],
    upcall: bool,
) -> Result<Agreement, Vec<String>> {
    let Expected {
        lines: expected,
        mut fired,
        astray,
    } = expect(upstream, allowed);
    let seen;
    let mut by_signal = Operation {
        line: ours.line,
        outcome: Vec::new(),
    };
    let ours = if upcall {
        seen = by_upcall::in_terms_of_signals(ours, &expected, allowed, before);
        fired.extend(&seen.fired);
        if seen.parted {
            let parted = true;
            return Ok(Agreement { fired, parted });
        }
        by_signal.outcome = seen.lines.iter().map(String::as_str).collect();
        &by_signal
    } else {
        ours
    };
    let outcome = match astray {
        Some(astray) => ours.outcome.get(..astray).unwrap_or_default(),
        None => &ours.outcome,
    };
    if outcome == expected && lost(upstream).is_none() {
        // Whoever goes astray may die of it, and what it was set up with goes too.
        let parted = astray.is_some() && ends(ours) != ends(upstream);
        return Ok(Agreement { fired, parted });
    }

    let pairs = ours.outcome.iter().zip(&expected);
    let same = pairs.take_while(|(a, b)| **a == b.as_str()).count();
    let common = &ours.outcome[..same];
    // Nothing is pending in a new subject.
    let mut subjects = before.rsplit(|operation| operation.line.ends_with(" fence"));
    let before: Vec<&str> = subjects
        .next()
        .unwrap_or_default()
        .iter()
        .flat_map(|operation| &operation.outcome)
        .chain(common)
        .copied()
        .collect();
    let (line, other) = (ours.outcome.get(same), expected.get(same));
    // Ours may show the dispatch of the next call in its place, at registers of its own.
    let is_next =
        |line: &str, other: &str| is_made_at(line, line) && text(line, "rip") != text(other, "rip");
    let is_blocked = other.is_some_and(|other| {
        is_held(other, &before)
            && !line.is_some_and(|line| is_dispatch(line) && !is_next(line, other))
    });
    if is_blocked {
        fired.push(Blocked);
        let parted = true;
        return Ok(Agreement { fired, parted });
    }
    let (Some(line), Some(other)) = (line, other) else {
        return Err(expected);
    };
    let is_interrupt = |line: &str| line.starts_with("  stop event=128");
    let is_meddled = expected[same + 1..]
        .first()
        .is_some_and(|line| is_done(line, &["mask"]));
    let is_exit = |line: &str| line.starts_with("  stop event=6");
    let is_end = |line: &str| line.ends_with("ends: signal 31");
    // A call that a handler makes is named before its result.
    let mut results = ours.outcome[same..].iter();
    let result = results.find(|line| !line.starts_with("  nested"));
    let shows = |number: i64| {
        let values = ["ret", "rax", "orig"]
            .map(|name| result.and_then(|line| value(line, name)).map(narrow));
        // Without a tracer the breakpoint behind the call is deadly.
        values.contains(&Some(narrow(number))) || line.ends_with("ends: signal 5")
    };
    let rule = if is_lost(line, other, common, &before) {
        Some(Lost)
    } else if common.iter().any(|line| is_done(line, &["action Ignore"]))
        && (is_dispatch(line) || ours.outcome.iter().any(|line| is_end(line)))
    {
        Some(LostIgnored)
    } else if fired.contains(&KillStop) && (is_interrupt(line) || is_exit(line) && is_exit(other)) {
        // A stop of upstream's was in its place, or its tracer changed the registers there.
        Some(KillStop)
    } else if is_kill(line) && other.starts_with("  stop syscall") && is_meddled {
        // Its tracer even prevented the kill there, by the signal mask.
        Some(KillStop)
    } else if is_segv_of_number(ours, line, other) {
        Some(NumberKept)
    } else {
        let number = number_in_registers(common);
        number
            .filter(|(number, _)| shows(*number))
            .map(|(_, rule)| rule)
    };
    let Some(rule) = rule else {
        return Err(expected);
    };
    fired.push(rule);
    let parted = true;
    Ok(Agreement { fired, parted })
}
