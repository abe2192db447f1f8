// SPDX-License-Identifier: GPL-2.0

//! Random programs: what they are made of, how they are drawn from a seed, and how they read.

use crate::{
    arena::{self, *},
    sys::*,
};
use std::fmt;

/// splitmix64: small, and any seed will do.
pub struct Random(u64);

impl Random {
    /// The stream of one program of a run.
    pub fn new(seed: u64, program: u64) -> Self {
        let mut random = Self(seed);
        Self(random.next() ^ program.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// One of several, each with its weight.
    fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let mut ticket = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            if ticket < *weight {
                return *choice;
            }
            ticket -= weight;
        }
        unreachable!("a ticket is below the sum of the weights")
    }
}

pub struct Program {
    pub number: u64,
    pub traced: bool,
    /// Whether it has the vDSO of 32-bit programs instead of its own.
    pub vdso32: bool,
    /// What the tracer wants to be told of.
    pub options: u64,
    pub operations: Vec<Operation>,
}

pub struct Operation {
    pub what: What,
    pub plan: Plan,
    /// Whether the next operation must begin in a new subject.
    pub fence: bool,
}

pub enum What {
    /// A syscall.
    Enter(Enter),
    /// A byte is written to memory.
    Store { at: u64, value: u8 },
    /// The protection keys give access to all pages, or only to those without a key.
    Keys { open: bool },
    /// The tracer does something.
    Trace(Trace),
}

pub struct Enter {
    pub site: Site,
    pub syscall: Syscall,
    /// Where the registers that do not matter come from.
    pub pattern: u64,
    pub flags: u64,
    /// What the signal handlers do, one after the other.
    pub script: Vec<Action>,
}

pub enum Syscall {
    Plain {
        rax: u64,
        arguments: [u64; 3],
    },
    Arm {
        config: SudConfig,
        x32: bool,
    },
    Action {
        signal: u64,
        disposition: Disposition,
        flags: u64,
        mask: u64,
    },
    Mask {
        how: u64,
        set: u64,
    },
    AltStack {
        flags: u32,
        size: u64,
    },
    Raise {
        signal: u64,
        how: Raise,
    },
    /// `ppoll()` with a mask and no time: it delivers what is pending under that mask.
    Poll {
        mask: u64,
    },
    Clone {
        flags: u64,
        body: Vec<What>,
    },
    Exec(Exec),
    Protect {
        prot: u64,
    },
    Map,
    Unmap,
    /// A syscall that waits for as long as no signal comes, which its tracer sends.
    Block(Block),
    Filter {
        number: u32,
        action: u32,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Disposition {
    /// A handler, with the restorer within the gate or outside.
    Near,
    Far,
    Ignore,
    Default,
}

#[derive(Clone, Copy, Debug)]
pub enum Raise {
    Tgkill,
    Kill,
    Queue,
}

#[derive(Clone, Copy, Debug)]
pub enum Exec {
    Tiny,
    TinyAt,
    Missing,
    Garbage,
    BadPointer,
}

#[derive(Clone, Copy, Debug)]
pub enum Block {
    Read,
    Poll,
    Sleep,
    Futex,
    Suspend,
    Pause,
}

impl Block {
    pub fn number(self) -> u64 {
        match self {
            Block::Read => SYS_READ,
            Block::Poll => SYS_POLL,
            Block::Sleep => SYS_NANOSLEEP,
            Block::Futex => SYS_FUTEX,
            Block::Suspend => SYS_RT_SIGSUSPEND,
            Block::Pause => SYS_PAUSE,
        }
    }
}

/// What a signal handler does before it returns.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Leave,
    /// Writes a selector.
    Store {
        at: u64,
        value: u8,
    },
    /// Sets the return value.
    Rax(u64),
    /// Goes back to the syscall instruction.
    Again,
    /// Goes on elsewhere.
    Land,
    /// Changes registers that are for the program alone.
    Change(u64),
    /// Changes the signal mask that comes back.
    Mask(u64),
    /// Leaves the handler without a sigreturn.
    Jump,
    /// Makes a syscall of its own.
    Nested {
        site: Site,
        rax: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Pointer {
    Good,
    Null,
    Unmapped,
    ReadOnly,
    Kernel,
    /// Good for all but the last bytes.
    Crossing,
}

#[derive(Clone, Copy, Debug)]
pub enum Trace {
    Get {
        size: u64,
        pointer: Pointer,
    },
    Set {
        config: SudConfig,
        size: u64,
        pointer: Pointer,
    },
    /// SET of what GET returned.
    SetGet,
    /// The requests on a thread that is not stopped, or not a tracee.
    Running,
    Stranger,
    Sysctl(&'static str),
    Detach,
    Attach {
        seize: bool,
    },
}

/// How the tracer lets the subject run until the next operation.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub resume: Resume,
    pub at_signal: AtSignal,
    pub at_entry: AtEntry,
    /// A signal that the subject begins with.
    pub inject: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resume {
    Cont,
    Syscall,
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
    Signal,
    Disarm,
    Arm,
}

impl Plan {
    const PLAIN: Self = Self {
        resume: Resume::Cont,
        at_signal: AtSignal::Deliver,
        at_entry: AtEntry::Nothing,
        inject: 0,
    };
}

/// Numbers that look like restart codes when they are return values (D2).
pub fn is_restart_code(rax: u64, is_i386: bool) -> bool {
    let value = if is_i386 {
        rax as i32 as i64
    } else {
        rax as i64
    };
    matches!(value, -512 | -513 | -514 | -516)
}

/// The errno by which the validation of a 32-bit caller differs from that of a 64-bit one (D6).
pub fn narrow_error(config: &SudConfig) -> Option<i64> {
    const EFAULT: i64 = 14;
    const EINVAL: i64 = 22;
    let [mode, offset, len, selector] =
        [config.mode, config.offset, config.len, config.selector].map(|value| value as u32);
    let is_region = offset != 0 || mode == 2;
    if !matches!(mode, 1 | 2) || (is_region && len == 0) {
        return None;
    }
    if is_region && offset.checked_add(len).is_none() {
        return Some(EINVAL);
    }
    (selector >= 0xffff_e000).then_some(EFAULT)
}

fn is_narrow(site: Site, syscall: &Syscall) -> bool {
    matches!(syscall, Syscall::Arm { config, .. } if site.is_i386() && narrow_error(config).is_some())
}

/// Addresses at and around every boundary there is.
fn edge(random: &mut Random) -> u64 {
    let near = random.of(&[0u64, 0, 0, 1, 2, u64::MAX, u64::MAX - 1]);
    let edge = match random.below(12) {
        0 => 0,
        1 => FOUR_GIB,
        2 => random.of(&[1 << 47, (1 << 47) - PAGE, 1 << 56, 1 << 63]),
        3 => u64::MAX,
        4 => random.of(&[CODE, arena::gate().0, arena::gate().1, arena::foreign().1]),
        5 => arena::restorer_after(random.percent(50)),
        6 => Site::VsyscallTime.entry(),
        _ => random
            .of(&[
                Site::Gate,
                Site::F0,
                Site::F1,
                Site::Border,
                Site::Int,
                Site::Compat,
            ])
            .after(),
    };
    edge.wrapping_add(near)
}

fn region(random: &mut Random, mode: u64) -> (u64, u64) {
    if random.percent(60) {
        // One with which a program can live: the gate runs directly.
        let (start, end) = match (mode, random.percent(80)) {
            (2, true) => arena::foreign(),
            (2, false) => (Site::F0.after(), Site::Int.after()),
            _ => arena::gate(),
        };
        return (start, end - start);
    }
    let start = edge(random);
    let len = match random.below(4) {
        0 => random.of(&[0, 1, 2, FOUR_GIB, 1 << 47, 1 << 63, u64::MAX, u64::MAX - 1]),
        1 => random.next() >> random.below(64),
        _ => edge(random).wrapping_sub(start),
    };
    (start, len)
}

fn selector(random: &mut Random) -> u64 {
    match random.below(100) {
        0..=54 => SELECTOR_RW + random.below(4),
        55..=66 => 0,
        67..=69 => SELECTOR_LAST,
        70..=71 => random.of(&[SELECTOR_NONE, SELECTOR_HOLE, SELECTOR_PAST_END]),
        72 => SELECTOR_KEY + random.below(2),
        73..=79 => SELECTOR_RO + random.of(&[0, 0, 0, 1, 1, 1, 2, 3, 127, 128, 254, 255]),
        80..=85 => SELECTOR_DYNAMIC + random.of(&[0, 1, PAGE - 1]),
        86..=87 => SELECTOR_FRESH + random.below(PAGE),
        88..=89 => SELECTOR_FILE,
        90..=92 => random.of(&[0xffff_dfff, 0xffff_e000, 0xffff_efff, 0xffff_ffff]),
        93..=94 => random.of(&[
            1 << 47,
            (1 << 47) - 1,
            (1 << 47) - PAGE,
            (1 << 47) - PAGE - 1,
        ]),
        _ => random.of(&[
            1 << 48,
            1 << 56,
            1 << 63,
            (1 << 63) | SELECTOR_RW,
            u64::MAX,
            u64::MAX - 1,
        ]),
    }
}

fn config(random: &mut Random) -> SudConfig {
    let mode = random.weighted(&[(46, 1), (34, 2), (10, 0), (10, 3)]);
    if mode == 0 && random.percent(70) {
        return SudConfig::default();
    }
    let (offset, len) = region(random, mode);
    let mode = match mode {
        3 => random.of(&[3, 4, 255, 1 << 32, (1 << 32) | 1, (1 << 63) | 2, u64::MAX]),
        mode => mode,
    };
    let selector = selector(random);
    if mode == 0 {
        // Off with one argument too many.
        return match random.below(3) {
            0 => SudConfig {
                offset,
                ..Default::default()
            },
            1 => SudConfig {
                len,
                ..Default::default()
            },
            _ => SudConfig {
                selector,
                ..Default::default()
            },
        };
    }
    SudConfig {
        mode,
        selector,
        offset,
        len,
    }
}

fn stored(random: &mut Random) -> (u64, u8) {
    let at = random.weighted(&[
        (30, SELECTOR_RW),
        (20, SELECTOR_RW + 1),
        (10, SELECTOR_RW + 2),
        (10, SELECTOR_RW + 3),
        (6, SELECTOR_LAST),
        (4, SELECTOR_FILE),
        (4, SELECTOR_FRESH),
    ]);
    (
        at,
        random.weighted(&[
            (36, 0),
            (54, 1),
            (2, 2),
            (1, 3),
            (1, 127),
            (1, 128),
            (1, 254),
            (2, 255),
        ]),
    )
}

/// The numbers of syscalls that can run natively without changing anything, or are none.
fn number(random: &mut Random, is_i386: bool) -> u64 {
    // close, dup, getuid, geteuid, umask, lseek, sched_yield, fsync, restart_syscall
    let harmless: &[u64] = if is_i386 {
        &[6, 41, 199, 201, 60, 19, 158, 118, 0]
    } else {
        &[3, 32, 102, 107, 95, 8, 24, 74, 219]
    };
    match random.below(20) {
        0 => random.of(&[-512i64, -513, -514, -516]) as u64,
        1 => random.of(&[-1i64, -2, -4, -38, -511, -515, -517, -4095, -4096]) as u64,
        2 => random.of(&[
            0xffff_ffff,
            0xffff_fe00,
            0xffff_fdff,
            0xffff_fdfc,
            0x7fff_ffff,
            1 << 31,
        ]),
        3 => random.of(&[1000, 1023, 0xffff, 0x1_0000, 0x3fff_ffff, 511]),
        // x32: bit 30
        4 => 0x4000_0000 | random.of(&[102, 107, 24, 1000, 0x3fff_ffff]),
        // What is above the number does not belong to it.
        5 => random.of(harmless) | random.of(&[1 << 32, 1 << 63, 0xffff_ffff << 32, 0xdead << 40]),
        _ => random.of(harmless),
    }
}

fn plain(random: &mut Random, is_i386: bool) -> Syscall {
    let rax = number(random, is_i386);
    // Arguments that are no open file, no mask to keep, and no time to wait.
    Syscall::Plain {
        rax,
        arguments: [random.of(&[99, 98, 77]), 0, 0],
    }
}

fn script(random: &mut Random) -> Vec<Action> {
    let len = random.weighted(&[(35, 0), (40, 1), (15, 2), (10, 3)]);
    (0..len).map(|_| action(random)).collect()
}

fn action(random: &mut Random) -> Action {
    match random.below(100) {
        0..=7 => Action::Leave,
        8..=44 => {
            let (at, value) = stored(random);
            let value = if random.percent(60) { 0 } else { value };
            Action::Store { at, value }
        }
        45..=57 => Action::Rax(random.of(&[0, 1, 42, -38i64 as u64, -512i64 as u64, u64::MAX])),
        58..=64 => Action::Again,
        65..=72 => Action::Land,
        73..=79 => Action::Change(random.next()),
        80..=85 => Action::Mask(random.of(&[0, bit(SIGUSR1), bit(SIGSYS), ALL])),
        86..=90 => Action::Jump,
        _ => {
            let site = random.of(&[Site::Gate, Site::F0, Site::F1, Site::Int, Site::Compat]);
            Action::Nested {
                site,
                rax: number(random, site.is_i386()),
            }
        }
    }
}

fn any_site(random: &mut Random, kind: &Kind) -> Site {
    if kind.vdso32 && random.percent(50) {
        return random.of(&[Site::Pad, Site::Fast, Site::Sigreturn, Site::RtSigreturn]);
    }
    // The vDSO that is there makes its syscall.
    let vdso = if kind.vdso32 { 0 } else { 4 };
    random.weighted(&[
        (vdso, Site::Vdso),
        (18, Site::Gate),
        (28, Site::F0),
        (14, Site::F1),
        (10, Site::Border),
        (14, Site::Int),
        (12, Site::Compat),
        (2, Site::VsyscallTime),
        (2, Site::VsyscallCpu),
    ])
}

/// A place for a syscall that has no number in the i386 table, preferably one that is exempt.
fn syscall_site(random: &mut Random) -> Site {
    if random.percent(75) {
        Site::Gate
    } else {
        random.of(&Site::SYSCALL)
    }
}

struct Kind {
    traced: bool,
    vdso32: bool,
    child: bool,
}

fn syscall(random: &mut Random, kind: &Kind) -> (Site, Syscall) {
    let ticket = random.below(if kind.child { 75 } else { 100 });
    let handled = [SIGSYS, SIGSYS, SIGUSR1, SIGUSR2];
    let masks = [0, 0, bit(SIGUSR1), bit(SIGSYS), ALL];
    let syscall = match ticket {
        0..=26 => {
            let site = random.weighted(&[
                (60, Site::Gate),
                (10, Site::F0),
                (5, Site::Border),
                (15, Site::Int),
                (10, Site::Compat),
                (if kind.vdso32 { 10 } else { 0 }, Site::Pad),
            ]);
            // In an x32 syscall addresses are as wide as in any other.
            let x32 = !site.is_i386() && random.percent(6);
            return (
                site,
                Syscall::Arm {
                    config: config(random),
                    x32,
                },
            );
        }
        27..=66 => {
            let site = any_site(random, kind);
            return (site, plain(random, site.is_i386()));
        }
        67..=71 => Syscall::Raise {
            signal: random.of(&[SIGUSR1, SIGUSR1, SIGUSR2, SIGSYS]),
            // Which thread takes a signal for all of them is not for us to say.
            how: if kind.child {
                Raise::Tgkill
            } else {
                random.of(&[Raise::Tgkill, Raise::Kill, Raise::Queue])
            },
        },
        72..=74 => Syscall::Mask {
            how: random.below(3),
            set: random.of(&masks),
        },
        75..=79 => {
            let flag = |random: &mut Random, chance, flag| {
                if random.percent(chance) {
                    flag
                } else {
                    0
                }
            };
            let signal = random.of(&handled);
            Syscall::Action {
                signal,
                disposition: random.weighted(&[
                    (60, Disposition::Near),
                    (25, Disposition::Far),
                    (7, Disposition::Ignore),
                    (8, Disposition::Default),
                ]),
                flags: flag(random, 35, SA_NODEFER)
                    | flag(random, 30, SA_ONSTACK)
                    | flag(random, 40, SA_RESTART)
                    | flag(random, 5, SA_RESETHAND),
                mask: random.of(&masks),
            }
        }
        80..=81 => Syscall::AltStack {
            flags: random.of(&[0, 0, 2, 1 << 31, 1]),
            size: random.of(&[STACK_SIZE, STACK_SIZE, 0x4000, 512]),
        },
        82..=84 => Syscall::Poll {
            mask: random.of(&masks),
        },
        85..=88 => {
            let memory = CLONE_VM | CLONE_VFORK;
            let thread = memory | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
            let flags = random.of(&[CLONE_VFORK, memory, thread | CLONE_SYSVSEM]);
            let kind = Kind {
                child: true,
                ..*kind
            };
            let body = (0..random.below(5)).map(|_| what(random, &kind));
            // What would make the rest differ has no place in the middle.
            let body = body.filter(|what| !needs_fence(what)).collect();
            Syscall::Clone { flags, body }
        }
        89..=90 => Syscall::Exec(random.weighted(&[
            (2, Exec::Tiny),
            (2, Exec::TinyAt),
            (2, Exec::Missing),
            (2, Exec::Garbage),
            (1, Exec::BadPointer),
        ])),
        91..=92 => Syscall::Protect {
            prot: random.of(&[0, PROT_READ, PROT_READ | PROT_WRITE]),
        },
        93 => Syscall::Map,
        94 => Syscall::Unmap,
        95 => Syscall::Filter {
            // getuid, close, sched_yield; ERRNO, TRAP, KILL_PROCESS, TRACE
            number: random.of(&[102, 3, 24]),
            action: random.of(&[0x0005_0007, 0x0003_0000, 0x8000_0000, 0x7ff0_0000]),
        },
        _ if kind.traced => Syscall::Block(random.of(&[
            Block::Read,
            Block::Poll,
            Block::Sleep,
            Block::Futex,
            Block::Suspend,
            Block::Pause,
        ])),
        _ => return (Site::F0, plain(random, false)),
    };
    (syscall_site(random), syscall)
}

fn enter(random: &mut Random, kind: &Kind) -> Enter {
    let (site, syscall) = syscall(random, kind);
    // Carry, parity, auxiliary, zero, sign, overflow; sometimes direction, which is not for a
    // function.
    let direction = if random.percent(10) && !site.is_function() {
        0x400
    } else {
        0
    };
    // What it returns is to be what the kernel says.
    let plain = is_narrow(site, &syscall);
    Enter {
        site,
        syscall,
        pattern: random.next(),
        flags: 0x202 | (random.next() & 0x8d5) | direction,
        script: if plain { Vec::new() } else { script(random) },
    }
}

fn what(random: &mut Random, kind: &Kind) -> What {
    if random.percent(16) {
        let (at, value) = stored(random);
        return What::Store { at, value };
    }
    if random.percent(1) {
        return What::Keys {
            open: random.percent(60),
        };
    }
    What::Enter(enter(random, kind))
}

fn trace(random: &mut Random) -> Trace {
    let size = |random: &mut Random| {
        if random.percent(80) {
            32
        } else {
            random.of(&[0, 1, 24, 31, 33, 64, 32 << 32, (1 << 32) | 32, u64::MAX])
        }
    };
    let pointer = |random: &mut Random| {
        if random.percent(85) {
            Pointer::Good
        } else {
            random.of(&[
                Pointer::Null,
                Pointer::Unmapped,
                Pointer::ReadOnly,
                Pointer::Kernel,
                Pointer::Crossing,
            ])
        }
    };
    match random.below(100) {
        0..=34 => Trace::Get {
            size: size(random),
            pointer: pointer(random),
        },
        35..=69 => Trace::Set {
            config: config(random),
            size: size(random),
            pointer: pointer(random),
        },
        70..=81 => Trace::SetGet,
        82..=84 => Trace::Running,
        85..=86 => Trace::Stranger,
        87..=89 => Trace::Sysctl(random.of(&["0", "0", "1", "2", "-1", "x", ""])),
        90..=93 => Trace::Detach,
        _ => Trace::Attach {
            seize: random.percent(50),
        },
    }
}

fn plan(random: &mut Random, what: &What) -> Plan {
    let inject = random.weighted(&[(95, 0), (3, SIGUSR1), (2, SIGSYS)]);
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
            1 => AtEntry::Signal,
            2 => random.of(&[AtEntry::Disarm, AtEntry::Arm]),
            _ => AtEntry::Nothing,
        },
        inject,
    };
    match what {
        // Nobody else would end the wait.
        What::Enter(Enter {
            syscall: Syscall::Block(_),
            ..
        }) => Plan {
            resume: Resume::Syscall,
            at_entry: AtEntry::Signal,
            inject: 0,
            ..plan
        },
        What::Enter(enter) if is_narrow(enter.site, &enter.syscall) => Plan {
            at_entry: AtEntry::Nothing,
            inject: 0,
            ..plan
        },
        What::Enter(_) => plan,
        What::Store { .. } | What::Keys { .. } | What::Trace(_) => Plan::PLAIN,
    }
}

/// Whether what was done can leave upstream and ours in different states, by D2 or D6, or leaves
/// behind a wait that `restart_syscall()` would go on with.
fn needs_fence(what: &What) -> bool {
    let What::Enter(enter) = what else {
        return false;
    };
    let action = |action: &Action| matches!(action, Action::Nested { site, rax } if is_restart_code(*rax, site.is_i386()));
    if enter.script.iter().any(action) {
        return true;
    }
    match &enter.syscall {
        Syscall::Plain { rax, .. } => is_restart_code(*rax, enter.site.is_i386()),
        Syscall::Arm { .. } => is_narrow(enter.site, &enter.syscall),
        Syscall::Block(block) => matches!(block, Block::Poll | Block::Sleep | Block::Futex),
        _ => false,
    }
}

impl Program {
    pub const OPERATIONS: u64 = 40;

    pub fn new(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed, number);
        let random = &mut random;
        let kind = Kind {
            traced: random.percent(45),
            vdso32: random.percent(15),
            child: false,
        };
        let mut options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
        if random.percent(50) {
            options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;
        }
        if random.percent(50) {
            options |= PTRACE_O_TRACEEXEC;
        }
        if random.percent(30) {
            options |= PTRACE_O_TRACEEXIT;
        }

        let operations = (0..Self::OPERATIONS)
            .map(|_| {
                let what = if kind.traced && random.percent(22) {
                    What::Trace(trace(random))
                } else {
                    what(random, &kind)
                };
                Operation {
                    plan: if kind.traced {
                        plan(random, &what)
                    } else {
                        Plan::PLAIN
                    },
                    fence: needs_fence(&what),
                    what,
                }
            })
            .collect();

        Self {
            number,
            traced: kind.traced,
            vdso32: kind.vdso32,
            options,
            operations,
        }
    }

    /// Whether it writes the sysctl, which all programs see.
    pub fn is_alone(&self) -> bool {
        self.operations
            .iter()
            .any(|operation| matches!(operation.what, What::Trace(Trace::Sysctl(_))))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        let Plan {
            resume,
            at_signal,
            at_entry,
            inject,
        } = self.plan;
        if resume != Resume::Cont {
            write!(f, " resume={resume:?}")?;
        }
        if !matches!(at_signal, AtSignal::Deliver) {
            write!(f, " at-signal={at_signal:?}")?;
        }
        if !matches!(at_entry, AtEntry::Nothing) {
            write!(f, " at-entry={at_entry:x?}")?;
        }
        if inject != 0 {
            write!(f, " inject={inject}")?;
        }
        Ok(())
    }
}

/// A configuration as the transcript shows it: numbers only.
pub struct Shown<'a>(pub &'a SudConfig);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SudConfig {
            mode,
            selector,
            offset,
            len,
        } = self.0;
        write!(
            f,
            "mode={mode:#x} offset={offset:#x} len={len:#x} selector={selector:#x}"
        )
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Enter(enter) => write!(f, "{enter}"),
            What::Store { at, value } => write!(f, "store {at:#x}={value}"),
            What::Keys { open } => write!(f, "keys open={open}"),
            What::Trace(Trace::Set {
                config,
                size,
                pointer,
            }) => {
                write!(
                    f,
                    "trace Set {} size={size:#x} pointer={pointer:?}",
                    Shown(config)
                )
            }
            What::Trace(trace) => write!(f, "trace {trace:x?}"),
        }
    }
}

impl fmt::Display for Enter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.syscall {
            Syscall::Plain { rax, .. } => write!(f, "call {rax:#x}")?,
            Syscall::Arm { config, x32 } => {
                write!(f, "arm {}{}", Shown(config), if *x32 { " x32" } else { "" })?
            }
            Syscall::Action {
                signal,
                disposition,
                flags,
                mask,
            } => write!(
                f,
                "sigaction {signal} {disposition:?} flags={flags:#x} mask={mask:#x}"
            )?,
            Syscall::Mask { how, set } => write!(f, "sigprocmask {how} {set:#x}")?,
            Syscall::AltStack { flags, size } => write!(f, "sigaltstack {flags:#x} {size:#x}")?,
            Syscall::Raise { signal, how } => write!(f, "raise {signal} {how:?}")?,
            Syscall::Poll { mask } => write!(f, "ppoll {mask:#x}")?,
            Syscall::Clone { flags, body } => {
                write!(f, "clone {flags:#x} [")?;
                for what in body {
                    write!(f, " {what};")?;
                }
                write!(f, " ]")?
            }
            Syscall::Exec(exec) => write!(f, "exec {exec:?}")?,
            Syscall::Protect { prot } => write!(f, "mprotect {prot}")?,
            Syscall::Map => write!(f, "mmap")?,
            Syscall::Unmap => write!(f, "munmap")?,
            Syscall::Block(block) => write!(f, "block {block:?}")?,
            Syscall::Filter { number, action } => write!(f, "seccomp {number} {action:#x}")?,
        }
        write!(f, " at {} flags={:#x}", self.site.name(), self.flags)?;
        if !self.script.is_empty() {
            write!(f, " handlers={:x?}", self.script)?;
        }
        Ok(())
    }
}
