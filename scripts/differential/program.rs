// SPDX-License-Identifier: GPL-2.0

//! Programs: what they are made of, and how they read.

use crate::{arena::*, plan::Plan, sys::*, upcall};
use std::fmt;

/// What programs are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// What all kernels know.
    Plain,
    /// The same, but each thread that armed itself asks for upcalls, wherever its handler of SIGSYS
    /// could return. Tracers leave dispatches alone that can be upcalls, and the handler of SIGSYS
    /// runs with the signal mask of the program: then it makes no difference by which of the two a
    /// dispatch came, but for what they are.
    Upcall,
    /// All that is new, with nothing left out.
    Ours,
}

pub struct Program {
    pub number: u64,
    pub style: Style,
    pub traced: bool,
    /// Whether it has the vDSO of 32-bit programs instead of its own.
    pub vdso32: bool,
    /// Whether its tracer seizes it, and can interrupt it.
    pub seized: bool,
    /// Whether it has a sibling.
    pub sibling: bool,
    /// What the subject begins with.
    pub setup: Vec<Syscall>,
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
    /// Asks for upcalls.
    Upcall {
        handler: Handler,
        /// The arguments that have to be 0.
        rest: [u64; 2],
        x32: bool,
    },
    Action {
        signal: u64,
        disposition: Disposition,
        flags: u64,
        mask: u64,
        x32: bool,
    },
    Mask {
        how: u64,
        set: u64,
    },
    AltStack {
        flags: u32,
        size: u64,
        /// Whether nothing is there.
        hole: bool,
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

/// Where upcalls are to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Handler {
    /// To the one that writes down what it sees.
    Own,
    /// Back to where the code was called that made the syscall.
    Land,
    /// Anywhere else; to 0 for SIGSYS.
    At(u64),
}

impl Handler {
    pub fn address(self) -> u64 {
        match self {
            Handler::Own => upcall::entry(),
            Handler::Land => land(),
            Handler::At(address) => address,
        }
    }
}

/// By name, whatever the address.
impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Handler::Own => write!(f, "own"),
            Handler::At(address) if *address == upcall::entry() => write!(f, "own"),
            Handler::Land => write!(f, "land"),
            Handler::At(address) => write!(f, "{address:#x}"),
        }
    }
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
    /// So short that nobody needs to end it.
    Nap,
    /// With a time, and without.
    Futex,
    FutexOnly,
    Suspend,
    Pause,
}

impl Block {
    /// Whether it is interrupted again and again until its tracer gives it up.
    pub fn is_endless(self) -> bool {
        matches!(self, Block::Sleep | Block::Suspend | Block::Pause)
    }

    pub fn number(self, is_i386: bool) -> u64 {
        let (number, i386) = match self {
            Block::Read => (SYS_READ, 3),
            Block::Poll => (SYS_POLL, 168),
            Block::Sleep | Block::Nap => (SYS_NANOSLEEP, 162),
            Block::Futex | Block::FutexOnly => (SYS_FUTEX, 240),
            Block::Suspend => (SYS_RT_SIGSUSPEND, 179),
            Block::Pause => (SYS_PAUSE, 29),
        };
        if is_i386 {
            i386
        } else {
            number
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
    /// The same three with the handler of upcalls, in the larger structure.
    GetWide {
        size: u64,
        pointer: Pointer,
    },
    SetWide {
        config: SudConfig,
        upcall: Handler,
        size: u64,
        pointer: Pointer,
    },
    SetGetWide,
    /// The tracer suspends the mechanism, or ends that.
    Suspend(bool),
    /// The requests on a thread that is not stopped, or not a tracee.
    Running,
    Stranger,
    Sysctl(&'static str),
    Detach,
    Attach {
        seize: bool,
    },
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

impl Program {
    pub const OPERATIONS: u64 = 40;

    /// Whether it writes the sysctl, which all programs see.
    pub fn is_alone(&self) -> bool {
        self.operations
            .iter()
            .any(|operation| matches!(operation.what, What::Trace(Trace::Sysctl(_))))
    }
}

/// The line that it begins with.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, traced, .. } = self;
        write!(
            f,
            "program {number}{} traced={traced} [",
            self.style.option()
        )?;
        for syscall in &self.setup {
            write!(f, " {syscall};")?;
        }
        write!(f, " ]")
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fence = if self.fence { " fence" } else { "" };
        write!(f, "{}{}{fence}", self.what, self.plan)
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
            What::Trace(Trace::SetWide {
                config,
                upcall,
                size,
                pointer,
            }) => {
                let config = Shown(config);
                write!(
                    f,
                    "trace SetWide {config} upcall={upcall} size={size:#x} pointer={pointer:?}"
                )
            }
            What::Trace(trace) => write!(f, "trace {trace:x?}"),
        }
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Syscall::Plain { rax, .. } => write!(f, "call {rax:#x}")?,
            Syscall::Arm { config, x32 } => {
                write!(f, "arm {}{}", Shown(config), if *x32 { " x32" } else { "" })?
            }
            Syscall::Upcall { handler, rest, x32 } => write!(
                f,
                "upcall {handler} {:#x} {:#x}{}",
                rest[0],
                rest[1],
                if *x32 { " x32" } else { "" }
            )?,
            Syscall::Action {
                signal,
                disposition,
                flags,
                mask,
                x32,
            } => write!(
                f,
                "sigaction {signal} {disposition:?} flags={flags:#x} mask={mask:#x}{}",
                if *x32 { " x32" } else { "" }
            )?,
            Syscall::Mask { how, set } => write!(f, "sigprocmask {how} {set:#x}")?,
            Syscall::AltStack { flags, size, hole } => write!(
                f,
                "sigaltstack {flags:#x} {size:#x}{}",
                if *hole { " hole" } else { "" }
            )?,
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
        Ok(())
    }
}

impl fmt::Display for Enter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            syscall,
            site,
            flags,
            ..
        } = self;
        write!(f, "{syscall} at {} flags={flags:#x}", site.name())?;
        if !self.script.is_empty() {
            write!(f, " handlers={:x?}", self.script)?;
        }
        Ok(())
    }
}
