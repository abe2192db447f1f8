// SPDX-License-Identifier: GPL-2.0

//! The sibling: a second thread of the subject, which makes syscalls for whoever watches the first.
//!
//! It changes what all threads of a process share while the first one is held, and provides the
//! page that the first one waits for. It is neither armed nor traced, and blocks all signals.

use crate::{
    arena::*,
    sys::{self, *},
};
use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
};

const FUTEX_WAIT: u64 = 0;
const FUTEX_WAKE: u64 = 1;
/// How long to wait before it is looked whether the sibling is still there, in nanoseconds.
const GLANCE: u64 = 10_000_000;

/// What it shares with the worker.
#[repr(C)]
pub struct Sibling {
    /// Its thread, if there is one.
    tid: AtomicI32,
    /// Set while it has something to do.
    busy: AtomicU32,
    number: AtomicU64,
    arguments: [AtomicU64; 4],
    result: AtomicI64,
    /// For what the syscall reads or writes.
    room: UnsafeCell<[u64; 8]>,
}

fn futex(word: &AtomicU32, how: u64, value: u32, time: u64) {
    // SAFETY: The word lives in shared memory for good, and the time, if any, with the caller.
    unsafe { sys::call(SYS_FUTEX, &[word.as_ptr() as u64, how, value.into(), time]) };
}

impl Sibling {
    /// Has the sibling make a syscall, of which an argument may be `room()`. Returns nothing if
    /// there is no sibling.
    pub fn order(&self, number: u64, arguments: &[u64]) -> Option<i64> {
        self.number.store(number, Relaxed);
        for (place, argument) in self.arguments.iter().zip(arguments) {
            place.store(*argument, Relaxed);
        }
        self.busy.store(1, Relaxed);
        futex(&self.busy, FUTEX_WAKE, 1, 0);
        while self.busy.load(Relaxed) != 0 {
            if !self.exists() {
                return None;
            }
            let time = [0, GLANCE];
            futex(&self.busy, FUTEX_WAIT, 1, time.as_ptr() as u64);
        }
        Some(self.result.load(Relaxed))
    }

    /// Whether it was made, and did not end with its process or its program.
    fn exists(&self) -> bool {
        let tid = self.tid.load(Relaxed);
        // SAFETY: No memory is involved.
        tid != 0 && unsafe { sys::call(SYS_TKILL, &[tid as u64, 0]) } == 0
    }

    /// Room for a structure, with its address, which is the same for the sibling.
    pub fn room<T>(&self, value: T) -> u64 {
        const { assert!(size_of::<T>() <= size_of::<[u64; 8]>()) };
        let room = self.room.get();
        // SAFETY: There is room for it, and the sibling does not use it now.
        unsafe { room.cast::<T>().write_volatile(value) };
        room as u64
    }

    /// Takes the awaited page away, so that whoever touches it waits.
    pub fn withhold(&self) -> Option<i64> {
        const MADV_DONTNEED: u64 = 4;
        self.order(SYS_MADVISE, &[SELECTOR_AWAITED, PAGE, MADV_DONTNEED])
    }

    /// Whether a thread waits for that page. Asks once.
    pub fn is_awaited(&self) -> Option<bool> {
        // `struct uffd_msg` has 32 bytes.
        let message = self.room([0u64; 4]);
        let read = self.order(SYS_READ, &[FD_FAULTS, message, 32])?;
        Some(read == 32)
    }

    /// Provides the page: a copy of the one that holds its offsets.
    pub fn provide(&self) {
        const UFFDIO_COPY: u64 = 0xc028_aa03;
        let copy = self.room([SELECTOR_AWAITED, SELECTOR_RO, PAGE, 0, 0]);
        self.order(SYS_IOCTL, &[FD_FAULTS, UFFDIO_COPY, copy]);
    }

    /// For the next subject, which may have none.
    pub fn clear(&self) {
        self.tid.store(0, Relaxed);
        self.busy.store(0, Relaxed);
    }
}

/// Registers the awaited page with a `userfaultfd()` of the subject.
fn watch_page() {
    const UFFDIO_API: u64 = 0xc018_aa3f;
    const UFFDIO_REGISTER: u64 = 0xc020_aa00;
    const O_NONBLOCK: u64 = 0o4000;
    const O_CLOEXEC: u64 = 0o2000000;
    let api = [0xaau64, 0, 0];
    let register = [SELECTOR_AWAITED, PAGE, 1, 0];
    // SAFETY: The structures are valid. The page is there until it is taken away.
    unsafe {
        (SELECTOR_AWAITED as *mut u8).write_volatile(0);
        let fd = sys::call(SYS_USERFAULTFD, &[O_CLOEXEC | O_NONBLOCK]) as u64;
        sys::call(SYS_IOCTL, &[fd, UFFDIO_API, api.as_ptr() as u64]);
        sys::call(SYS_IOCTL, &[fd, UFFDIO_REGISTER, register.as_ptr() as u64]);
        sys::call(SYS_DUP3, &[fd, FD_FAULTS, O_CLOEXEC]);
        sys::call(SYS_CLOSE, &[fd]);
    }
}

/// Gives the subject a sibling. It must not have been armed yet.
pub fn begin() {
    const SIG_SETMASK: u64 = 2;
    watch_page();
    let top = SIBLING_STACK + STACK_SIZE - 16;
    let tid = shared().sibling.tid.as_ptr() as u64;
    let memory = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    let mut clone = Call {
        registers: Registers {
            rax: SYS_CLONE,
            rdi: memory | CLONE_PARENT_SETTID,
            rsi: top,
            rdx: tid,
            flags: 0x202,
            ..Registers::default()
        },
        target: Site::Gate.entry(),
        ..Call::default()
    };
    let mut mask = u64::MAX;
    let set = &raw mut mask as u64;
    // SAFETY: The new thread finds the address of its code on a stack of its own; the mask is there
    // to be exchanged.
    unsafe {
        (top as *mut u64).write_volatile(sibling_start());
        sys::call(SYS_RT_SIGPROCMASK, &[SIG_SETMASK, set, set, 8]);
        clone.enter();
        sys::call(SYS_RT_SIGPROCMASK, &[SIG_SETMASK, set, 0, 8]);
    }
}

/// The sibling begins here.
pub extern "C" fn sibling_main() -> ! {
    let sibling = &shared().sibling;
    loop {
        while sibling.busy.load(Relaxed) == 0 {
            futex(&sibling.busy, FUTEX_WAIT, 0, 0);
        }
        let arguments = sibling
            .arguments
            .each_ref()
            .map(|place| place.load(Relaxed));
        // SAFETY: Whoever gives an order answers for its arguments.
        let result = unsafe { sys::call(sibling.number.load(Relaxed), &arguments) };
        sibling.result.store(result, Relaxed);
        sibling.busy.store(0, Relaxed);
        futex(&sibling.busy, FUTEX_WAKE, 1, 0);
    }
}
