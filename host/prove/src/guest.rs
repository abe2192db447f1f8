// SPDX-License-Identifier: GPL-2.0

//! A counterexample on a kernel that runs: the input is set up around a tracee, which makes the one
//! syscall that it is about.
//!
//! Only what user space can bring about is carried over. What has no place in user space is moved:
//! the instruction with its region, the selector, the handler of an upcall. The rest of the line is
//! named.

use crate::{
    replay::Line,
    scene::{Function, Layout, COMPAT},
};
use anyhow::{bail, ensure, Context as _, Result};
use nix::{
    errno::Errno,
    libc::{self, c_long, c_ulong, c_void, user_regs_struct},
    sys::{
        mman::{mmap_anonymous, MapFlags, ProtFlags},
        ptrace,
        signal::{raise, Signal},
        wait::{waitpid, WaitPidFlag, WaitStatus},
    },
    unistd::{fork, ForkResult, Pid},
};
use std::{collections::BTreeSet, fs, num::NonZeroUsize, ptr};

const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;
const PTRACE_SET: c_ulong = 0x4210;
const PTRACE_GET: c_ulong = 0x4211;
/// The sizes of `struct ptrace_sud_config`.
const SIZES: [usize; 2] = [40, 32];
const ALLOW: u8 = 0;
const SYSCTL: &str = "/proc/sys/kernel/syscall_user_dispatch";

const PAGE: usize = 4096;
/// Where things are in the page of code: the instruction, and the handler of an upcall.
const INSTRUCTION: usize = 0x100;
const HANDLER: usize = 0x200;

/// What a thread can be asked to be: mode, selector, offset, len, upcall, as ptrace has them.
type Config = [u64; 5];

/// Makes the kernel that runs do what `line` says, and prints what it did.
pub fn run(layout: Layout, line: &str) -> Result<()> {
    let line = Line::parse(line)?;
    let mut input = Input {
        line: &line,
        layout,
        used: BTreeSet::new(),
    };
    let mut places = Places::new()?;
    match line.function {
        Function::Decision => decide(&mut input, &mut places)?,
        Function::Setter => set(&mut input, &mut places)?,
        Function::Get | Function::Set => trace(&mut input, &mut places)?,
    }
    for (name, value) in &line.values {
        if !input.used.contains(name.as_str()) {
            println!("  not carried over: {name}={value:#x}");
        }
    }
    Ok(())
}

/// The values of a line, by name.
struct Input<'a> {
    line: &'a Line,
    layout: Layout,
    used: BTreeSet<String>,
}

impl Input<'_> {
    fn value(&mut self, name: &str) -> u64 {
        self.used.insert(name.to_owned());
        self.line.value(name)
    }

    /// A word of the task that the function is about.
    fn word(&mut self, at: i64) -> u64 {
        let task = self.line.function.task();
        self.value(&format!("{task}+{at:#x}"))
    }

    /// Whether the syscall comes by a 32-bit entry.
    fn is_32bit(&mut self) -> bool {
        self.word(self.layout.work + 8) & COMPAT != 0
    }

    /// The configuration that makes the state of the task, with its region moved by `distance`.
    fn config(&mut self, distance: u64) -> Result<Option<Config>> {
        let state = self.layout.state;
        let [selector, offset, len, upcall] = [0, 8, 16, 24].map(|at| self.word(state + at));
        let armed = self.line.function == Function::Decision
            || self.word(self.layout.work) & 1 << self.layout.work_bit != 0;
        if !armed {
            return Ok(None);
        }
        let offset = match len {
            0 => 0,
            _ => offset.wrapping_add(distance),
        };
        // An inverted region wraps around.
        let [mode, offset, len] = match offset.checked_add(len) {
            Some(_) => [1, offset, len],
            None if offset == 0 => [1, offset, len],
            None => [2, offset.wrapping_add(len), len.wrapping_neg()],
        };
        Ok(Some([mode, selector, offset, len, upcall]))
    }
}

/// Memory that is at the same address in the tracee.
struct Places {
    code: *mut u8,
    selector: *mut u8,
}

impl Places {
    fn new() -> Result<Self> {
        let page = || {
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC;
            let size = NonZeroUsize::new(PAGE).context("no page")?;
            // SAFETY: A new mapping, which nobody else knows.
            let page = unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_SHARED)? };
            anyhow::Ok(page.as_ptr().cast::<u8>())
        };
        Ok(Self {
            code: page()?,
            selector: page()?,
        })
    }

    /// The address behind the instruction, once it is there.
    fn after(&mut self, is_32bit: bool) -> u64 {
        let instruction: [u8; 3] = if is_32bit {
            [0xcd, 0x80, 0xcc]
        } else {
            [0x0f, 0x05, 0xcc]
        };
        // SAFETY: Within the page, which is ours.
        unsafe {
            ptr::copy_nonoverlapping(instruction.as_ptr(), self.code.add(INSTRUCTION), 3);
            *self.code.add(HANDLER) = 0xcc;
        }
        self.code as u64 + INSTRUCTION as u64 + 2
    }

    fn handler(&self) -> u64 {
        self.code as u64 + HANDLER as u64
    }

    fn select(&mut self, value: u8) -> u64 {
        // SAFETY: Within the page, which is ours.
        unsafe { *self.selector = value };
        self.selector as u64
    }
}

fn decide(input: &mut Input, places: &mut Places) -> Result<()> {
    let after = places.after(input.is_32bit());
    let ip = input.value("regs+0x80");
    let mut config = input.config(after.wrapping_sub(ip))?.context("not armed")?;
    if config[1] != 0 {
        let (value, fault) = (
            input.value("user read #1: value") as u8,
            input.value("user read #1: fault"),
        );
        // Nothing can be mapped at 1.
        config[1] = if fault != 0 { 1 } else { places.select(value) };
    }
    if config[4] != 0 {
        config[4] = places.handler();
    }
    let tracee = Tracee::start()?;
    tracee.configure(&config)?;
    let mut regs = ptrace::getregs(tracee.0)?;
    for at in 0..15 {
        let name = format!("regs+{:#x}", 8 * at);
        // rcx, r11 and rax are what the way in leaves.
        if ![6, 10, 11].contains(&at) {
            *register(&mut regs, at) = input.value(&name);
        }
    }
    regs.rax = input.value("regs+0x78");
    println!("  is made at {after:#x} of {}", show(&config));
    println!("  {}", tracee.call(regs, after, places.handler())?);
    Ok(())
}

/// The general registers in the order of `struct pt_regs`.
fn register(regs: &mut user_regs_struct, at: usize) -> &mut u64 {
    [
        &mut regs.r15,
        &mut regs.r14,
        &mut regs.r13,
        &mut regs.r12,
        &mut regs.rbp,
        &mut regs.rbx,
        &mut regs.r11,
        &mut regs.r10,
        &mut regs.r9,
        &mut regs.r8,
        &mut regs.rax,
        &mut regs.rcx,
        &mut regs.rdx,
        &mut regs.rsi,
        &mut regs.rdi,
    ]
    .into_iter()
    .nth(at)
    .expect("fifteen registers")
}

fn set(input: &mut Input, places: &mut Places) -> Result<()> {
    let is_32bit = input.is_32bit();
    let after = places.after(is_32bit);
    let sysctl = Sysctl::keep()?;
    let tracee = Tracee::start()?;
    // The call has to get through, so the selector says so.
    if let Some(mut config) = input.config(0)? {
        config[1] = places.select(ALLOW);
        tracee.configure(&config)?;
        println!("  is made by a thread with {}", show(&config));
    }
    sysctl.set(input.value("syscall_user_dispatch_allowed+0x0"))?;
    let mut regs = ptrace::getregs(tracee.0)?;
    let arguments = ["mode", "offset", "len", "selector"].map(|name| input.value(name));
    if is_32bit {
        regs.rax = 172;
        regs.rbx = PR_SET_SYSCALL_USER_DISPATCH;
        [regs.rcx, regs.rdx, regs.rsi, regs.rdi] = arguments;
    } else {
        regs.rax = libc::SYS_prctl as u64;
        regs.rdi = PR_SET_SYSCALL_USER_DISPATCH;
        [regs.rsi, regs.rdx, regs.r10, regs.r8] = arguments;
    }
    println!("  {}", tracee.call(regs, after, places.handler())?);
    tracee.report();
    Ok(())
}

fn trace(input: &mut Input, places: &mut Places) -> Result<()> {
    let sysctl = Sysctl::keep()?;
    let tracee = Tracee::start()?;
    if let Some(config) = input.config(0)? {
        tracee.configure(&config)?;
        println!("  is asked of a thread with {}", show(&config));
    }
    if input.line.function == Function::Set {
        sysctl.set(input.value("syscall_user_dispatch_allowed+0x0"))?;
    }
    let size = input.value("size") as usize;
    let (request, copy) = match input.line.function {
        Function::Get => (PTRACE_GET, "_copy_to_user"),
        _ => (PTRACE_SET, "_copy_from_user"),
    };
    let bytes: Vec<u8> = (0..size.min(SIZES[0]))
        .map(|at| input.value(&format!("{copy} #1: byte {at}")) as u8)
        .collect();
    // A page has room for either size; nothing can be mapped at 1.
    // SAFETY: Within the page, which is ours.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), places.selector, bytes.len()) };
    input.used.insert("data".to_owned());
    let data = match input.value(&format!("{copy} #1: result")) {
        0 => places.selector as u64,
        _ => 1,
    };
    let says = match tracee.request(request, size, data) {
        Ok(()) => "0".to_owned(),
        Err(error) => error.to_string(),
    };
    println!("  returns {says}");
    tracee.report();
    Ok(())
}

/// The sysctl, which is put back when this ends. Upstream has none.
struct Sysctl(Option<String>);

impl Sysctl {
    /// Has arming allowed, for what is set up beforehand.
    fn keep() -> Result<Self> {
        let sysctl = Self(fs::read_to_string(SYSCTL).ok());
        sysctl.set(1).map(|()| sysctl)
    }

    fn set(&self, value: u64) -> Result<()> {
        match self.0 {
            Some(_) => fs::write(SYSCTL, value.to_string()).context("the sysctl cannot be set"),
            None => Ok(()),
        }
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nobody is left who could be told.
            let _ = fs::write(SYSCTL, before);
        }
    }
}

/// A child that is stopped.
struct Tracee(Pid);

impl Tracee {
    fn start() -> Result<Self> {
        // SAFETY: There is one thread.
        match unsafe { fork()? } {
            ForkResult::Parent { child } => {
                let status = waitpid(child, None)?;
                ensure!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
                ptrace::setoptions(child, ptrace::Options::PTRACE_O_EXITKILL)?;
                Ok(Self(child))
            }
            ForkResult::Child => {
                let _ = ptrace::traceme().and_then(|()| raise(Signal::SIGSTOP));
                std::process::exit(1);
            }
        }
    }

    fn request(&self, request: c_ulong, size: usize, data: u64) -> Result<(), Errno> {
        let pid = c_long::from(self.0.as_raw());
        // SAFETY: The kernel judges the arguments.
        let ret = unsafe { libc::syscall(libc::SYS_ptrace, request, pid, size, data) };
        Errno::result(ret).map(drop)
    }

    fn configure(&self, config: &Config) -> Result<()> {
        for size in SIZES {
            match self.request(PTRACE_SET, size, config.as_ptr() as u64) {
                // A kernel without upcalls has only the smaller size.
                Err(Errno::EINVAL) if size == SIZES[0] && config[4] == 0 => {}
                result => {
                    let what = || format!("no request leads to {}", show(config));
                    return result.with_context(what);
                }
            }
        }
        bail!("no request leads to {}", show(config))
    }

    fn report(&self) {
        let mut config: Config = [0; 5];
        let ask = |size, config: &mut Config| {
            let data = config.as_mut_ptr().cast::<c_void>() as u64;
            self.request(PTRACE_GET, size, data)
        };
        match ask(SIZES[0], &mut config).or_else(|_| ask(SIZES[1], &mut config)) {
            Ok(()) => println!("  then the thread has {}", show(&config)),
            Err(error) => println!("  then the thread cannot be asked: {error}"),
        }
    }

    /// What became of one instruction.
    fn call(&self, mut regs: user_regs_struct, after: u64, handler: u64) -> Result<String> {
        regs.rip = after - 2;
        // Or else the kernel restarts what it interrupted.
        regs.orig_rax = u64::MAX;
        ptrace::setregs(self.0, regs)?;
        ptrace::step(self.0, None)?;
        Ok(match waitpid(self.0, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                let regs = ptrace::getregs(self.0)?;
                match regs.rip {
                    ip if ip == after => format!("runs, and returns {:#x}", regs.rax),
                    ip if ip == handler => format!("goes up, with rcx {:#x}", regs.rcx),
                    ip => format!("stops at {ip:#x}"),
                }
            }
            WaitStatus::Stopped(_, Signal::SIGSYS) => {
                let info = ptrace::getsiginfo(self.0)?;
                format!("raises SIGSYS, with si_code {}", info.si_code)
            }
            WaitStatus::Stopped(_, signal) => format!("raises {signal}"),
            WaitStatus::Signaled(_, signal, _) => format!("kills, by {signal}"),
            WaitStatus::Exited(_, status) => format!("exits with {status}"),
            status => format!("{status:?}"),
        })
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        let _ = ptrace::kill(self.0);
        let _ = waitpid(self.0, Some(WaitPidFlag::__WALL));
    }
}

fn show([mode, selector, offset, len, upcall]: &Config) -> String {
    format!(
        "mode={mode:#x} offset={offset:#x} len={len:#x} selector={selector:#x} upcall={upcall:#x}"
    )
}
