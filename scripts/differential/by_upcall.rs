// SPDX-License-Identifier: GPL-2.0

//! What an upcall does not show of what a signal shows: the rules for a program whose dispatches are
//! upcalls on our kernel and SIGSYS on upstream's.
//!
//! The transcript of ours is put in the terms of a signal, line by line beside what is expected of
//! it. Each line that this changes has to be explained by a rule; from the first that is not, the
//! transcript stays as it is, and counts as a difference.

use crate::{
    arena::SELECTOR_KEY,
    compare::Operation,
    delivery::{self, Delivery},
    rules::{
        config, number, text, value, with, Rule,
        Rule::{
            Entered, Keys, Lives, NoReturn, NoStop, Refused, Requested, Returned, Trap, Upcall,
        },
    },
};

/// Each stands for a line of the contract's section on the upcall.
pub const RULES: [(Rule, &str); 10] = [
    // Address, sysctl, and a thread that is armed, in the order of the table.
    (Requested, "the request for upcalls is known"),
    // "rip = address, rcx = address after the instruction, r11 = flags there, rax = the whole
    // number, DF cleared in the live flags, all else untouched"
    (
        Upcall,
        "a dispatch arrives by an upcall, with the same registers",
    ),
    // "No syscall, SYSEMU, seccomp or SIGSYS stop"
    (NoStop, "an upcall makes no signal-delivery stop"),
    // "rax = the whole number, orig_ax = -1": in the stop of a step "at the handler's first
    // instruction", and in the frames of signals, which "have rip = handler"
    (
        Entered,
        "at the handler there are the registers of the syscall, and no number",
    ),
    // "Resume by `jmp *%rcx`": no call is made for that
    (NoReturn, "no sigreturn follows an upcall"),
    // The same
    (Returned, "so none is dispatched, or skipped by a tracer"),
    // "Dispatches go there instead of raising SIGSYS", and the "signal mask" is untouched
    (
        Lives,
        "an upcall does not care whether SIGSYS can be delivered",
    ),
    // "All else untouched: PKRU"
    (Keys, "an upcall leaves the protection keys alone"),
    // "r11 = flags there, without a tracer's TF"
    (Trap, "r11 has no trap flag of a tracer's"),
    // "GET with size 32 of an armed thread that has one: E2BIG, before the pointer is used"
    (
        Refused,
        "GET with the smaller structure says E2BIG, and cannot be set back",
    ),
];

/// What ours showed, in the terms of a signal.
pub struct Seen {
    pub lines: Vec<String>,
    pub fired: Vec<Rule>,
    /// Whether upstream went another way, as a rule has it.
    pub parted: bool,
}

struct Walk<'a> {
    /// The operation.
    line: &'a str,
    ours: &'a [&'a str],
    other: &'a [String],
    delivery: Delivery,
    allowed: bool,
    seen: Seen,
    /// How many handlers of SIGSYS, that were upcalls, have not returned yet.
    running: usize,
    /// Whether GET was refused.
    refused: bool,
    /// Whether the last call was one for upcalls.
    requests: bool,
    /// Whether it is such a call, of a thread that is armed.
    armed: bool,
    /// Whether the page of the selector has a protection key.
    has_key: bool,
    /// Whether a handler before did not return, and so did not undo what its signal did.
    jumped: bool,
}

/// `other` is what is expected of ours if it dispatches by signals.
pub fn in_terms_of_signals(
    ours: &Operation,
    other: &[String],
    allowed: bool,
    before: &[Operation],
) -> Seen {
    let mut walk = Walk {
        line: ours.line,
        ours: &ours.outcome,
        other,
        delivery: delivery::before(before).within(ours.line),
        allowed,
        seen: Seen {
            lines: Vec::new(),
            fired: Vec::new(),
            parted: false,
        },
        running: 0,
        refused: false,
        requests: delivery::word(ours.line) == "upcall",
        armed: delivery::word(ours.line) == "upcall" && delivery::is_armed(before),
        jumped: delivery::has_jumped(before),
        has_key: delivery::selector(before).is_some_and(|at| at & !0xfff == SELECTOR_KEY)
            || ours
                .line
                .contains(&format!(" selector={:#x} ", SELECTOR_KEY + 1)),
    };
    while walk.step() {}
    let rest = walk.ours.iter().map(|line| line.to_string());
    walk.seen.lines.extend(rest);
    walk.seen
}

/// Whether a line is that of a dispatch that is an upcall where one was asked for: its stop, or its
/// handler.
fn can_be_upcall(line: &str) -> bool {
    let is = |name, wanted| value(line, name) == Some(wanted);
    is("signal", 31) && is("code", 2) && is("arch", 0xc000_003e)
}

fn is_upcall(line: &str) -> bool {
    line.starts_with("  handler upcall")
}

/// Whether a handler has nothing to say of its registers.
fn is_between(line: &str) -> bool {
    line.ends_with(" between operations")
}

/// Whether the registers of a line are those at the first instruction of a handler of ours, or in
/// it.
fn is_elsewhere(line: &str) -> bool {
    text(line, "rip") == Some("elsewhere")
}

/// Whether a line is that of the return of a handler of SIGSYS, which makes `rt_sigreturn()`.
fn is_return(line: &str) -> bool {
    let number = value(line, "nr");
    text(line, "rip") == Some("near+7") && number == Some(15)
}

/// A line of `other` with the values that ours has under some names, where ours has them.
fn adopting(other: &str, ours: &str, names: &[&str]) -> String {
    let mut line = other.to_owned();
    for name in names {
        if let Some(value) = text(ours, name) {
            line = with(&line, name, value);
        }
    }
    line
}

/// The registers that a handler's line names because they changed.
fn changes(line: &str) -> Vec<&str> {
    let fixed = [
        "signal", "code", "errno", "addr", "nr", "arch", "rip", "rax", "cs", "mask", "uc", "ss",
        "live",
    ];
    let words = line.trim_start().split(' ').skip(1);
    words
        .filter(|word| {
            let name = word.split_once('=').map(|(name, _)| name);
            name.is_some_and(|name| !fixed.contains(&name))
        })
        .collect()
}

impl Walk<'_> {
    fn fire(&mut self, rule: Rule) {
        self.seen.fired.push(rule);
    }

    /// Takes a line of upstream's that ours has nothing for.
    fn skip(&mut self, rule: Rule) -> bool {
        self.fire(rule);
        self.seen.lines.push(self.other[0].clone());
        self.other = &self.other[1..];
        true
    }

    /// Takes a line of ours for upstream's.
    fn take(&mut self, rule: Rule) -> bool {
        self.ours = &self.ours[1..];
        self.skip(rule)
    }

    fn part(&mut self, rule: Rule) -> bool {
        self.fire(rule);
        self.seen.parted = true;
        false
    }

    /// Goes on by a line. Returns whether there are more, and all is well so far.
    fn step(&mut self) -> bool {
        let (ours, all_other) = (self.ours, self.other);
        let (Some(line), Some(other)) = (ours.first(), all_other.first()) else {
            return false;
        };
        if line == other {
            return self.same(line);
        }
        if self.has_key && (self.jumped || self.running > 0) && self.dies_of(11) {
            // In the handler of a signal the selector cannot be read.
            return self.part(Keys);
        }
        if can_be_upcall(other) && other.starts_with("  stop") && self.is_next_upcall(other) {
            return self.skip(NoStop);
        }
        if is_upcall(line) {
            return self.upcall(line, other);
        }
        if is_elsewhere(line) && self.is_entered(line, other) {
            return self.take(Entered);
        }
        if is_elsewhere(line) && self.is_at_handler(line) {
            return self.lives();
        }
        if is_return(other) && self.running > 0 {
            return self.returns(other);
        }
        if text(line, "get") == Some("-7") {
            return self.refuses(line, other);
        }
        if self.refused && value(line, "setget") == Some(-22) && text(other, "setget").is_some() {
            self.refused = false;
            return self.take(Refused);
        }
        if self.requests && self.is_answer(line, other) {
            self.requests &= !line.starts_with("  ret=");
            return self.take(Requested);
        }
        if self.has_trap_flag(line, other) {
            return self.take(Trap);
        }
        false
    }

    /// Both show the same.
    fn same(&mut self, line: &str) -> bool {
        let is_off = |line: &str| value(line, "mode").is_none_or(|mode| mode == 0);
        let is_reported = line.starts_with("  get=0") && !is_off(line);
        let mut copy = line.to_owned();
        if self.delivery == Delivery::Upcall && (can_be_upcall(line) || is_reported) {
            // This is what it may not show.
            copy += " in spite of the upcall";
        }
        if self.armed && line.starts_with("  ret=-22") {
            copy += " in spite of being armed";
        }
        if let Some(body) = line.strip_prefix("  > ") {
            self.requests = body.starts_with("upcall");
        }
        if line.starts_with("  ret=") {
            self.requests = false;
        }
        self.delivery = self.delivery.after(self.line, line);
        self.seen.lines.push(copy);
        (self.ours, self.other) = (&self.ours[1..], &self.other[1..]);
        true
    }

    /// Whether the next dispatch of ours is an upcall, by the call of a stop of upstream's.
    fn is_next_upcall(&self, stop: &str) -> bool {
        let mut lines = self
            .ours
            .iter()
            .filter(|line| is_upcall(line) || can_be_upcall(line));
        let next = lines.next().filter(|line| is_upcall(line));
        self.delivery != Delivery::Signal
            && next.is_some_and(|line| is_between(line) || text(line, "rip") == text(stop, "addr"))
    }

    /// Ours is in the handler of an upcall.
    fn upcall(&mut self, line: &str, other: &str) -> bool {
        if self.delivery == Delivery::Signal {
            return false;
        }
        if is_return(other) && self.running > 0 {
            return self.returns(other);
        }
        if !other.starts_with("  handler signal=31 code=2") {
            return self.lives();
        }
        if is_between(line) && is_between(other) {
            self.running += 1;
            return self.take(Upcall);
        }
        let narrow = |name| value(other, name).map(|value| value as i32);
        let is_same = can_be_upcall(other)
            && text(other, "addr") == text(other, "rip")
            && narrow("nr") == narrow("rax")
            && ["rip", "rax"]
                .iter()
                .all(|name| text(line, name) == text(other, name));
        // The flags of the handler are those of the program, but for the direction.
        let flags = value(line, "r11").map(|flags| flags & !0x400);
        let is_live = flags.is_none_or(|flags| value(line, "live") == Some(flags));
        let expected = if self.has_trap_flag(line, other) {
            self.fire(Trap);
            adopting(other, line, &["r11"])
        } else {
            other.to_owned()
        };
        if !is_same || !is_live || changes(line) != changes(&expected) {
            return false;
        }
        self.running += 1;
        self.take(Upcall)
    }

    /// Ours is in the handler of an upcall, and upstream has none that could run.
    fn lives(&mut self) -> bool {
        self.dies_of(31) && self.part(Lives)
    }

    /// Whether upstream dies of a signal now, or its child does, of which an untraced one is found
    /// later. A tracer may see the signal before, or another one that upstream has lost the dispatch
    /// to.
    fn dies_of(&self, signal: i64) -> bool {
        let next = self.ours.iter().find(|line| is_upcall(line));
        let rip = next.and_then(|line| text(line, "rip"));
        let is_of_end = |line: &str| {
            let is_signal = value(line, "signal") == Some(31) && text(line, "rip") == rip;
            line.starts_with("  stop") && (is_signal || value(line, "event") == Some(6))
        };
        let mut lines = self.other.iter();
        lines.find(|line| !is_of_end(line)).is_some_and(|line| {
            let is_child = delivery::word(self.line) == "clone" && line.starts_with("  ret=child");
            line.ends_with(&format!(" ends: signal {signal}")) || is_child
        })
    }

    /// Whether a line shows the handler of an upcall before its first instruction, where upstream
    /// shows that of a signal: there rax is 0, and the number of the call still there.
    fn is_entered(&self, line: &str, other: &str) -> bool {
        let names = ["rax", "orig", "rval", "error"];
        text(other, "rax") == Some("0x0")
            && self.is_at_handler(line)
            && adopting(other, line, &names) == *line
    }

    fn is_at_handler(&self, line: &str) -> bool {
        let next = self.ours.iter().find(|line| is_upcall(line));
        value(line, "orig").is_none_or(|orig| orig == -1)
            && next.is_some_and(|next| is_between(next) || text(next, "rax") == text(line, "rax"))
    }

    /// Upstream returns from its handler.
    fn returns(&mut self, other: &str) -> bool {
        self.running -= 1;
        let next = self.other.get(1);
        let is_exit = next.is_some_and(|line| {
            line.starts_with("  stop syscall") && value(line, "info") == Some(2)
        });
        let is_emulated = !is_exit && self.line.contains(" resume=Sysemu");
        if can_be_upcall(other) || is_emulated {
            return self.part(Returned);
        }
        is_exit && self.skip(NoReturn) && self.skip(NoReturn)
    }

    /// GET is refused, before it uses the pointer.
    fn refuses(&mut self, line: &str, other: &str) -> bool {
        let untouched = config(line).is_some_and(|config| {
            [config.mode, config.offset, config.len, config.selector] == [77; 4]
        });
        let is_refused = match value(other, "get") {
            Some(0) => value(other, "mode").is_some_and(|mode| mode != 0),
            result => result == Some(-14),
        };
        self.refused = true;
        self.delivery != Delivery::Signal && untouched && is_refused && self.take(Refused)
    }

    /// The call that asks for upcalls. Upstream never has them; ours has them for a thread that is
    /// armed.
    fn is_answer(&self, line: &str, other: &str) -> bool {
        let names = ["ret", "rax", "rval"];
        let answer = names.iter().find_map(|name| value(line, name));
        let right = match self.allowed {
            true => answer == Some(0),
            false => answer == Some(-1),
        };
        let said: Vec<_> = names
            .iter()
            .filter(|name| text(other, name) == Some("-22"))
            .collect();
        let all = said.iter().all(|name| value(line, name) == answer);
        let mut expected = adopting(other, line, &["ret", "rval", "error"]);
        if said.iter().any(|name| **name == "rax") {
            expected = adopting(&expected, line, &["rax"]);
        }
        right && !said.is_empty() && all && expected == *line
    }

    /// Whether upstream shows the flags of a call that was stepped as the processor left them in
    /// r11, and ours without what is the tracer's.
    fn has_trap_flag(&self, line: &str, other: &str) -> bool {
        const TF: i64 = 0x100;
        let flags = text(line, "r11").zip(text(other, "r11"));
        let values = flags.and_then(|(a, b)| number(a).zip(number(b)));
        let is_stepped = self.line.contains("Step");
        let has_upcall = is_upcall(line) || self.seen.fired.contains(&Upcall);
        is_stepped
            && has_upcall
            && values.is_some_and(|(ours, other)| ours & TF == 0 && ours | TF == other)
            && (is_upcall(line) || adopting(other, line, &["r11"]) == *line)
    }
}
