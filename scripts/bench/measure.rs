// SPDX-License-Identifier: GPL-2.0

//! The measured paths. Each runs in a process of its own: what a kernel does to a thread that was
//! armed, filtered or traced before must not show in another path.

use crate::sys::{self, Entry, Filter, Mode, Place, Upcall, ALLOW, ANSWER, BLOCK};
use crate::trace::Tracee;
use std::{fs, os::unix::process::parent_id, sync::mpsc, thread};

/// Each path is measured this often, with all the others in between.
const REPETITIONS: usize = 2;

/// The median of so many rounds counts. A round is a fraction of the time between two timer
/// interrupts, so that most are free of them.
const ROUNDS: usize = 15;

/// Syscalls in a round.
const DIRECT: u64 = 1000;
const SIGNALLED: u64 = 100;
const SWITCHED: u64 = 25;

struct Path {
    name: &'static str,
    /// None never arms.
    mode: Option<Mode>,
    place: Place,
    /// None passes no selector.
    selector: Option<u8>,
    kind: Kind,
}

enum Kind {
    Native,
    /// The handler leaves the selector at BLOCK, so its restorer has to be exempt.
    Emulated,
    /// The handler allows, and returns as a C library does it; the program blocks again.
    Dispatched,
}

use Kind::*;
use Mode::*;
use Place::*;

const PATHS: [Path; 8] = [
    path("never", None, Outside, Some(ALLOW), Native),
    path("off", Some(Off), Outside, Some(ALLOW), Native),
    path("region", Some(Exclusive), Inside, Some(BLOCK), Native),
    path("null-region", Some(Exclusive), Inside, None, Native),
    path("inclusive", Some(Inclusive), Outside, Some(BLOCK), Native),
    path("allow", Some(Exclusive), Outside, Some(ALLOW), Native),
    path("emulated", Some(Exclusive), Outside, Some(BLOCK), Emulated),
    path(
        "dispatch",
        Some(Exclusive),
        Outside,
        Some(BLOCK),
        Dispatched,
    ),
];

const fn path(
    name: &'static str,
    mode: Option<Mode>,
    place: Place,
    selector: Option<u8>,
    kind: Kind,
) -> Path {
    Path {
        name,
        mode,
        place,
        selector,
        kind,
    }
}

pub fn run() {
    print_kernel();
    sys::stay_on_this_cpu();

    for _ in 0..REPETITIONS {
        for path in &PATHS {
            print(path.name, || through(path, Entry::Syscall));
            print(&format!("{}-int80", path.name), || {
                through(path, Entry::Int80)
            });
        }
        if sys::has_upcall() {
            print("upcall", || upcall(Upcall::Least));
            print("upcall-c", || upcall(Upcall::Function));
        }
        print("seccomp-trap", seccomp_trap);
        print("seccomp-notify", seccomp_notify);
        print("ptrace-sysemu", ptrace_sysemu);
    }
}

/// What the report begins with.
pub fn print_kernel() {
    match fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(release) => println!("# kernel {}", release.trim()),
        Err(error) => sys::fail(&format!("the kernel does not tell its release: {error}")),
    }
}

fn print(name: &str, measure: impl FnOnce() -> f64) {
    let child = sys::spawn(|| println!("{name} {:.3}", measure()));
    match sys::wait(child) {
        0 => (),
        status if status & 0x7f != 0 => sys::fail(&format!("{name}: signal {}", status & 0x7f)),
        _ => sys::fail(&format!("{name} cannot be measured here")),
    }
}

/// The cost of one of `turns`. That of taking the time is in a round of none as well.
fn cost(turns: u64, mut round: impl FnMut(u64)) -> f64 {
    let mut median = |turns| {
        let mut times = [0; ROUNDS];
        for time in &mut times {
            let start = sys::now();
            round(turns);
            *time = sys::now() - start;
        }
        times.sort_unstable();
        times[ROUNDS / 2]
    };
    let none = median(0);
    median(turns).saturating_sub(none) as f64 / turns as f64
}

fn through(path: &Path, entry: Entry) -> f64 {
    let (turns, answer) = match path.kind {
        Native => (DIRECT, u64::from(parent_id())),
        Emulated => (SIGNALLED, ANSWER),
        Dispatched => (SIGNALLED, ANSWER),
    };
    match path.kind {
        Native => (),
        Emulated => sys::handle_sigsys(sys::emulate, Inside),
        Dispatched => sys::handle_sigsys(sys::emulate_and_allow, Outside),
    }
    match path.mode {
        None => (),
        Some(Off) => {
            // Disarmed, which is not the same as never armed.
            sys::set_dispatch(Exclusive, true);
            sys::set_dispatch(Off, false);
        }
        Some(mode) => sys::set_dispatch(mode, path.selector.is_some()),
    }

    let selector = path.selector.unwrap_or(BLOCK);
    let cost = cost(turns, |turns| {
        sys::call(path.place, entry, turns, selector, answer)
    });

    if path.mode.is_some() {
        sys::set_dispatch(Off, false);
    }
    cost
}

/// A dispatch without a signal, with SIGSYS left at its default, which would kill.
fn upcall(handler: Upcall) -> f64 {
    sys::set_dispatch(Exclusive, true);
    sys::set_upcall(handler);
    let cost = cost(DIRECT, |turns| {
        sys::call(Outside, Entry::Syscall, turns, BLOCK, ANSWER)
    });
    sys::set_dispatch(Off, false);
    cost
}

fn seccomp_trap() -> f64 {
    sys::handle_sigsys(sys::emulate, Outside);
    sys::filter(Filter::Trap);
    cost(SIGNALLED, |turns| {
        sys::call(Outside, Entry::Syscall, turns, ALLOW, ANSWER)
    })
}

/// The filter is this thread's alone; another one answers, and ends with the process.
fn seccomp_notify() -> f64 {
    let (listener, other) = mpsc::channel();
    sys::schedule_simply();
    thread::spawn(move || other.recv().map(|listener| sys::supervise(listener)));
    // The other side is there to receive for as long as it has received nothing.
    let _ = listener.send(sys::filter(Filter::Notify));
    cost(SWITCHED, |turns| {
        sys::call(Outside, Entry::Syscall, turns, ALLOW, ANSWER)
    })
}

fn ptrace_sysemu() -> f64 {
    sys::schedule_simply();
    let tracee = Tracee::new();
    cost(SWITCHED, |turns| (0..turns).for_each(|_| tracee.emulate()))
}
