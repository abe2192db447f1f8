// SPDX-License-Identifier: GPL-2.0

//! The tracer: follows a subject from stop to stop, by the plan of each operation.

use crate::{
    arena::{self, *},
    log,
    program::*,
    sys::{self, *},
};
use std::{fs, sync::atomic::Ordering::Relaxed};

/// How many stops one operation may make, before it is taken for endless.
const STOPS: usize = 60;

pub const SYSCTL: &str = "/proc/sys/kernel/syscall_user_dispatch";

/// How a subject ended, or that it waits for its tracer to come back.
pub enum End {
    Status(i32),
    /// It came to the end of what it had to do, and was killed there.
    Killed,
}

enum Stop {
    /// At the meeting point, before an operation.
    Meeting,
    /// About to enter the kernel, where it is to be stepped.
    Stepping,
    /// Within `PTRACE_SYSCALL` or its relatives.
    Syscall,
    Signal(u64),
    Event(u64),
    /// A single step was made.
    Step,
    Dead(i32),
    /// Its process was taken over by another thread.
    Gone,
}

pub struct Tracer<'a> {
    program: &'a Program,
    pid: i64,
    /// How often the present operation stopped at a syscall entry.
    entries: usize,
    /// How a child ended, for when its parent, which runs again by then, does not write.
    ended_child: Option<i32>,
    /// The children whose end was seen.
    pub seen: Vec<i64>,
}

impl<'a> Tracer<'a> {
    pub fn new(program: &'a Program, pid: i64) -> Self {
        Self {
            program,
            pid,
            entries: 0,
            ended_child: None,
            seen: Vec::new(),
        }
    }

    fn request(&self, request: u64, pid: i64, data: u64) -> i64 {
        // SAFETY: Used for requests whose data is no pointer.
        unsafe { sys::ptrace(request, pid, 0, data) }
    }

    fn registers(&self, pid: i64) -> UserRegs {
        let mut registers = UserRegs::default();
        // SAFETY: The structure is what the request fills.
        unsafe { sys::ptrace(PTRACE_GETREGS, pid, 0, &raw mut registers as u64) };
        registers
    }

    fn set_registers(&self, pid: i64, registers: &UserRegs) {
        // SAFETY: The structure is what the request reads.
        unsafe { sys::ptrace(PTRACE_SETREGS, pid, 0, &raw const *registers as u64) };
    }

    /// `PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG`
    fn set(&self, pid: i64, config: &SudConfig) -> i64 {
        // SAFETY: The structure is what the request reads.
        unsafe { sys::ptrace(PTRACE_SET_SUD, pid, 32, &raw const *config as u64) }
    }

    fn get(&self, pid: i64) -> (i64, SudConfig) {
        let mut config = SudConfig {
            mode: 77,
            selector: 77,
            offset: 77,
            len: 77,
        };
        // SAFETY: The structure is what the request fills.
        let result = unsafe { sys::ptrace(PTRACE_GET_SUD, pid, 32, &raw mut config as u64) };
        (result, config)
    }

    fn show_get(&self, pid: i64, why: &str) {
        let (result, config) = self.get(pid);
        log!("  {why}get={result} {}", Shown(&config));
    }

    fn wait(&self, pid: i64) -> Stop {
        let (result, status) = sys::wait(pid, 0);
        if result < 0 {
            return Stop::Gone;
        }
        if status & 0xff != 0x7f {
            return Stop::Dead(status);
        }
        let signal = (status >> 8) as u64 & 0xff;
        let event = (status >> 16) as u64;
        if signal == SIGTRAP | 0x80 {
            return Stop::Syscall;
        }
        if event != 0 {
            return Stop::Event(event);
        }
        if signal == SIGTRAP {
            let rip = self.registers(pid).rip;
            if rip == arena::meeting_point() {
                return Stop::Meeting;
            }
            if rip == arena::stepping_point() {
                return Stop::Stepping;
            }
            // TRAP_BRKPT after a syscall, TRAP_TRACE after another instruction, and SIGTRAP itself
            // on the way into a handler
            if matches!(self.signal_info(pid).code, 1 | 2 | 5) {
                return Stop::Step;
            }
        }
        Stop::Signal(signal)
    }

    fn signal_info(&self, pid: i64) -> SigInfo {
        let mut info = SigInfo::new();
        // SAFETY: The structure is as large as what the request fills.
        unsafe { sys::ptrace(PTRACE_GETSIGINFO, pid, 0, &raw mut info as u64) };
        info
    }

    /// Registers at a stop, and what PTRACE_GET_SYSCALL_INFO says of it.
    fn show_stop(&self, pid: i64, what: std::fmt::Arguments<'_>) -> SyscallInfo {
        let registers = self.registers(pid);
        let mut info = SyscallInfo::default();
        // SAFETY: At most as much is written as the structure holds.
        unsafe {
            let size = size_of::<SyscallInfo>() as u64;
            sys::ptrace(PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info as u64)
        };
        use std::fmt::Write;
        let _ = write!(
            Log,
            "  stop {what} rip={} rax={} orig={} cs={:#x} flags={:#x} info={}",
            Name(registers.rip),
            Value(registers.rax),
            Name(registers.orig_rax),
            registers.cs,
            registers.eflags,
            info.op,
        );
        match info.op {
            1 => {
                let _ = write!(Log, " arch={:#x} nr={}", info.arch, Name(info.tail[0]));
            }
            2 => {
                let error = info.tail[1] as u8;
                let _ = write!(Log, " rval={} error={error}", Value(info.tail[0]));
            }
            _ => {}
        }
        let _ = writeln!(Log);
        info
    }

    /// Follows a fresh subject until it ends.
    pub fn follow(&mut self) -> End {
        match self.wait(self.pid) {
            Stop::Meeting => {}
            Stop::Dead(status) => return End::Status(status),
            _ => unreachable!("a subject begins at the meeting point"),
        }
        self.request(PTRACE_SETOPTIONS, self.pid, self.program.options);
        loop {
            // The subject stands at the meeting point.
            let index = arena::shared().operation.load(Relaxed) as usize;
            let operation = &self.program.operations[index];
            if let Some(end) = self.operation(operation) {
                return end;
            }
        }
    }

    /// Plays the tracer's part in one operation, up to the next.
    fn operation(&mut self, operation: &Operation) -> Option<End> {
        if let What::Trace(trace) = &operation.what {
            match trace {
                Trace::Detach => return self.detached(),
                Trace::Running => {
                    self.request(PTRACE_CONT, self.pid, 0);
                    self.while_running();
                    return self.run(&operation.plan, false);
                }
                _ => self.trace(trace),
            }
        }
        self.run(&operation.plan, true)
    }

    /// Lets the subject run to the next operation, in the way that is planned.
    fn run(&mut self, plan: &Plan, resume: bool) -> Option<End> {
        self.entries = 0;
        // Only what is in the arena is stepped; until there it runs.
        let mode = match plan.resume {
            Resume::Step | Resume::SysemuStep => PTRACE_CONT,
            Resume::Cont => PTRACE_CONT,
            Resume::Syscall => PTRACE_SYSCALL,
            Resume::Sysemu => PTRACE_SYSEMU,
        };
        if resume {
            self.request(mode, self.pid, plan.inject);
        }
        self.watch(self.pid, plan, mode)
    }

    /// Watches a thread until it meets us again. Returns how it ended, if it did.
    fn watch(&mut self, pid: i64, plan: &Plan, mut mode: u64) -> Option<End> {
        let stepping = match plan.resume {
            Resume::SysemuStep => PTRACE_SYSEMU_SINGLESTEP,
            _ => PTRACE_SINGLESTEP,
        };
        let mut created = None;
        for _ in 0..STOPS {
            let stop = self.wait(pid);
            let mut signal = 0;
            if arena::shared().ended.load(Relaxed) != 0 && !matches!(stop, Stop::Dead(_)) {
                self.kill(pid);
                return Some(End::Killed);
            }
            if let Some(status) = self.ended_child.take() {
                log!("  traced child ends: {}", Status(status));
            }
            match stop {
                Stop::Meeting => return None,
                Stop::Dead(status) => return Some(End::Status(status)),
                Stop::Gone => return Some(End::Status(-1)),
                Stop::Stepping => mode = stepping,
                Stop::Step => {
                    self.show_stop(pid, format_args!("step"));
                    let registers = self.registers(pid);
                    if !is_code(registers.rip) {
                        mode = PTRACE_CONT;
                    }
                }
                Stop::Syscall => {
                    let info = self.show_stop(pid, format_args!("syscall"));
                    // A signal handler is to return.
                    if info.op == 1 && info.tail[0] != SYS_RT_SIGRETURN {
                        signal = self.at_entry(pid, plan);
                    }
                }
                Stop::Event(event) => {
                    created = self.event(pid, event);
                }
                // When a child is dead after the program has executed another is not for us to say.
                Stop::Signal(SIGCHLD) => {}
                Stop::Signal(number) => signal = self.at_signal(pid, plan, number),
            }
            self.request(mode, pid, signal);
            // A parent waits for its child, so that only one of them runs.
            if let Some(child) = created.take() {
                self.child(child, plan);
            }
        }
        log!("  stops without end");
        self.kill(pid);
        Some(End::Killed)
    }

    /// Kills a thread that is stopped, and its process with it.
    fn kill(&self, pid: i64) {
        // SAFETY: No memory is involved.
        unsafe { sys::call(SYS_KILL, &[pid as u64, SIGKILL]) };
        // A thread that stopped while it exits does not notice a SIGKILL.
        loop {
            self.request(PTRACE_CONT, pid, 0);
            if matches!(self.wait(pid), Stop::Dead(_) | Stop::Gone) {
                return;
            }
        }
    }

    fn child(&mut self, child: i64, plan: &Plan) {
        let entries = self.entries;
        self.seen.push(child);
        // It begins with a stop, by SIGSTOP.
        match self.wait(child) {
            Stop::Dead(status) => return self.ended_child = Some(status),
            _ => self.show_get(child, "child "),
        }
        let mode = match plan.resume {
            Resume::Syscall => PTRACE_SYSCALL,
            Resume::Sysemu => PTRACE_SYSEMU,
            _ => PTRACE_CONT,
        };
        self.request(mode, child, 0);
        self.ended_child = Some(match self.watch(child, plan, mode) {
            Some(End::Status(status)) => status,
            _ => -1,
        });
        self.entries = entries;
    }

    /// Returns the thread that was made, if one was.
    fn event(&mut self, pid: i64, event: u64) -> Option<i64> {
        self.show_stop(pid, format_args!("event={event}"));
        match event {
            // fork, vfork, clone
            1..=3 => {
                let mut child = 0u64;
                // SAFETY: The request writes one word.
                unsafe { sys::ptrace(PTRACE_GETEVENTMSG, pid, 0, &raw mut child as u64) };
                Some(child as i64)
            }
            // exec
            4 => {
                self.show_get(pid, "");
                let (_, config) = self.get(pid);
                log!("  setget={}", self.set(pid, &config));
                None
            }
            _ => None,
        }
    }

    /// Returns the signal to go on with.
    fn at_entry(&mut self, pid: i64, plan: &Plan) -> u64 {
        self.entries += 1;
        let set_number = |number: u64| {
            let mut registers = self.registers(pid);
            registers.orig_rax = number;
            self.set_registers(pid, &registers);
        };
        match plan.at_entry {
            AtEntry::Nothing => {}
            AtEntry::Number(number) if self.entries == 1 => set_number(number),
            AtEntry::Signal => {
                if self.entries > 3 {
                    // Whatever waits has been woken often enough.
                    set_number(u64::MAX);
                    return 0;
                }
                let mut mask = 0u64;
                // SAFETY: The requests read and write a mask of eight bytes.
                unsafe {
                    sys::ptrace(PTRACE_GETSIGMASK, pid, 8, &raw mut mask as u64);
                    mask &= !bit(SIGUSR1);
                    sys::ptrace(PTRACE_SETSIGMASK, pid, 8, &raw const mask as u64);
                    // To the thread, which is on its way into a syscall that may wait.
                    let process = self.process_of(pid);
                    sys::call(SYS_TGKILL, &[process as u64, pid as u64, SIGUSR1]);
                }
            }
            AtEntry::Disarm if self.entries == 1 => {
                log!("  disarm={}", self.set(pid, &SudConfig::default()));
            }
            AtEntry::Arm if self.entries == 1 => {
                let (offset, end) = arena::gate();
                let len = end - offset;
                let config = SudConfig {
                    mode: 1,
                    selector: SELECTOR_RW,
                    offset,
                    len,
                };
                log!("  arm={}", self.set(pid, &config));
            }
            _ => {}
        }
        0
    }

    /// The process that a thread belongs to.
    fn process_of(&self, tid: i64) -> i64 {
        if tid == self.pid {
            return tid;
        }
        let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
        line.and_then(|pid| pid.trim().parse().ok()).unwrap_or(tid)
    }

    /// Returns the signal to go on with.
    fn at_signal(&mut self, pid: i64, plan: &Plan, signal: u64) -> u64 {
        let info = self.signal_info(pid);
        if signal == SIGSYS && info.code > 0 {
            let SigInfo {
                code,
                errno,
                addr,
                syscall,
                arch,
                ..
            } = info;
            let addr = Name(addr);
            self.show_stop(
                pid,
                format_args!(
                    "signal={signal} code={code} errno={errno} addr={addr} nr={syscall} \
                     arch={arch:#x}"
                ),
            );
        } else {
            self.show_stop(pid, format_args!("signal={signal} code={}", info.code));
        }
        // A wait that goes on finds what it waited for.
        if signal == SIGUSR1 {
            // SAFETY: One byte is read.
            unsafe { sys::call(SYS_WRITE, &[FD_PIPE_WRITE, b"!".as_ptr() as u64, 1]) };
        }
        if signal == SIGTRAP {
            // After exec, for a tracer that did not ask for the event.
            self.show_get(pid, "");
            return 0;
        }
        match plan.at_signal {
            AtSignal::Suppress if matches!(signal, SIGSYS | SIGUSR1) => 0,
            AtSignal::Replace if signal == SIGSYS => SIGUSR1,
            AtSignal::Disarm if signal == SIGSYS => {
                log!("  disarm={}", self.set(pid, &SudConfig::default()));
                signal
            }
            _ => signal,
        }
    }

    /// What the tracer alone does at a meeting.
    fn trace(&self, trace: &Trace) {
        match trace {
            Trace::Get { size, pointer } => {
                let mut config = SudConfig {
                    mode: 77,
                    selector: 77,
                    offset: 77,
                    len: 77,
                };
                let target = self.pointer(*pointer, &raw mut config as u64);
                // SAFETY: The kernel writes 32 bytes if at all, to the structure or to one of the
                // places that exist to be written to in vain.
                let result = unsafe { sys::ptrace(PTRACE_GET_SUD, self.pid, *size, target) };
                log!("  get={result} {}", Shown(&config));
            }
            Trace::Set {
                config,
                size,
                pointer,
            } => {
                let source = self.pointer(*pointer, &raw const *config as u64);
                // SAFETY: The kernel only reads.
                let result = unsafe { sys::ptrace(PTRACE_SET_SUD, self.pid, *size, source) };
                log!("  set={result}");
            }
            Trace::SetGet => {
                let (result, config) = self.get(self.pid);
                log!("  get={result} {}", Shown(&config));
                log!("  setget={}", self.set(self.pid, &config));
                self.show_get(self.pid, "");
            }
            Trace::Stranger => {
                // Our own parent is no tracee of ours, and neither are we.
                for pid in [1, std::process::id()] {
                    let set = self.set(pid.into(), &SudConfig::default());
                    log!("  get={} set={set}", self.get(pid.into()).0);
                }
            }
            Trace::Sysctl(value) => {
                let result = match fs::write(SYSCTL, value) {
                    Ok(()) => 0,
                    Err(error) => error.raw_os_error().unwrap_or(-1),
                };
                let reading = fs::read_to_string(SYSCTL).unwrap_or_default();
                log!("  write={result} read={}", reading.trim());
            }
            Trace::Attach { .. } | Trace::Detach | Trace::Running => {}
        }
    }

    fn pointer(&self, pointer: Pointer, good: u64) -> u64 {
        match pointer {
            Pointer::Good => good,
            Pointer::Null => 0,
            Pointer::Unmapped => SELECTOR_HOLE,
            Pointer::ReadOnly => SELECTOR_RO,
            Pointer::Kernel => 0xffff_8880_0000_0000,
            // The page behind it is not accessible.
            Pointer::Crossing => TORN + PAGE - 8,
        }
    }

    /// The requests on a thread that runs.
    fn while_running(&self) {
        self.wait_for_spin();
        let set = self.set(self.pid, &SudConfig::default());
        log!("  get={} set={set}", self.get(self.pid).0);
        arena::shared().spin.store(0, Relaxed);
    }

    /// Waits until the subject spins. Returns how it ended if it does not come so far.
    fn wait_for_spin(&self) -> Option<i32> {
        const WNOHANG: u64 = 1;
        while arena::shared().spin.load(Relaxed) == 0 {
            let (result, status) = sys::wait(self.pid, WNOHANG);
            if result != 0 {
                return Some(status);
            }
            // SAFETY: No memory is involved.
            unsafe { sys::call(SYS_SCHED_YIELD, &[]) };
        }
        None
    }

    /// Lets the subject go, until it waits for its tracer to come back.
    fn detached(&mut self) -> Option<End> {
        let shared = arena::shared();
        shared.traced.store(0, Relaxed);
        self.request(PTRACE_DETACH, self.pid, 0);
        if let Some(status) = self.wait_for_spin() {
            return Some(End::Status(status));
        }
        let index = shared.operation.load(Relaxed) as usize;
        let seize = matches!(
            self.program.operations[index].what,
            What::Trace(Trace::Attach { seize: true })
        );
        if seize {
            let result = self.request(PTRACE_SEIZE, self.pid, self.program.options);
            log!(
                "  seize={result} interrupt={}",
                self.request(PTRACE_INTERRUPT, self.pid, 0)
            );
        } else {
            log!("  attach={}", self.request(PTRACE_ATTACH, self.pid, 0));
        }
        match self.wait(self.pid) {
            Stop::Dead(status) => return Some(End::Status(status)),
            Stop::Event(event) => log!("  attached with event {event}"),
            Stop::Signal(signal) => log!("  attached with signal {signal}"),
            _ => log!("  attached"),
        }
        self.request(PTRACE_SETOPTIONS, self.pid, self.program.options);
        self.show_get(self.pid, "");
        shared.traced.store(1, Relaxed);
        shared.spin.store(0, Relaxed);
        self.request(PTRACE_CONT, self.pid, 0);
        self.watch(self.pid, &self.program.operations[index].plan, PTRACE_CONT)
    }
}

/// A wait status, in words.
pub struct Status(pub i32);

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            -1 => write!(f, "gone"),
            status if status & 0x7f == 0 => write!(f, "exit {}", (status >> 8) & 0xff),
            status => write!(f, "signal {}", status & 0x7f),
        }
    }
}
