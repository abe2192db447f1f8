// SPDX-License-Identifier: GPL-2.0

//! How programs are drawn from a seed.

use crate::{
    arena::*,
    config::{self, config, stored},
    plan::{self, Plan},
    program::*,
    style,
    sys::*,
};

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
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
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

/// The numbers of syscalls that can run natively without changing anything, or are none.
pub fn number(random: &mut Random, is_i386: bool) -> u64 {
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

pub fn plain(random: &mut Random, is_i386: bool) -> Syscall {
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
        45..=57 => Action::Rax(random.of(&[0, 6, 42, -38i64 as u64, -512i64 as u64, u64::MAX])),
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

/// What holds for a whole program, or for a child in it.
#[derive(Clone, Copy)]
pub struct Kind {
    pub style: Style,
    pub traced: bool,
    pub vdso32: bool,
    pub sibling: bool,
    pub child: bool,
}

fn syscall(random: &mut Random, kind: &Kind) -> (Site, Syscall) {
    let ticket = random.below(match (kind.child, kind.traced) {
        (true, _) => 75,
        (false, true) => 104,
        (false, false) => 96,
    });
    let handled = [SIGSYS, SIGSYS, SIGSYS, SIGUSR1, SIGUSR2, SIGSEGV];
    let masks = [0, 0, bit(SIGUSR1), bit(SIGSYS), ALL];
    if let Some(drawn) = kind.style.syscall(random, kind) {
        return drawn;
    }
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
                x32: random.percent(15),
            }
        }
        80..=81 => Syscall::AltStack {
            flags: random.of(&[0, 0, 2, 1 << 31, 1]),
            size: random.of(&[STACK_SIZE, STACK_SIZE, 0x4000, 512]),
            hole: random.percent(30),
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
        _ => {
            let site = match random.below(100) {
                0..=19 => Site::Int,
                20..=29 => Site::Compat,
                30..=39 if kind.vdso32 => Site::Pad,
                _ => syscall_site(random),
            };
            let block = Syscall::Block(random.of(&[
                Block::Read,
                Block::Read,
                Block::Poll,
                Block::Sleep,
                Block::Nap,
                Block::Futex,
                Block::FutexOnly,
                Block::Suspend,
                Block::Pause,
            ]));
            return (site, block);
        }
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
    let plain = config::is_narrow(site, &syscall);
    let mut script = if plain { Vec::new() } else { script(random) };
    script.retain(|action| match action {
        // What it returns is the number by which the subject would exit.
        Action::Again => !(site.is_i386() && matches!(syscall, Syscall::Block(_))),
        // Where the number of the child goes.
        Action::Change(_) => !matches!(syscall, Syscall::Clone { .. }),
        _ => true,
    });
    Enter {
        site,
        syscall,
        pattern: random.next(),
        flags: 0x202 | (random.next() & ARITHMETIC) | direction,
        script,
    }
}

fn what(random: &mut Random, kind: &Kind) -> What {
    if random.percent(16) {
        let (at, value) = stored(random);
        return What::Store { at, value };
    }
    if random.percent(kind.style.keys()) {
        return What::Keys {
            open: random.percent(60),
        };
    }
    What::Enter(enter(random, kind))
}

fn trace(random: &mut Random, style: Style) -> Trace {
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
    if style == Style::Ours && random.percent(45) {
        let (config, pointer) = (config(random), pointer(random));
        return style::trace(random, config, pointer);
    }
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

/// Whether what was done can leave upstream and ours in different states, by D2 or D6, or leaves
/// behind a wait that `restart_syscall()` would go on with, or what ends other waits.
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
        Syscall::Arm { .. } => config::is_narrow(enter.site, &enter.syscall),
        Syscall::Block(_) => true,
        _ => false,
    }
}

/// Handlers for all signals that matter, of different kinds.
fn setup(random: &mut Random) -> Vec<Syscall> {
    let mask = random.of(&[0, ALL]);
    let x32 = random.percent(15);
    // Sometimes there is no stack to deliver SIGSYS on.
    let hole = random.percent(15);
    let handle = |signal, flags, x32| Syscall::Action {
        signal,
        disposition: Disposition::Near,
        flags,
        mask,
        x32,
    };
    let mut all = vec![
        handle(SIGSYS, if hole { SA_ONSTACK } else { 0 }, x32),
        handle(SIGUSR1, random.of(&[0, SA_RESTART]), false),
        handle(SIGUSR2, 0, x32),
    ];
    if hole {
        all.push(handle(SIGSEGV, 0, random.percent(20)));
        all.push(Syscall::AltStack {
            flags: 0,
            size: STACK_SIZE,
            hole,
        });
    }
    all
}

/// A program of a run.
pub fn program(seed: u64, number: u64, style: Style) -> Program {
    let mut random = Random::new(seed, number);
    let random = &mut random;
    let kind = Kind {
        style,
        traced: random.percent(45),
        vdso32: random.percent(15),
        sibling: random.percent(50),
        child: false,
    };
    let seized = random.percent(50);
    let mut setup = setup(random);
    for syscall in &mut setup {
        style.adapt_syscall(random, syscall);
    }
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

    let mut operations = Vec::new();
    while operations.len() < Program::OPERATIONS as usize {
        let mut what = if kind.traced && random.percent(22) {
            What::Trace(trace(random, style))
        } else {
            what(random, &kind)
        };
        style.adapt(random, &mut what);
        let mut plan = if kind.traced {
            plan::draw(random, &kind, &what)
        } else {
            Plan::PLAIN
        };
        style.adapt_plan(random, &mut plan);
        let fence = needs_fence(&what) || plan.needs_fence();
        // Behind a fence nothing is armed.
        let request = if fence {
            None
        } else {
            style.request(random, &what)
        };
        operations.push(Operation { what, plan, fence });
        operations.extend(request.map(|what| Operation {
            what,
            plan: Plan::PLAIN,
            fence: false,
        }));
    }
    operations.truncate(Program::OPERATIONS as usize);

    Program {
        number,
        style,
        setup,
        traced: kind.traced,
        vdso32: kind.vdso32,
        seized: kind.traced && seized,
        sibling: kind.traced && kind.sibling,
        options,
        operations,
    }
}
