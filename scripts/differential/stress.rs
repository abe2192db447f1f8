// SPDX-License-Identifier: GPL-2.0

//! `stress`: everything at once, on all processors, for a bounded time.
//!
//! Armed threads dispatch, toggle, fork and exec, send each other SIGSYS and SIGUSR1, and are
//! traced by another process meanwhile. None of them may see anything but what it would see alone:
//! each keeps the books of its own dispatches, and short-lived threads and children find the
//! dispatch off.
//!
//! An armed thread makes no syscall but by its own code: it does not allocate, print or lock.

use crate::{
    arena::{self, *},
    draw::Random,
    sys::{self, *},
};
use std::{
    cell::Cell,
    process, ptr,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicU8, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

const THREADS: usize = 4;
/// Numbers that no kernel serves, and what our handler makes of them.
const NUMBERS: u64 = 0x0bad_5000;
const ANSWERS: u64 = 0x0600_d000;

/// What a thread writes down.
#[repr(C)]
struct Books {
    tid: AtomicI64,
    selector: AtomicU8,
    /// The number of the present dispatch.
    expected: AtomicU64,
    handled: AtomicU64,
    dispatched: AtomicU64,
    lost: AtomicU64,
    wrong: AtomicU64,
    native: AtomicU64,
    bad_native: AtomicU64,
    signals: AtomicU64,
    foreign: AtomicU64,
    toggles: AtomicU64,
    children: AtomicU64,
    bad_children: AtomicU64,
    bad_starts: AtomicU64,
}

/// What all processes of the test share. It begins as zeroes.
#[repr(C)]
struct World {
    stop: AtomicBool,
    pid: AtomicU64,
    /// Those of the threads, and of the visitors, which come one at a time.
    books: [Books; THREADS + 1],
    attached: AtomicU64,
    stops: AtomicU64,
    bad_configurations: AtomicU64,
}

thread_local! {
    /// Plain memory, which a signal handler may read.
    static OWN: Cell<Option<&'static Books>> = const { Cell::new(None) };
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// The handler of SIGSYS and SIGUSR1.
extern "C" fn handler(signal: i32, info: *const SigInfo, context: *mut UContext) {
    let Some(books) = OWN.get() else { return };
    // SAFETY: The kernel passes both, and nobody else uses them while the handler runs.
    let (info, context) = unsafe { (&*info, &mut *context) };
    if signal as u64 != SIGSYS {
        return count(&books.signals);
    }
    if info.code != 2 {
        return count(&books.foreign);
    }
    let expected = books.expected.load(Relaxed);
    let seen = u64::from(info.syscall as u32);
    count(&books.handled);
    if seen != expected || info.addr != context.rip || context.rax != expected {
        count(&books.wrong);
    }
    context.rax = ANSWERS | (seen & 0xfff);
}

/// A syscall at a place of the arena.
fn enter(site: Site, number: u64, arguments: &[u64]) -> i64 {
    let argument = |i: usize| arguments.get(i).copied().unwrap_or(0);
    let mut call = Call {
        registers: Registers {
            rax: number,
            rdi: argument(0),
            rsi: argument(1),
            rdx: argument(2),
            r10: argument(3),
            r8: argument(4),
            flags: 0x202,
            ..Registers::default()
        },
        target: site.entry(),
        ..Call::default()
    };
    // SAFETY: The callers below pass pointers to their own memory only.
    unsafe { call.enter() };
    call.out.rax as i64
}

fn gate(number: u64, arguments: &[u64]) -> i64 {
    enter(Site::Gate, number, arguments)
}

/// A syscall that does nothing, and says that it did.
fn is_native(site: Site) -> bool {
    const EBADF: i64 = 9;
    enter(site, SYS_CLOSE, &[9999]) == -EBADF
}

/// The two ways in which threads arm themselves.
fn configuration(books: &Books, inclusive: bool) -> SudConfig {
    let (mode, (offset, end)) = if inclusive {
        (2, arena::foreign())
    } else {
        (1, arena::gate())
    };
    SudConfig {
        mode,
        selector: books.selector.as_ptr() as u64,
        offset,
        len: end - offset,
    }
}

fn arm(config: &SudConfig) -> bool {
    let SudConfig {
        mode,
        selector,
        offset,
        len,
    } = *config;
    gate(
        SYS_PRCTL,
        &[PR_SET_SYSCALL_USER_DISPATCH, mode, offset, len, selector],
    ) == 0
}

/// One dispatch: it has to be handled once, as what it was.
fn dispatch(books: &Books, random: &mut Random) {
    let number = NUMBERS | random.below(0x1000);
    let site = random.of(&[Site::F0, Site::F1, Site::Int]);
    let before = books.handled.load(Relaxed);
    books.expected.store(number, Relaxed);
    books.selector.store(1, Relaxed);
    let result = enter(site, number, &[]) as u64;
    books.selector.store(0, Relaxed);
    count(&books.dispatched);
    match books.handled.load(Relaxed) - before {
        1 if result == ANSWERS | (number & 0xfff) => {}
        0 => count(&books.lost),
        _ => count(&books.wrong),
    }
}

/// What runs natively, by the selector or by the region.
fn native(books: &Books, random: &mut Random) {
    let (selector, site) = random.of(&[
        (0, Site::F0),
        (0, Site::F1),
        (0, Site::Gate),
        (1, Site::Gate),
    ]);
    books.selector.store(selector, Relaxed);
    if !is_native(site) {
        count(&books.bad_native);
    }
    books.selector.store(0, Relaxed);
    count(&books.native);
}

/// A child finds the dispatch off, and arms it for itself; or executes a program, which finds it
/// off as well.
fn child(books: &Books, executes: bool) {
    books.selector.store(1, Relaxed);
    let pid = gate(SYS_FORK, &[]);
    if pid == 0 {
        OWN.set(None);
        let is_off = is_native(Site::F0);
        let is_armed = arm(&configuration(books, false));
        if executes {
            gate(SYS_EXECVE, &[c"/proc/self/fd/43".as_ptr() as u64]);
        }
        let code = if is_off && is_armed && !executes {
            42
        } else {
            1
        };
        gate(SYS_EXIT_GROUP, &[code]);
    }
    let mut status = 0i32;
    let wait = [pid as u64, &raw mut status as u64, 0x4000_0000];
    while gate(SYS_WAIT4, &wait) == -EINTR {}
    books.selector.store(0, Relaxed);
    count(&books.children);
    if status != 42 << 8 {
        count(&books.bad_children);
    }
}

/// A signal to some thread. A SIGSYS is then one that was sent, not a dispatch.
fn signal(world: &World, random: &mut Random) {
    let target = &world.books[random.below(THREADS as u64) as usize];
    let tid = target.tid.load(Relaxed);
    if tid != 0 {
        let signal = random.of(&[SIGSYS, SIGSYS, SIGUSR1]);
        gate(SYS_TGKILL, &[world.pid.load(Relaxed), tid as u64, signal]);
    }
}

/// The life of a thread.
fn live(world: &'static World, books: &'static Books, mut random: Random, rounds: u64) {
    OWN.set(Some(books));
    books.selector.store(1, Relaxed);
    if !is_native(Site::F0) {
        count(&books.bad_starts);
    }
    books.selector.store(0, Relaxed);
    books.tid.store(gate(SYS_GETTID, &[]), Relaxed);
    let mut armed = arm(&configuration(books, false));
    for _ in 0..rounds {
        if world.stop.load(Relaxed) {
            break;
        }
        match random.below(1000) {
            0..=549 if armed => dispatch(books, &mut random),
            550..=799 => native(books, &mut random),
            800..=849 => {
                armed = match random.below(3) {
                    0 => !arm(&SudConfig::default()),
                    mode => arm(&configuration(books, mode == 1)),
                };
                count(&books.toggles);
            }
            850..=852 => child(books, false),
            853 => child(books, true),
            _ => signal(world, &mut random),
        }
    }
    arm(&SudConfig::default());
    books.tid.store(0, Relaxed);
    OWN.set(None);
}

/// The tracer: attaches to one thread after the other, follows it for a few stops, and checks what
/// it is armed with. Where `exact`, what GET reports is what SET took.
fn trace(world: &World, mut random: Random, exact: bool) {
    while !world.stop.load(Relaxed) {
        let books = &world.books[random.below(THREADS as u64) as usize];
        let tid = books.tid.load(Relaxed);
        // SAFETY: Used for requests whose data is no pointer.
        let request = |request, data| unsafe { sys::ptrace(request, tid, 0, data) };
        if tid == 0 || request(PTRACE_SEIZE, PTRACE_O_TRACESYSGOOD) != 0 {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        count(&world.attached);
        request(PTRACE_INTERRUPT, 0);
        let mut left = random.below(20);
        loop {
            let (_, status) = sys::wait(tid, 0);
            if status & 0xff != 0x7f {
                break;
            }
            count(&world.stops);
            check(world, books, tid, exact);
            if left == 0 {
                request(PTRACE_DETACH, delivered(status));
                break;
            }
            left -= 1;
            if left == 0 {
                // What is running must stop before it can be let go.
                request(PTRACE_INTERRUPT, 0);
            }
            let how = random.of(&[PTRACE_SYSCALL, PTRACE_SYSCALL, PTRACE_CONT]);
            if how == PTRACE_CONT {
                request(PTRACE_INTERRUPT, 0);
            }
            request(how, delivered(status));
        }
    }
}

/// The signal that a stopped thread is to go on with.
fn delivered(status: i32) -> u64 {
    let signal = (status >> 8) as u64 & 0xff;
    if status >> 16 != 0 || signal == SIGTRAP | 0x80 {
        return 0;
    }
    signal
}

/// GET reports what threads arm themselves with, and SET takes it back. Upstream reports an
/// inclusive region in another form, which it does not take back.
fn check(world: &World, books: &Books, tid: i64, exact: bool) {
    let mut config = SudConfig::default();
    let pointer = &raw mut config as u64;
    // SAFETY: The structure is what the requests read and write.
    let request = |request| unsafe { sys::ptrace(request, tid, 32, pointer) };
    if request(PTRACE_GET_SUD) != 0 {
        return count(&world.bad_configurations);
    }
    let inclusive = configuration(books, true);
    let inverted = SudConfig {
        mode: 1,
        offset: inclusive.offset + inclusive.len,
        len: inclusive.len.wrapping_neg(),
        ..inclusive
    };
    if !exact && config == inverted {
        return;
    }
    let known = [SudConfig::default(), configuration(books, false), inclusive];
    if !known.contains(&config) || request(PTRACE_SET_SUD) != 0 {
        count(&world.bad_configurations);
    }
}

fn install_handlers() {
    for signal in [SIGSYS, SIGUSR1] {
        let flags = SA_SIGINFO | SA_RESTORER | SA_RESTART;
        let action = [handler as *const () as u64, flags, restorer(true), 0];
        // SAFETY: The structure is valid, and the handler changes the return value at most.
        unsafe { sys::call(SYS_RT_SIGACTION, &[signal, action.as_ptr() as u64, 0, 8]) };
    }
}

/// All that is armed. Returns when it is over.
fn play(world: &'static World, seed: u64, duration: Duration) {
    install_handlers();
    world.pid.store(process::id().into(), Relaxed);
    let end = Instant::now() + duration;
    let residents: Vec<_> = (0..THREADS)
        .map(|index| {
            let random = Random::new(seed, index as u64);
            thread::spawn(move || live(world, &world.books[index], random, u64::MAX))
        })
        .collect();
    let mut visitor = THREADS as u64;
    while Instant::now() < end {
        visitor += 1;
        let random = Random::new(seed, visitor);
        let visit = thread::spawn(move || live(world, &world.books[THREADS], random, 100));
        // A thread that panics has said so.
        let _ = visit.join();
    }
    world.stop.store(true, Relaxed);
    for resident in residents {
        let _ = resident.join();
    }
}

/// A process of its own for `function`.
fn spawn(function: impl FnOnce()) -> i64 {
    // SAFETY: This process has one thread.
    let pid = unsafe { sys::call(SYS_FORK, &[]) };
    assert!(pid >= 0, "fork: {pid}");
    if pid == 0 {
        // SAFETY: No memory is involved.
        unsafe { sys::call(SYS_PRCTL, &[PR_SET_PDEATHSIG, SIGKILL]) };
        function();
        process::exit(0);
    }
    pid
}

/// Runs for some seconds and prints what came out, as KTAP. `ours` asserts what upstream does not
/// keep: D1 and D3. Returns whether all is well.
pub fn stress(seed: u64, seconds: u64, ours: bool) -> bool {
    if !sys::is_supported() {
        println!("KTAP version 1\n1..0 # SKIP this kernel has no Syscall User Dispatch");
        return true;
    }
    arena::set_up();
    let size = (size_of::<World>() as u64).next_multiple_of(PAGE);
    let flags = MAP_SHARED | MAP_ANONYMOUS;
    map_at(WORLD, size, PROT_READ | PROT_WRITE, flags, -1);
    // SAFETY: The mapping stays, is large enough, and zeroes are a value of a world.
    let world: &'static World = unsafe { &*ptr::with_exposed_provenance(WORLD as usize) };

    let duration = Duration::from_secs(seconds);
    let player = spawn(|| play(world, seed, duration));
    let tracer = spawn(|| trace(world, Random::new(seed, u64::MAX), ours));

    // Who does not come to an end is stopped, and found dead below.
    let watchdog = spawn(|| {
        thread::sleep(2 * duration + Duration::from_secs(30));
        for pid in [player, tracer] {
            // SAFETY: No memory is involved.
            unsafe { sys::call(SYS_KILL, &[pid as u64, SIGKILL]) };
        }
    });
    let (_, player) = sys::wait(player, 0);
    world.stop.store(true, Relaxed);
    let (_, tracer) = sys::wait(tracer, 0);
    // SAFETY: No memory is involved.
    unsafe { sys::call(SYS_KILL, &[watchdog as u64, SIGKILL]) };
    sys::wait(watchdog, 0);
    report(world, ours, player == 0 && tracer == 0)
}

fn report(world: &World, ours: bool, survived: bool) -> bool {
    let sum = |counter: fn(&Books) -> &AtomicU64| -> u64 {
        world
            .books
            .iter()
            .map(|books| counter(books).load(Relaxed))
            .sum()
    };
    let dispatched = sum(|books| &books.dispatched);
    let lost = sum(|books| &books.lost);
    let done = [
        ("dispatches", dispatched),
        ("native syscalls", sum(|books| &books.native)),
        ("toggles", sum(|books| &books.toggles)),
        ("children", sum(|books| &books.children)),
        ("signals", sum(|books| &books.signals)),
        ("SIGSYS from others", sum(|books| &books.foreign)),
        ("times attached", world.attached.load(Relaxed)),
        ("stops", world.stops.load(Relaxed)),
    ];
    let results = [
        ("all processes live to the end", survived),
        (
            "everything happened",
            done.iter().all(|(_, count)| *count > 0),
        ),
        (
            "a dispatch is handled once, as what it was",
            sum(|books| &books.wrong) == 0,
        ),
        ("what is allowed runs", sum(|books| &books.bad_native) == 0),
        (
            "threads begin with the dispatch off",
            sum(|books| &books.bad_starts) == 0,
        ),
        (
            "so do children and programs",
            sum(|books| &books.bad_children) == 0,
        ),
        (
            "a tracer finds what was armed",
            world.bad_configurations.load(Relaxed) == 0,
        ),
        (
            "D1: no dispatch is lost to another SIGSYS",
            lost == 0 || !ours,
        ),
    ];

    println!("KTAP version 1\n1..{}", results.len());
    for (what, count) in done {
        println!("# {count} {what}");
    }
    println!("# {lost} of {dispatched} dispatches lost");
    for (index, (name, ok)) in results.iter().enumerate() {
        println!("{} {} {name}", if *ok { "ok" } else { "not ok" }, index + 1);
    }
    results.iter().all(|(_, ok)| *ok)
}
