// SPDX-License-Identifier: GPL-2.0

//! Tracers: one that emulates, one that does nothing, and one that counts.

use crate::sys::{self, Entry, Place, ALLOW, ANSWER, GETPPID};
use std::{fs, ops::Range, process};

const TRACEME: usize = 0;
const PEEKUSER: usize = 3;
const POKEUSER: usize = 6;
const SYSCALL: usize = 24;
const SYSEMU: usize = 31;
const SETOPTIONS: usize = 0x4200;
const GET_SYSCALL_INFO: usize = 0x420e;
const TRACESYSGOOD: usize = 1;
const EXITKILL: usize = 1 << 20;

const STOPPED_BY_TRAP: i32 = 0x057f;
const STOPPED_BY_SYSCALL: i32 = STOPPED_BY_TRAP | 0x80 << 8;

/// Lets the parent of this process trace it, from its next exec on.
pub fn ask() {
    // SAFETY: No pointers.
    unsafe { sys::ptrace(TRACEME, 0, 0, 0) };
}

/// A child that stops at each of its syscalls.
pub struct Tracee(i32);

impl Tracee {
    const RAX: usize = 10 * size_of::<usize>();
    const ORIG_RAX: usize = 15 * size_of::<usize>();

    /// A child that calls getppid and wants ANSWER, for ever.
    pub fn new() -> Self {
        const SIGSTOP: usize = 19;

        let tracee = Self(sys::spawn(|| {
            ask();
            sys::kill(process::id(), SIGSTOP);
            sys::call(Place::Outside, Entry::Syscall, u64::MAX, ALLOW, ANSWER);
        }));
        sys::wait(tracee.0);
        tracee.request(SETOPTIONS, 0, EXITKILL);
        tracee
    }

    fn request(&self, request: usize, address: usize, data: usize) {
        // SAFETY: None of the requests made here lets the kernel write to our memory, except for
        // PEEKUSER in `emulate` and GET_SYSCALL_INFO in `entry`, which name variables of their own.
        unsafe { sys::ptrace(request, self.0 as usize, address, data) };
    }

    /// Lets the child run into its next syscall and answers that.
    pub fn emulate(&self) {
        self.request(SYSEMU, 0, 0);
        let mut number = 0usize;
        if sys::wait(self.0) == STOPPED_BY_TRAP {
            self.request(PEEKUSER, Self::ORIG_RAX, &raw mut number as usize);
        }
        if number != GETPPID as usize {
            sys::fail("the traced process did not stop at its syscall");
        }
        self.request(POKEUSER, Self::RAX, ANSWER as usize);
    }

    /// The number of the syscall that the child is about to make, and the address from which. None
    /// if it has just made one.
    fn entry(&self) -> Option<(usize, usize)> {
        const ENTRY: usize = 1;

        // struct ptrace_syscall_info: op in the first byte, ip, sp, and of an entry the number
        let mut info = [0usize; 11];
        let size = size_of_val(&info);
        self.request(GET_SYSCALL_INFO, size, &raw mut info as usize);
        (info[0] & 0xff == ENTRY).then_some((info[3], info[1]))
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        const SIGKILL: usize = 9;
        sys::kill(self.0 as u32, SIGKILL);
        sys::wait(self.0);
    }
}

/// Stops a child, which has asked for it, at each entry and exit of a syscall, and does nothing
/// there. Returns how it ended and the number of stops.
pub fn stop(pid: i32) -> (i32, u64) {
    let mut stops = 0;
    let status = each_stop(pid, |_| stops += 1);
    (status, stops)
}

/// The syscalls of a program by number, for which the last stands for all beyond.
pub type Counts = [u64; 512];

/// What a tracer sees of the syscalls of a program.
pub struct Seen {
    /// Those of the loader, before it starts the first object.
    pub loader: u64,
    /// All that come after these.
    pub counts: Counts,
}

/// The one call that the loader lets the C library make before it starts any object: how large the
/// stacks of threads are to be.
const PRLIMIT64: usize = 302;

/// Counts the syscalls of a child, which has asked for it.
pub fn count(pid: i32) -> (i32, Seen) {
    let loader = mapped(pid, "/ld-linux-x86-64.so.2");
    let mut begun = false;
    let mut seen = Seen {
        loader: 0,
        counts: [0; 512],
    };
    let status = each_stop(pid, |tracee| {
        let Some((number, ip)) = tracee.entry() else {
            return;
        };
        begun |= !loader.contains(&ip) && number != PRLIMIT64;
        match begun {
            true => seen.counts[number.min(511)] += 1,
            false => seen.loader += 1,
        }
    });
    (status, seen)
}

fn each_stop(pid: i32, mut at: impl FnMut(&Tracee)) -> i32 {
    let tracee = Tracee(pid);
    let mut status = sys::wait(pid);
    if status != STOPPED_BY_TRAP {
        sys::fail("the program to be traced did not begin");
    }
    tracee.request(SETOPTIONS, 0, TRACESYSGOOD | EXITKILL);
    loop {
        tracee.request(SYSCALL, 0, 0);
        status = sys::wait(pid);
        match status {
            STOPPED_BY_SYSCALL => at(&tracee),
            _ if status & 0xff == 0x7f => sys::fail("the traced program received a signal"),
            _ => break,
        }
    }
    // It is gone, and is not to be killed.
    std::mem::forget(tracee);
    status
}

/// Where a file lies in the memory of a process.
fn mapped(pid: i32, name: &str) -> Range<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut range = 0..0;
    for line in maps.lines().filter(|line| line.ends_with(name)) {
        let addresses = line.split(' ').next().and_then(|text| text.split_once('-'));
        let Some((start, end)) = addresses else {
            continue;
        };
        if range.is_empty() {
            range.start = usize::from_str_radix(start, 16).unwrap_or(0);
        }
        range.end = usize::from_str_radix(end, 16).unwrap_or(0);
    }
    range
}
