// SPDX-License-Identifier: GPL-2.0

//! How two transcripts may part on purpose: what shows that upstream lost a dispatch, or took its
//! number for a restart code.

use crate::{
    compare::Operation,
    program,
    rules::{
        is_done, is_of_tracer, number, text, value, Rule,
        Rule::{NumberKept, NumberSet},
        ENOSYS,
    },
    sys::{bit, SIGSYS},
};

/// Whether a line is that of a dispatch: its stop, or its handler.
pub fn is_dispatch(line: &str) -> bool {
    value(line, "signal") == Some(31) && value(line, "code") == Some(2)
}

/// Whether a line is that of a SIGSYS from elsewhere.
fn is_other(line: &str) -> bool {
    value(line, "signal") == Some(31) && !is_dispatch(line)
}

/// Where upstream shows that it lost a dispatch: a SIGSYS that was sent while the subject waited for
/// its selector, and the registers of a call that was taken back.
pub fn lost(upstream: &Operation) -> Option<usize> {
    let mut sent = false;
    for (index, line) in upstream.outcome.iter().enumerate() {
        if line.starts_with("  stop") || line.starts_with("  awaited") {
            let orig = value(line, "orig");
            if is_dispatch(line) {
                return None;
            }
            // A number that is no syscall may be that of the error by which it says so.
            let is_number = orig == value(line, "rax") && !matches!(orig, Some(-1 | ENOSYS));
            if sent && is_other(line) && is_number {
                return Some(index);
            }
        }
        sent |= is_done(line, &["raise 31"]) && upstream.line.contains(" awaited=");
    }
    None
}

/// A register, as an `int`.
pub fn narrow(value: i64) -> i32 {
    value as i32
}

/// A line without what says of which SIGSYS it is.
fn without_origin(line: &str) -> String {
    let is_kept = |word: &&str| {
        let (name, _) = word.split_once('=').unwrap_or_default();
        !["code", "errno", "addr", "nr", "arch"].contains(&name)
    };
    let words: Vec<&str> = line.split(' ').filter(is_kept).collect();
    words.join(" ")
}

/// Another SIGSYS was pending when a call was dispatched, or when a tracer blocked the dispatch: then
/// upstream knows of the other one alone, and ours of both, the dispatch first. The other one may be a
/// dispatch, too. `common` are the lines of the operation up to this one, and `before` all those of
/// the subject.
pub fn is_lost(line: &str, other: &str, common: &[&str], before: &[&str]) -> bool {
    is_dispatch(line)
        && (is_other(other) || is_held(other, before))
        && without_origin(line) == without_origin(other)
        && (is_made_at(line, line)
            || common.iter().any(|place| is_made_at(line, place))
            || before.iter().any(|earlier| is_same(earlier, line)))
}

/// Whether the registers of a line are those of the call that another line dispatches.
pub fn is_made_at(line: &str, place: &str) -> bool {
    let number = value(place, "orig").or(value(place, "rax"));
    text(place, "rip") == text(line, "addr") && number.map(narrow) == value(line, "nr").map(narrow)
}

/// Whether two lines are those of a dispatch of the same call.
fn is_same(a: &str, b: &str) -> bool {
    let equal = |name: &&str| text(a, name) == text(b, name);
    is_dispatch(a) && is_dispatch(b) && ["addr", "nr", "arch"].iter().all(equal)
}

/// Whether a line is that of a dispatch at whose stop the tracer blocked SIGSYS, so that it is
/// pending since. Upstream takes it all the same when a synchronous signal comes, as that of a single
/// step or of a breakpoint.
pub fn is_held(line: &str, before: &[&str]) -> bool {
    let (mut at_stop, mut mask) = (false, 0);
    for earlier in before {
        if is_same(earlier, line) {
            (at_stop, mask) = (true, 0);
        } else if at_stop && is_done(earlier, &["mask"]) {
            mask = earlier.split(' ').nth(4).and_then(number).unwrap_or(0);
        } else {
            at_stop &= is_of_tracer(earlier) || earlier.starts_with("  disarm=");
        }
    }
    mask as u64 & bit(SIGSYS) != 0
}

/// Whether a line has the registers of a handler: at its beginning, or at its return.
fn is_in_handler(line: &str) -> bool {
    let rip = text(line, "rip").unwrap_or_default();
    ["elsewhere", "near+", "far+"]
        .iter()
        .any(|place| rip.starts_with(place))
}

/// The number like a restart code that is in the registers, as far as the lines before tell: those
/// of the last stop, or what the tracer made of them. Upstream takes it for a syscall to restart.
pub fn number_in_registers(outcome: &[&str]) -> Option<(i64, Rule)> {
    let (mut now, mut kept) = (None, None);
    for line in outcome {
        // In a handler they are others, and come back when it returns.
        if line.starts_with("  stop") && !is_in_handler(line) {
            let registers = value(line, "rax").zip(value(line, "orig"));
            now = registers.map(|registers| (registers, NumberKept));
        } else if is_done(line, &["keep"]) {
            kept = now;
        } else if is_done(line, &["inject"]) {
            kept = now.take();
        } else if is_done(line, &["restore"]) {
            now = kept;
        } else if is_done(line, &["restart"]) {
            let mut words = line.split(' ').skip(4).step_by(2).map(number);
            let registers = words.next().flatten().zip(words.next().flatten());
            now = registers.map(|(orig, rax)| ((rax, orig), NumberSet));
        }
    }
    let ((rax, orig), rule) = now?;
    let is_code = rax as i32 == orig as i32 && program::is_restart_code(rax as u64, true);
    is_code.then_some((rax, rule))
}

/// Where SIGSYS itself cannot be delivered, the number arrives with SIGSEGV, without a tracer as well.
pub fn is_segv_of_number(ours: &Operation, line: &str, other: &str) -> bool {
    let mut words = ours.line.split(' ').skip_while(|word| *word != "call");
    let call = words.nth(1).and_then(number);
    let is_segv = |line: &str| line.starts_with("  handler") && value(line, "signal") == Some(11);
    let is_call = |rax: i64| call.map(|number| number as i32) == Some(rax as i32);
    let is_code = |rax: &i64| program::is_restart_code(*rax as u64, true);
    is_segv(line) && is_segv(other) && value(line, "rax").filter(is_code).is_some_and(is_call)
}
