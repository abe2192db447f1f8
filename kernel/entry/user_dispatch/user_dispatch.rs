// SPDX-License-Identifier: GPL-2.0

//! Syscall User Dispatch.
//!
//! A thread names a range of addresses whose syscalls run directly, and a selector byte in its own
//! memory that decides about all others: they run, or come back to the thread as SIGSYS. See
//! `Documentation/admin-guide/syscall-user-dispatch.rst`.
//!
//! The root module holds the entry points that C calls. From here calls go one way:
//!
//! ```text
//! user_dispatch ──> policy      what is right and what follows, as plain values
//!               ──> task        the state, work flag and registers of a task ──> arch
//!               ──> effects     SIGSYS and the fatal exits ──> task, trace
//!               ──> trace       the tracepoints ──> task, policy
//!               ──> arch        registers and user memory, as the architecture has them
//! ```
//!
//! C header: `include/linux/syscall_user_dispatch.h`
//!
//! # How a syscall is decided
//!
//! [`syscall_user_dispatch()`] compares the address with the region, which is an
//! [`Exempt`](policy::Exempt) in either mode. Where that does not settle it, [`filter()`] reads
//! the selector, and makes a [`Verdict`] of what was read. A permitted syscall gets no further, and
//! pays for nothing else. All that is left to ask or to do is in [`refuse()`].
//!
//! # How a thread is configured
//!
//! What `prctl()` or ptrace asks for is a [`Request`], which [`Request::validate()`] turns into the
//! [`Settings`](policy::Settings) of an armed thread, into none, or into the first error there is.
//! The way back, from what a task has to what was asked for, loses nothing.
//!
//! # What is unsafe
//!
//! The policy is safe, and a caller cannot reach the rest but through values with invariants: an
//! [`Entry`] is the current task on its way into a syscall, and a [`Task`] one that stands still.
//! The entry points make them, by what C promises; each `unsafe` block argues from them.

use kernel::{
    bindings,
    error::from_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

mod arch;
mod effects;
mod policy;
mod task;
mod trace;

use policy::{
    Request,
    Verdict,
    Word, //
};
use task::{
    Entry,
    Task, //
};

// The policy has no bindings; what it knows of the interface is compared here.
static_assert!(policy::OFF == bindings::PR_SYS_DISPATCH_OFF as usize);
static_assert!(policy::EXCLUSIVE_ON == bindings::PR_SYS_DISPATCH_EXCLUSIVE_ON as usize);
static_assert!(policy::INCLUSIVE_ON == bindings::PR_SYS_DISPATCH_INCLUSIVE_ON as usize);
static_assert!(matches!(
    Verdict::of(bindings::SYSCALL_DISPATCH_FILTER_ALLOW as i32),
    Verdict::Run
));
static_assert!(matches!(
    Verdict::of(bindings::SYSCALL_DISPATCH_FILTER_BLOCK as i32),
    Verdict::Dispatch
));

/// Decides about a syscall of an armed thread. Returns whether it must not run.
///
/// # Safety
///
/// Must be called on a syscall entry of the current task, whose work flag is set, in a context
/// that may sleep, before any other work of the entry, with the task's user registers and its
/// `syscall_dispatch`.
#[export]
pub unsafe extern "C" fn syscall_user_dispatch(
    regs: *mut bindings::pt_regs,
    state: *mut bindings::syscall_user_dispatch,
) -> bool {
    // SAFETY: By the safety requirements; tracers come after us.
    let entry = unsafe { Entry::new(regs, state) };

    if entry.exempt().contains(entry.address()) {
        return false;
    }

    if entry.has_vdso_sigreturn() {
        filter_beside_vdso(entry)
    } else {
        filter(entry)
    }
}

/// Decides about a syscall that may come from a sigreturn trampoline of the vDSO.
///
/// These go free whatever the selector says, since a signal handler must be able to return. They
/// do so before it is read, as that can take any time.
#[cold]
fn filter_beside_vdso(entry: Entry) -> bool {
    !entry.is_vdso_sigreturn() && filter(entry)
}

/// Decides by the selector. Returns whether the syscall must not run.
#[inline(always)]
fn filter(entry: Entry) -> bool {
    let selector = entry.selector();
    let reading = if selector.is_null() {
        bindings::SYSCALL_DISPATCH_FILTER_BLOCK as i32
    } else {
        // SAFETY: This is a syscall entry, where page faults are allowed.
        unsafe { arch::read_user_byte(selector) }
    };

    if let Verdict::Run = Verdict::of(reading) {
        return false;
    }

    refuse(entry, reading)
}

/// Carries out a verdict other than [`Verdict::Run`] of what `reading` the selector gave. Returns
/// whether the syscall must not run.
///
/// The trampolines of uprobes are exempt, since the program does not know them. A dying thread gets
/// no dispatch, and is not killed because of a selector whose read failed for that very reason.
#[cold]
fn refuse(entry: Entry, reading: i32) -> bool {
    if entry.is_uprobe_trampoline() {
        return false;
    }

    if entry.is_dying() {
        return true;
    }

    match Verdict::of(reading) {
        Verdict::Run => return false,
        Verdict::Dispatch => effects::dispatch(entry),
        Verdict::BadSelector => effects::kill(entry, bindings::SIGSYS, reading),
        Verdict::NoSelector => effects::kill(entry, bindings::SIGSEGV, reading),
    }

    true
}

/// Serves `prctl(PR_SET_SYSCALL_USER_DISPATCH)`.
///
/// # Safety
///
/// Must be called in that syscall of the current task.
#[export]
pub unsafe extern "C" fn set_syscall_user_dispatch(
    mode: c_ulong,
    offset: c_ulong,
    len: c_ulong,
    selector: *mut c_char,
) -> c_int {
    let request = Request {
        mode,
        offset,
        len,
        selector: selector as usize,
    };

    // SAFETY: By the safety requirements, and `get_current()` returns the current task.
    let (task, is_32bit) = unsafe {
        let current = bindings::get_current();
        (Task::new(current), arch::is_32bit_syscall(current))
    };
    let word = if is_32bit { Word::Bits32 } else { Word::Bits64 };

    from_result(|| configure(task, request, word).map(|()| 0))
}

/// Serves `PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG`.
///
/// # Safety
///
/// `task` must be stopped for the current task until the function returns.
#[export]
pub unsafe extern "C" fn syscall_user_dispatch_set_config(
    task: *mut bindings::task_struct,
    size: c_ulong,
    data: *mut c_void,
) -> c_int {
    // SAFETY: By the safety requirements.
    let task = unsafe { Task::new(task) };

    from_result(|| {
        let request = config_slice(size, data)?.reader().read::<Config>()?.into();
        // The fields have 64 bits for any tracer.
        configure(task, request, Word::Bits64).map(|()| 0)
    })
}

/// Serves `PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG`.
///
/// # Safety
///
/// `task` must be stopped for the current task until the function returns.
#[export]
pub unsafe extern "C" fn syscall_user_dispatch_get_config(
    task: *mut bindings::task_struct,
    size: c_ulong,
    data: *mut c_void,
) -> c_int {
    // SAFETY: By the safety requirements.
    let task = unsafe { Task::new(task) };

    from_result(|| {
        let config = Config::from(Request::from(task.settings()));
        config_slice(size, data)?
            .writer()
            .write(&config)
            .map(|()| 0)
    })
}

/// Validates `request`, which came in a `word`, and configures `task` accordingly. On failure
/// nothing changes.
fn configure(mut task: Task, request: Request, word: Word) -> Result {
    // SAFETY: The flag is valid for the life of the kernel, and the sysctl writes it atomically.
    let allowed = unsafe { Atomic::from_ptr(&raw mut bindings::syscall_user_dispatch_allowed) };

    // SAFETY: Only computes with the address.
    let is_user =
        |address| unsafe { bindings::syscall_user_dispatch_is_user(address, word == Word::Bits32) };

    task.configure(request.validate(word, allowed.load(Relaxed), is_user)?);
    trace::configure(&task, request);
    Ok(())
}

/// The user memory at `data`, if its `size` is that of a [`Config`].
fn config_slice(size: usize, data: *mut c_void) -> Result<UserSlice> {
    if size != size_of::<Config>() {
        return Err(EINVAL);
    }

    Ok(UserSlice::new(UserPtr::from_ptr(data), size))
}

/// A configuration as ptrace passes it.
#[repr(transparent)]
struct Config(bindings::ptrace_sud_config);

// SAFETY: Four integers of 64 bits, for which any value will do.
unsafe impl FromBytes for Config {}

// SAFETY: Four integers of 64 bits, between which there is no padding.
unsafe impl AsBytes for Config {}

impl From<Config> for Request {
    fn from(Config(config): Config) -> Self {
        // CAST: An address has 64 bits here.
        Self {
            mode: config.mode as usize,
            offset: config.offset as usize,
            len: config.len as usize,
            selector: config.selector as usize,
        }
    }
}

impl From<Request> for Config {
    fn from(request: Request) -> Self {
        // CAST: An address has 64 bits here.
        Self(bindings::ptrace_sud_config {
            mode: request.mode as u64,
            offset: request.offset as u64,
            len: request.len as u64,
            selector: request.selector as u64,
        })
    }
}
