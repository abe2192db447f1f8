// SPDX-License-Identifier: GPL-2.0

//! What the tracer asks the kernel of a thread, and how it shows what it gets.

use crate::{
    arena::*,
    log,
    program::*,
    sys::{self, *},
    tracer::{Tracer, SYSCTL},
};
use std::{fmt, fs};

/// What a request that fails leaves as it is.
const UNTOUCHED: WideConfig = WideConfig {
    config: SudConfig {
        mode: 77,
        selector: 77,
        offset: 77,
        len: 77,
    },
    upcall: 77,
};

fn show_wide(result: i64, WideConfig { config, upcall }: &WideConfig) {
    log!(
        "  get={result} {} upcall={}",
        Shown(config),
        Handler::At(*upcall)
    );
}

impl Tracer<'_> {
    pub fn request(&self, request: u64, pid: i64, data: u64) -> i64 {
        // SAFETY: Used for requests whose data is no pointer.
        unsafe { sys::ptrace(request, pid, 0, data) }
    }

    pub fn registers(&self, pid: i64) -> UserRegs {
        let mut registers = UserRegs::default();
        // SAFETY: The structure is what the request fills.
        unsafe { sys::ptrace(PTRACE_GETREGS, pid, 0, &raw mut registers as u64) };
        registers
    }

    pub fn set_registers(&self, pid: i64, registers: &UserRegs) {
        // SAFETY: The structure is what the request reads.
        unsafe { sys::ptrace(PTRACE_SETREGS, pid, 0, &raw const *registers as u64) };
    }

    /// `PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG`
    pub fn set(&self, pid: i64, config: &SudConfig) -> i64 {
        // SAFETY: The structure is what the request reads.
        unsafe { sys::ptrace(PTRACE_SET_SUD, pid, 32, &raw const *config as u64) }
    }

    /// The same with the handler of upcalls.
    pub fn set_wide(&self, pid: i64, wide: &WideConfig) -> i64 {
        let size = size_of::<WideConfig>() as u64;
        // SAFETY: The structure is what the request reads.
        unsafe { sys::ptrace(PTRACE_SET_SUD, pid, size, &raw const *wide as u64) }
    }

    /// Suspends the mechanism, or ends that.
    pub fn suspend(&self, pid: i64, on: bool) -> i64 {
        let options = match on {
            true => self.program.options | PTRACE_O_SUSPEND_SUD,
            false => self.program.options,
        };
        self.request(PTRACE_SETOPTIONS, pid, options)
    }

    pub fn get(&self, pid: i64) -> (i64, SudConfig) {
        let mut config = UNTOUCHED.config;
        // SAFETY: The structure is what the request fills.
        let result = unsafe { sys::ptrace(PTRACE_GET_SUD, pid, 32, &raw mut config as u64) };
        (result, config)
    }

    pub fn show_get(&self, pid: i64, why: &str) {
        let (result, config) = self.get(pid);
        log!("  {why}get={result} {}", Shown(&config));
    }

    pub fn signal_info(&self, pid: i64) -> SigInfo {
        let mut info = SigInfo::new();
        // SAFETY: The structure is as large as what the request fills.
        unsafe { sys::ptrace(PTRACE_GETSIGINFO, pid, 0, &raw mut info as u64) };
        info
    }

    /// Registers at a stop, and what PTRACE_GET_SYSCALL_INFO says of it.
    pub fn show_stop(&self, pid: i64, what: fmt::Arguments<'_>) -> SyscallInfo {
        let registers = self.registers(pid);
        let mut info = SyscallInfo::default();
        // SAFETY: At most as much is written as the structure holds.
        unsafe {
            let size = size_of::<SyscallInfo>() as u64;
            sys::ptrace(PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info as u64)
        };
        // Elsewhere they are those of compiled code, and of its stack.
        let arithmetic = match is_own_code(registers.rip) {
            true => ARITHMETIC,
            false => 0,
        };
        use fmt::Write;
        let _ = write!(
            Log,
            "  stop {what} rip={} rax={} orig={} cs={:#x} flags={:#x} info={}",
            Name(registers.rip),
            Value(registers.rax),
            Name(registers.orig_rax),
            registers.cs,
            registers.eflags & (!ARITHMETIC | arithmetic),
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

    /// Changes the signal mask of a thread that is stopped.
    pub fn mask(&self, pid: i64, change: impl Fn(u64) -> u64) {
        let mut mask = 0u64;
        // SAFETY: The requests read and write a mask of eight bytes.
        unsafe {
            sys::ptrace(PTRACE_GETSIGMASK, pid, 8, &raw mut mask as u64);
            mask = change(mask);
            sys::ptrace(PTRACE_SETSIGMASK, pid, 8, &raw const mask as u64);
        }
    }

    /// Sends a thread a signal.
    pub fn raise(&self, pid: i64, signal: u64) -> i64 {
        let process = self.process_of(pid);
        // SAFETY: No memory is involved.
        unsafe { sys::call(SYS_TGKILL, &[process as u64, pid as u64, signal]) }
    }

    /// Lets happen what a thread may wait for.
    pub fn satisfy(&self, pid: i64) {
        // SAFETY: One byte is read, and the futex is a word of the subject that is there to change.
        unsafe {
            sys::call(SYS_WRITE, &[FD_PIPE_WRITE, b"!".as_ptr() as u64, 1]);
            sys::ptrace(PTRACE_POKEDATA, pid, FUTEX, 1);
        }
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

    /// What the tracer alone does at a meeting.
    pub fn trace(&self, trace: &Trace) {
        match trace {
            Trace::Get { size, pointer } => {
                let mut config = UNTOUCHED.config;
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
            Trace::GetWide { size, pointer } => {
                let mut wide = UNTOUCHED;
                let target = self.pointer(*pointer, &raw mut wide as u64);
                // SAFETY: As above, but for 40 bytes.
                let result = unsafe { sys::ptrace(PTRACE_GET_SUD, self.pid, *size, target) };
                show_wide(result, &wide);
            }
            Trace::SetWide {
                config,
                upcall,
                size,
                pointer,
            } => {
                let (config, upcall) = (*config, upcall.address());
                let wide = WideConfig { config, upcall };
                let source = self.pointer(*pointer, &raw const wide as u64);
                // SAFETY: The kernel only reads.
                let result = unsafe { sys::ptrace(PTRACE_SET_SUD, self.pid, *size, source) };
                log!("  set={result}");
            }
            Trace::SetGetWide => {
                let mut wide = UNTOUCHED;
                let size = size_of::<WideConfig>() as u64;
                // SAFETY: The structure is what the request fills.
                let result =
                    unsafe { sys::ptrace(PTRACE_GET_SUD, self.pid, size, &raw mut wide as u64) };
                show_wide(result, &wide);
                log!("  setget={}", self.set_wide(self.pid, &wide));
                self.show_get(self.pid, "");
            }
            Trace::Suspend(on) => log!("  suspend={}", self.suspend(self.pid, *on)),
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
}

/// A wait status, in words.
pub struct Status(pub i32);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            -1 => write!(f, "gone"),
            status if status & 0x7f == 0 => write!(f, "exit {}", (status >> 8) & 0xff),
            status => write!(f, "signal {}", status & 0x7f),
        }
    }
}
