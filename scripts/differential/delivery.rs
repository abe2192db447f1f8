// SPDX-License-Identifier: GPL-2.0

//! By what the dispatches of a subject come, as far as its transcript tells.

use crate::{
    compare::Operation,
    rules::{config, is_done, text, value},
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delivery {
    /// It was not armed since it began, or in a way that asks for no upcalls.
    Signal,
    Upcall,
    /// The transcript does not tell.
    Unknown,
}

/// What kind of operation a line begins.
pub fn word(line: &str) -> &str {
    line.split(' ').nth(1).unwrap_or_default()
}

/// By what the dispatches come after these operations, the first of which begins a program.
pub fn before(operations: &[Operation]) -> Delivery {
    operations.iter().fold(Delivery::Signal, after_operation)
}

/// Whether the next operation begins in a new subject.
fn ends(operation: &Operation) -> bool {
    let is_end = |line: &&str| {
        ["  subject ends", "  stops without end", "  hung"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    operation.line.ends_with(" fence") || operation.outcome.iter().any(is_end)
}

/// Whether a handler of the subject was left without a return.
pub fn has_jumped(operations: &[Operation]) -> bool {
    let own = operations
        .iter()
        .rev()
        .take_while(|operation| !ends(operation));
    own.flat_map(|operation| &operation.outcome)
        .any(|line| *line == "  jumped")
}

/// Whether nothing came between a call and its result: what was dispatched, or was meddled with,
/// says nothing of its success.
fn is_plain(operation: &Operation) -> bool {
    let is_plain = |line: &&str| {
        !line.starts_with("  handler") && !line.starts_with("  act") && !line.contains("signal=31")
    };
    operation.outcome.iter().all(|line| is_plain(line)) && !operation.line.contains("at-entry=")
}

fn after_operation(before: Delivery, operation: &Operation) -> Delivery {
    let Operation { line, outcome } = operation;
    if ends(operation) {
        return Delivery::Signal;
    }
    let mut delivery = before;
    // What a child did is its own.
    if word(line) != "clone" {
        for line in outcome {
            delivery = delivery.after(operation.line, line);
        }
    }
    let result = outcome.iter().find_map(|line| text(line, "ret"));
    let is_plain = is_plain(operation);
    match (word(line), result) {
        ("arm" | "upcall", Some(result)) if is_plain && result.starts_with('-') => delivery,
        ("arm", Some("0x0")) if is_plain => Delivery::Signal,
        ("upcall", Some("0x0")) if is_plain => Delivery::Upcall,
        ("arm" | "upcall", _) => Delivery::Unknown,
        // A child that shares the parent's memory has an own configuration.
        _ => delivery,
    }
}

/// Whether the last operation armed the subject, for all that the transcript tells.
pub fn is_armed(operations: &[Operation]) -> bool {
    let arms = |operation: &Operation| {
        let config = config(operation.line);
        word(operation.line) == "arm"
            && config.is_some_and(|config| matches!(config.mode, 1 | 2))
            && is_plain(operation)
            && operation
                .outcome
                .iter()
                .any(|line| text(line, "ret") == Some("0x0"))
            && !ends(operation)
    };
    operations.last().is_some_and(arms)
}

/// Where the selector is that a subject was armed with last.
pub fn selector(operations: &[Operation]) -> Option<u64> {
    let arms = |operation: &&Operation| {
        let lines = &operation.outcome;
        word(operation.line) == "arm" && lines.iter().any(|line| text(line, "ret") == Some("0x0"))
    };
    let armed = operations.iter().rev().find(arms)?;
    Some(config(armed.line)?.selector)
}

impl Delivery {
    /// The same in an operation: one that asks for something may have it before it is over.
    pub fn within(self, operation: &str) -> Self {
        match (self, word(operation)) {
            (Delivery::Upcall, "arm") | (_, "upcall") => Delivery::Unknown,
            _ => self,
        }
    }

    /// The same after a line of what came of an operation.
    pub fn after(self, operation: &str, line: &str) -> Self {
        let names = ["set", "setget", "disarm", "arm"];
        let is_set = names.iter().any(|name| value(line, name) == Some(0));
        match (word(operation), is_set || is_done(line, &["set"])) {
            ("clone", true) => Delivery::Unknown,
            ("clone", false) if line == "  child begins" => Delivery::Unknown,
            (_, true) => Delivery::Signal,
            (_, false) => self,
        }
    }
}
