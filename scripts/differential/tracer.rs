// SPDX-License-Identifier: GPL-2.0

//! The tracer: follows a subject from stop to stop, by the plan of each operation.

use crate::{
    arena::{self, *},
    log,
    meddle::{Moment, Verdict},
    plan::*,
    program::*,
    requests::Status,
    sys::{self, *},
};
use std::sync::atomic::Ordering::Relaxed;

/// How many stops one operation may make, before it is taken for endless.
const STOPS: usize = 60;

const WNOHANG: u64 = 1;

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
    pub program: &'a Program,
    pub pid: i64,
    /// Whether the subject was seized, so that it can be interrupted.
    pub seized: bool,
    /// Whether the page of its selector is not there, and the subject may wait for it.
    pub withheld: bool,
    /// How many of the planned acts are done.
    pub done: usize,
    /// The registers of a thread that were kept.
    pub kept: Option<(i64, UserRegs)>,
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
            seized: program.seized,
            withheld: false,
            done: 0,
            kept: None,
            entries: 0,
            ended_child: None,
            seen: Vec::new(),
        }
    }

    /// Waits for a thread to change its state, and provides the page that it may wait for.
    fn wait_status(&mut self, pid: i64) -> (i64, i32) {
        while self.withheld {
            let (result, status) = sys::wait(pid, WNOHANG);
            if result != 0 {
                return (result, status);
            }
            match arena::shared().sibling.is_awaited() {
                Some(false) => {
                    // SAFETY: No memory is involved.
                    unsafe { sys::call(SYS_SCHED_YIELD, &[]) };
                }
                Some(true) => {
                    log!("  awaited");
                    self.meddle(pid, Moment::Awaited);
                    self.provide();
                }
                None => self.withheld = false,
            }
        }
        sys::wait(pid, 0)
    }

    fn wait(&mut self, pid: i64) -> Stop {
        let (result, status) = self.wait_status(pid);
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

    /// Follows a fresh subject until it ends.
    pub fn follow(&mut self) -> End {
        if self.seized {
            self.request(PTRACE_SEIZE, self.pid, 0);
            arena::shared().go();
        }
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
                Trace::Detach => return self.left(0),
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
        self.done = 0;
        self.kept = None;
        if let Some(offset) = plan.awaited {
            self.withhold(offset);
        }
        // Only what is in the arena is stepped; until there it runs.
        let mode = match plan.resume {
            Resume::Step | Resume::SysemuStep | Resume::Cont => PTRACE_CONT,
            Resume::Syscall | Resume::Once => PTRACE_SYSCALL,
            Resume::Sysemu => PTRACE_SYSEMU,
        };
        if resume {
            self.request(mode, self.pid, plan.inject);
        }
        let end = self.watch(self.pid, plan, mode);
        if self.withheld {
            self.provide();
        }
        end
    }

    /// Watches a thread until it meets us again. Returns how it ended, if it did.
    fn watch(&mut self, pid: i64, plan: &Plan, mut mode: u64) -> Option<End> {
        let stepping = match plan.resume {
            Resume::SysemuStep => PTRACE_SYSEMU_SINGLESTEP,
            _ => PTRACE_SINGLESTEP,
        };
        let by_upcall = self.program.style == Style::Upcall;
        // Whether a signal handler is about to return.
        let mut returning = false;
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
            let mut moment = None;
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
                    moment = Some(Moment::Other);
                }
                Stop::Syscall => {
                    let info = self.show_stop(pid, format_args!("syscall"));
                    let returns = info.op == 1 && info.tail[0] == SYS_RT_SIGRETURN;
                    let returned = std::mem::replace(&mut returning, returns);
                    // A signal handler is to return.
                    if info.op == 1 && info.tail[0] != SYS_RT_SIGRETURN {
                        let number = info.tail[0];
                        self.at_entry(pid, plan);
                        if plan.resume == Resume::Once && self.waits_in(number) {
                            mode = PTRACE_CONT;
                        }
                    }
                    moment = match info.op {
                        // An upcall has no such return.
                        _ if by_upcall && (returns || returned) => None,
                        1 => Some(Moment::Entry),
                        _ => Some(Moment::Other),
                    };
                }
                // PTRACE_EVENT_STOP
                Stop::Event(128) => {
                    self.show_stop(pid, format_args!("event=128"));
                    self.satisfy(pid);
                    moment = Some(Moment::Interrupt);
                }
                Stop::Event(event) => {
                    created = self.event(pid, event);
                }
                // When a child is dead after the program has executed another is not for us to say.
                Stop::Signal(SIGCHLD) => {}
                // Where an upcall makes no stop, nobody does anything.
                Stop::Signal(SIGSYS) if by_upcall && self.signal_info(pid).can_be_upcall() => {
                    signal = self.at_signal(pid, &Plan::PLAIN, SIGSYS);
                }
                Stop::Signal(number) => {
                    signal = self.at_signal(pid, plan, number);
                    moment = Some(match number {
                        SIGTRAP => Moment::Trap,
                        _ if self.signal_info(pid).is_of_syscall() => Moment::Dispatch,
                        _ => Moment::Other,
                    });
                }
            }
            if let Some(moment) = moment {
                match self.meddle(pid, moment) {
                    Verdict::GoOn => {}
                    Verdict::Pass(number) => signal = number,
                    Verdict::Leave(number) => return self.left(number.unwrap_or(signal)),
                }
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
    fn kill(&mut self, pid: i64) {
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
            Resume::Syscall | Resume::Once => PTRACE_SYSCALL,
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

    /// Whether the present operation waits in a syscall of that number.
    fn waits_in(&self, number: u64) -> bool {
        let index = arena::shared().operation.load(Relaxed) as usize;
        matches!(
            &self.program.operations[index].what,
            What::Enter(Enter { site, syscall: Syscall::Block(block), .. })
                if block.number(site.is_i386()) == number
        )
    }

    fn at_entry(&mut self, pid: i64, plan: &Plan) {
        self.entries += 1;
        let set_number = |number: u64| {
            let mut registers = self.registers(pid);
            registers.orig_rax = number;
            self.set_registers(pid, &registers);
        };
        match plan.at_entry {
            AtEntry::Nothing => {}
            AtEntry::Number(number) if self.entries == 1 => set_number(number),
            // Whatever waits has been woken often enough.
            AtEntry::Signal | AtEntry::Interrupt if self.entries > 3 => set_number(u64::MAX),
            AtEntry::Interrupt if self.seized => {
                self.request(PTRACE_INTERRUPT, pid, 0);
            }
            AtEntry::Signal | AtEntry::Interrupt => {
                self.mask(pid, |mask| mask & !bit(SIGUSR1));
                // To the thread, which is on its way into a syscall that may wait.
                self.raise(pid, SIGUSR1);
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
    }

    /// Returns the signal to go on with.
    fn at_signal(&mut self, pid: i64, plan: &Plan, signal: u64) -> u64 {
        let info = self.signal_info(pid);
        if info.is_of_syscall() {
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
            self.satisfy(pid);
        }
        if signal == SIGTRAP {
            // Behind an injected call, or after exec, for a tracer that did not ask for the event.
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

    /// The requests on a thread that runs.
    fn while_running(&self) {
        self.wait_for_spin();
        let set = self.set(self.pid, &SudConfig::default());
        log!("  get={} set={set}", self.get(self.pid).0);
        arena::shared().spin.store(0, Relaxed);
    }

    /// Waits until the subject spins. Returns how it ended if it does not come so far.
    fn wait_for_spin(&self) -> Option<i32> {
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

    /// Lets the subject go, with a signal, until it waits for its tracer to come back.
    fn left(&mut self, signal: u64) -> Option<End> {
        let shared = arena::shared();
        shared.traced.store(0, Relaxed);
        self.request(PTRACE_DETACH, self.pid, signal);
        if let Some(status) = self.wait_for_spin() {
            return Some(End::Status(status));
        }
        let index = shared.operation.load(Relaxed) as usize;
        let seize = matches!(
            self.program.operations[index].what,
            What::Trace(Trace::Attach { seize: true })
        );
        self.seized = seize;
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
        self.watch(self.pid, &Plan::PLAIN, PTRACE_CONT)
    }
}
