// SPDX-License-Identifier: GPL-2.0

//! Plans: how the tracer lets the subject run through an operation, and what it does at the stops.

use crate::{
    arena::*,
    config,
    draw::{self, Kind, Random},
    program::{is_restart_code, Block, Disposition, Enter, Handler, Shown, Syscall, What},
    sys::*,
};
use std::fmt;

/// How the tracer lets the subject run until the next operation.
pub struct Plan {
    pub resume: Resume,
    pub at_signal: AtSignal,
    pub at_entry: AtEntry,
    /// A signal that the subject begins with.
    pub inject: u64,
    /// Whether the subject is armed so that its foreign calls are dispatched by a selector in the
    /// page that it has to wait for, and which.
    pub awaited: Option<u64>,
    /// What the tracer does besides, one after the other.
    pub meddling: Vec<Meddling>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resume {
    Cont,
    Syscall,
    /// Up to the first entry to a syscall, and freely from there.
    Once,
    Sysemu,
    Step,
    SysemuStep,
}

#[derive(Clone, Copy, Debug)]
pub enum AtSignal {
    Deliver,
    Suppress,
    Replace,
    Disarm,
}

#[derive(Clone, Copy, Debug)]
pub enum AtEntry {
    Nothing,
    Number(u64),
    /// What waits is interrupted by a signal, or by the tracer if that can.
    Signal,
    Interrupt,
    Disarm,
    Arm,
}

/// Something that the tracer does at a stop, when its turn has come.
#[derive(Clone, Copy)]
pub struct Meddling {
    pub when: When,
    pub act: Act,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// At the stop of the one before.
    Same,
    Any,
    /// A syscall was interrupted, and may be made again.
    Interrupted,
    /// A syscall is dispatched.
    Dispatch,
    /// Behind an injected call.
    Trap,
    /// Where the tracer interrupted.
    Interrupt,
    /// No stop: the subject waits for the page of its selector.
    Awaited,
}

#[derive(Clone, Copy)]
pub enum Act {
    /// Keeps the registers.
    Keep,
    /// Keeps them, and has the thread make another call.
    Inject {
        site: Site,
        rax: u64,
    },
    /// Puts the registers back that were kept.
    Restore,
    /// Asks for another syscall, by a return value that says so.
    Restart {
        number: u64,
        code: u64,
    },
    /// Sends the thread a signal.
    Raise(u64),
    /// Has a sibling of the thread change what becomes of SIGSYS.
    Action(Disposition, u64),
    /// Changes the signal mask.
    Mask(u64),
    Set(SudConfig),
    /// The same with upcalls.
    SetWide(SudConfig, Handler),
    /// Suspends the mechanism, or ends that.
    Suspend(bool),
    Interrupt,
    /// Goes on with this signal, or with none.
    Pass(u64),
    /// Leaves the thread alone from then on.
    Detach,
}

impl Plan {
    pub const PLAIN: Self = Self {
        resume: Resume::Cont,
        at_signal: AtSignal::Deliver,
        at_entry: AtEntry::Nothing,
        inject: 0,
        awaited: None,
        meddling: Vec::new(),
    };

    /// Whether what is done can leave upstream and ours in different states, or the subject in one
    /// that would not do for the rest.
    pub fn needs_fence(&self) -> bool {
        let parts = |meddling: &Meddling| match meddling.act {
            Act::Inject { site, rax } => is_restart_code(rax, site.is_i386()),
            Act::Restart { number, code } => number as i32 == code as i32,
            Act::Action(disposition, _) => matches!(disposition, Disposition::Ignore),
            Act::Detach => true,
            _ => false,
        };
        self.awaited.is_some() || self.meddling.iter().any(parts)
    }
}

/// A configuration by which calls from the gate run and all others are dispatched.
pub fn dispatching(random: &mut Random) -> SudConfig {
    let (mode, (start, end)) = random.of(&[(1, gate()), (2, foreign())]);
    SudConfig {
        mode,
        selector: random.of(&[0, SELECTOR_RO + 1]),
        offset: start,
        len: end - start,
    }
}

fn number(random: &mut Random, is_i386: bool) -> u64 {
    // Where everything depends on the return value, numbers like restart codes are worth more.
    if random.percent(10) {
        random.of(&[-512i64, -513, -514, -516]) as u64
    } else {
        draw::number(random, is_i386)
    }
}

fn inject(random: &mut Random) -> Act {
    let site = random.weighted(&[
        (30, Site::F0),
        (20, Site::Probe),
        (15, Site::Int),
        (10, Site::Compat),
        (5, Site::Border),
        (12, Site::GateProbe),
        (8, Site::Gate),
    ]);
    Act::Inject {
        site,
        rax: number(random, site.is_i386()),
    }
}

fn restart(random: &mut Random) -> Act {
    let code = random.of(&[-512i64, -513, -514, -516]) as u64;
    // A 32-bit tracer does not extend what it writes.
    let code = if random.percent(70) {
        code
    } else {
        code as u32 as u64
    };
    let number = if random.percent(8) {
        code
    } else {
        number(random, false)
    };
    Act::Restart { number, code }
}

fn action(random: &mut Random) -> Act {
    let disposition = random.weighted(&[
        (30, Disposition::Ignore),
        (40, Disposition::Near),
        (15, Disposition::Far),
        (15, Disposition::Default),
    ]);
    let flags = [0, 0, SA_NODEFER, SA_RESETHAND, SA_NODEFER | SA_RESETHAND];
    let restart = random.of(&[0, SA_RESTART]);
    Act::Action(disposition, random.of(&flags) | restart)
}

/// What may be done at any stop.
fn anything(random: &mut Random) -> Act {
    match random.below(100) {
        0..=9 => Act::Keep,
        10..=31 => inject(random),
        32..=53 => Act::Restore,
        54..=63 => restart(random),
        64..=76 => Act::Raise(random.of(&[SIGSYS, SIGUSR1, SIGUSR2])),
        77..=81 => action(random),
        82..=86 => Act::Mask(random.of(&[0, bit(SIGSYS), bit(SIGUSR1), ALL])),
        87..=90 => Act::Set(dispatching(random)),
        91..=94 => Act::Interrupt,
        95..=98 => Act::Pass(random.of(&[0, SIGSYS, SIGUSR1])),
        _ => Act::Detach,
    }
}

/// A syscall is interrupted, the thread makes another call instead, which is dispatched, and its
/// tracer gives it the registers back that it had when it was interrupted.
fn round_trip(random: &mut Random, acts: &mut Vec<Meddling>) {
    let mut when = When::Interrupted;
    let mut act = |when: &mut When, act| {
        acts.push(Meddling { when: *when, act });
        *when = When::Same;
    };
    if random.percent(70) {
        act(&mut when, Act::Set(dispatching(random)));
    }
    act(&mut when, inject(random));
    if random.percent(60) {
        act(&mut when, Act::Pass(0));
    }
    when = random.weighted(&[(80, When::Dispatch), (10, When::Trap), (10, When::Any)]);
    if random.percent(12) {
        // And once more, with what the dispatch left in the registers.
        act(&mut when, inject(random));
        when = random.of(&[When::Trap, When::Dispatch, When::Any]);
    }
    act(&mut when, Act::Restore);
    if random.percent(30) {
        act(
            &mut when,
            Act::Raise(random.of(&[SIGUSR1, SIGUSR1, SIGUSR2, SIGSYS])),
        );
    }
    if random.percent(12) {
        let other = if random.percent(50) {
            action(random)
        } else {
            Act::Mask(random.of(&[0, bit(SIGSYS), bit(SIGUSR1)]))
        };
        act(&mut when, other);
    }
    if random.percent(70) {
        act(&mut when, Act::Pass(random.of(&[0, 0, SIGSYS, SIGUSR1])));
    }
    if random.percent(15) {
        act(&mut when, Act::Detach);
    }
}

/// Something happens to the subject while it waits for the page of its selector.
fn while_awaited(random: &mut Random, acts: &mut Vec<Meddling>) {
    let mut when = When::Awaited;
    let mut act = |act| {
        acts.push(Meddling { when, act });
        when = When::Same;
    };
    if random.percent(75) {
        act(Act::Raise(random.of(&[SIGSYS, SIGSYS, SIGSYS, SIGUSR1])));
    }
    if random.percent(20) {
        act(action(random));
    }
    if random.percent(50) {
        act(Act::Interrupt);
        if random.percent(50) {
            let act = if random.percent(60) {
                action(random)
            } else {
                anything(random)
            };
            let when = When::Interrupt;
            acts.push(Meddling { when, act });
        }
    }
}

/// Something comes between the dispatch of a number like a restart code and its handler: another
/// signal, or a native call that the tracer has the thread make.
fn second_signal(random: &mut Random, acts: &mut Vec<Meddling>) {
    let mut when = When::Dispatch;
    if random.percent(30) {
        let site = Site::GateProbe;
        let rax = draw::number(random, false);
        let act = Act::Inject { site, rax };
        acts.push(Meddling { when, act });
        let act = Act::Pass(0);
        acts.push(Meddling {
            when: When::Same,
            act,
        });
        when = When::Trap;
        let act = Act::Restore;
        acts.push(Meddling { when, act });
        when = When::Same;
    }
    let act = Act::Raise(random.of(&[SIGUSR1, SIGUSR2, SIGSYS]));
    acts.push(Meddling { when, act });
}

fn looks_like_restart(enter: &Enter) -> bool {
    matches!(enter.syscall, Syscall::Plain { rax, .. } if is_restart_code(rax, enter.site.is_i386()))
}

fn meddling(random: &mut Random, what: &Enter, awaited: bool) -> Vec<Meddling> {
    let mut acts = Vec::new();
    let waits = matches!(what.syscall, Syscall::Block(_));
    if awaited {
        while_awaited(random, &mut acts);
    } else if waits && random.percent(65) {
        round_trip(random, &mut acts);
    }
    if looks_like_restart(what) && random.percent(60) {
        second_signal(random, &mut acts);
    }
    if random.percent(4) {
        let (when, act) = (When::Dispatch, restart(random));
        acts.push(Meddling { when, act });
        let (when, act) = (When::Same, Act::Pass(random.of(&[0, 0, SIGUSR1])));
        acts.push(Meddling { when, act });
    }
    if random.percent(if awaited || waits { 25 } else { 18 }) {
        for _ in 0..1 + random.below(3) {
            let when = random.weighted(&[
                (25, When::Any),
                (15, When::Same),
                (15, When::Interrupted),
                (40, When::Dispatch),
                (5, When::Trap),
            ]);
            let act = anything(random);
            acts.push(Meddling { when, act });
        }
    }
    // Nobody but its tracer provides the page, or ends a wait that nothing else ends.
    let is_endless = match what.syscall {
        Syscall::Block(block) => block.is_endless(),
        _ => awaited,
    };
    acts.retain(|meddling| !(is_endless && matches!(meddling.act, Act::Detach)));
    acts
}

pub fn draw(random: &mut Random, kind: &Kind, what: &What) -> Plan {
    let What::Enter(enter) = what else {
        return Plan::PLAIN;
    };
    let inject = random.weighted(&[(95, 0), (3, SIGUSR1), (2, SIGSYS)]);
    let waits = matches!(enter.syscall, Syscall::Block(_));
    // Of two threads it would depend on chance which one waits.
    let is_alone = !matches!(enter.syscall, Syscall::Clone { .. });
    let awaited = kind.sibling && !kind.vdso32 && !waits && is_alone && random.percent(12);
    let plan = Plan {
        resume: random.weighted(&[
            (45, Resume::Cont),
            (27, Resume::Syscall),
            (6, Resume::Sysemu),
            (17, Resume::Step),
            (3, Resume::SysemuStep),
        ]),
        at_signal: random.weighted(&[
            (75, AtSignal::Deliver),
            (12, AtSignal::Suppress),
            (6, AtSignal::Replace),
            (7, AtSignal::Disarm),
        ]),
        at_entry: match random.below(10) {
            0 => AtEntry::Number(random.of(&[102, 1000, u64::MAX, -512i64 as u64, 219])),
            1 => random.of(&[AtEntry::Signal, AtEntry::Interrupt]),
            2 => random.of(&[AtEntry::Disarm, AtEntry::Arm]),
            _ => AtEntry::Nothing,
        },
        inject,
        awaited: awaited.then(|| random.weighted(&[(80, 1), (15, 0), (5, 2)])),
        meddling: meddling(random, enter, awaited),
    };
    match &enter.syscall {
        // Nobody else would end the wait.
        Syscall::Block(block) => Plan {
            resume: match block {
                // Whether its time is over must not matter to a second signal.
                Block::Nap => Resume::Once,
                _ if block.is_endless() => Resume::Syscall,
                _ => random.of(&[Resume::Syscall, Resume::Once]),
            },
            at_entry: random.of(&[AtEntry::Signal, AtEntry::Interrupt]),
            inject: 0,
            ..plan
        },
        syscall if config::is_narrow(enter.site, syscall) => Plan {
            at_entry: AtEntry::Nothing,
            inject: 0,
            awaited: None,
            meddling: Vec::new(),
            ..plan
        },
        _ => plan,
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Keep => write!(f, "keep"),
            Act::Inject { site, rax } => write!(f, "inject {rax:#x} at {}", site.name()),
            Act::Restore => write!(f, "restore"),
            Act::Restart { number, code } => write!(f, "restart {number:#x} by {code:#x}"),
            Act::Raise(signal) => write!(f, "raise {signal}"),
            Act::Action(disposition, flags) => write!(f, "action {disposition:?} {flags:#x}"),
            Act::Mask(set) => write!(f, "mask {set:#x}"),
            Act::Set(config) => write!(f, "set {}", Shown(config)),
            Act::SetWide(config, handler) => write!(f, "set {} {handler}", Shown(config)),
            Act::Suspend(on) => write!(f, "suspend {on}"),
            Act::Interrupt => write!(f, "interrupt"),
            Act::Pass(signal) => write!(f, "pass {signal}"),
            Act::Detach => write!(f, "detach"),
        }
    }
}

/// Only what is not plain.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.resume != Resume::Cont {
            write!(f, " resume={:?}", self.resume)?;
        }
        if !matches!(self.at_signal, AtSignal::Deliver) {
            write!(f, " at-signal={:?}", self.at_signal)?;
        }
        if !matches!(self.at_entry, AtEntry::Nothing) {
            write!(f, " at-entry={:x?}", self.at_entry)?;
        }
        if self.inject != 0 {
            write!(f, " inject={}", self.inject)?;
        }
        if let Some(value) = self.awaited {
            write!(f, " awaited={value}")?;
        }
        if !self.meddling.is_empty() {
            write!(f, " meddling=[")?;
            for Meddling { when, act } in &self.meddling {
                write!(f, " {when:?}: {act};")?;
            }
            write!(f, " ]")?;
        }
        Ok(())
    }
}
