// SPDX-License-Identifier: GPL-2.0

//! A user of Syscall User Dispatch in Rust, through the interface that `rustix` has for it.
//!
//! Foreign code here is one instruction, executed with numbers that mean nothing to Linux. Three
//! things are shown: that it is handed back and emulated, that native calls from the exempt region
//! run meanwhile, and that the byte decides without a syscall.

use libc::{c_int, c_void, siginfo_t, ucontext_t, ENOSYS, REG_RAX, REG_RDI, REG_RSI};
use rustix::thread::{
    disable_syscall_user_dispatch, enable_syscall_user_dispatch, SysCallUserDispatchFastSwitch,
};
use std::arch::{asm, global_asm};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

const ALLOW: u8 = SysCallUserDispatchFastSwitch::Allow as u8;
const BLOCK: u8 = SysCallUserDispatchFastSwitch::Block as u8;
/// The `si_code` of a dispatch; not in `libc` yet.
const SYS_USER_DISPATCH: c_int = 2;

/// The byte that the kernel reads. Each armed thread needs one of its own; here there is one.
static SELECTOR: AtomicU8 = AtomicU8::new(ALLOW);
/// How many calls have been emulated.
static EMULATED: AtomicUsize = AtomicUsize::new(0);

/// What the foreign system offers. Linux has no call with such a number.
const FOREIGN_ADD: i64 = 0x5ea1_0001;

// The region: a system call without arguments. The kernel compares the address after the
// instruction, so that of `ret` has to be inside.
global_asm!(
    ".globl native, native_end",
    "native:",
    "mov rax, rdi",
    "syscall",
    "ret",
    "native_end:"
);
extern "C" {
    fn native(number: i64) -> i64;
    static native_end: u8;
}

/// Makes a system call as foreign code would: by itself.
fn foreign(number: i64, a: i64, b: i64) -> i64 {
    let result;
    // SAFETY: Whether it is Linux or the handler who answers, no memory is touched.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Runs `code` with the selector at BLOCK.
///
/// The handler leaves the selector at ALLOW, since it returns by a system call too, which the C
/// library makes. So there is no more than one dispatch in each `code`.
fn blocked<T>(code: impl FnOnce() -> T) -> T {
    SELECTOR.store(BLOCK, Relaxed);
    let value = code();
    SELECTOR.store(ALLOW, Relaxed);
    value
}

extern "C" fn on_sigsys(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: The kernel passes both, for us alone while the handler runs.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<ucontext_t>()) };
    if info.si_code != SYS_USER_DISPATCH {
        return;
    }
    SELECTOR.store(ALLOW, Relaxed);
    EMULATED.fetch_add(1, Relaxed);

    let register = |index: c_int| context.uc_mcontext.gregs[index as usize];
    context.uc_mcontext.gregs[REG_RAX as usize] = match register(REG_RAX) {
        FOREIGN_ADD => register(REG_RDI).wrapping_add(register(REG_RSI)),
        _ => -i64::from(ENOSYS),
    };
}

fn main() -> std::io::Result<()> {
    // SAFETY: The handler is sound wherever a dispatch can happen: at `foreign()` alone. All other
    // signals wait until it has ended, or their handlers would start at BLOCK.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigsys as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigfillset(&mut action.sa_mask);
        if libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }

    // SAFETY: Between the two labels there is code, which nobody writes to.
    let region = unsafe {
        let start = native as *const u8;
        std::slice::from_raw_parts(start, (&raw const native_end).offset_from(start) as usize)
    };
    // SAFETY: The selector lives as long as the program, and what it blocks has its handler.
    unsafe { enable_syscall_user_dispatch(region, &SELECTOR)? };

    // SAFETY: It has no arguments and no effect.
    let pid = blocked(|| unsafe { native(libc::SYS_getpid) });
    assert_eq!(
        pid,
        i64::from(std::process::id()),
        "native, from the region"
    );
    assert_eq!(EMULATED.load(Relaxed), 0, "native calls are not dispatched");

    assert_eq!(blocked(|| foreign(FOREIGN_ADD, 40, 2)), 42, "foreign");
    assert_eq!(EMULATED.load(Relaxed), 1, "foreign calls are dispatched");

    let unknown = -i64::from(ENOSYS);
    assert_eq!(
        foreign(FOREIGN_ADD, 40, 2),
        unknown,
        "at ALLOW, Linux answers"
    );

    // SAFETY: Nothing relies on the dispatch any more.
    unsafe { disable_syscall_user_dispatch()? };
    assert_eq!(blocked(|| foreign(FOREIGN_ADD, 40, 2)), unknown, "disarmed");
    assert_eq!(EMULATED.load(Relaxed), 1, "nothing else was dispatched");

    println!("rustix: one call emulated, all others by Linux, as expected");
    Ok(())
}
