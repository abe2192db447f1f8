// SPDX-License-Identifier: GPL-2.0

//! Syscall User Dispatch.
//!
//! A thread names a range of addresses whose syscalls run directly, and a selector byte in its own
//! memory that decides about all others: they run, or come back to the thread as SIGSYS. See
//! `Documentation/admin-guide/syscall-user-dispatch.rst`.
//!
//! The root module holds the doors, through which the C code comes in. From here calls go one way:
//!
//! ```text
//! user_dispatch ──> policy      what is right and what follows, as plain values
//!               ──> task        the state, work flag and registers of a task
//!               ──> selector    the byte in user memory
//!               ──> effects     SIGSYS and the fatal exits ──> task, trace
//!               ──> trace       the tracepoints ──> task, policy
//! ```
//!
//! C header: `include/linux/syscall_user_dispatch.h`
//!
//! # How a syscall is decided
//!
//! [`syscall_user_dispatch()`] compares the address with the region, which is an
//! [`Exempt`](policy::Exempt) in either mode, reads the selector where that does not settle it, and
//! makes a [`Verdict`] of what was read. A permitted syscall gets no further, and pays for nothing
//! else. All that is left to ask or to do is in [`refuse()`].
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
//! The doors make them, by what C promises; each `unsafe` block argues from them.

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

mod effects;
mod policy;
mod selector;
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

    let selector = entry.selector();
    let verdict = if selector.is_null() {
        Verdict::Dispatch
    } else {
        // SAFETY: A selector is installed only if `Request::validate()` accepts it, which asks
        // `selector::is_user()`. This is a syscall entry, where page faults are allowed.
        Verdict::of(unsafe { selector::read(selector) })
    };

    if let Verdict::Run = verdict {
        return false;
    }

    refuse(entry, verdict)
}

/// Carries out a verdict other than [`Verdict::Run`]. Returns whether the syscall must not run.
///
/// The kernel's own trampolines go free: those of the vDSO, since a signal handler must be able to
/// return, and those of uprobes, of which the program knows nothing. That they are exempt whatever
/// the selector says does not mean that they must be asked about first: reading the selector has
/// no effect, so it is enough if nothing happens before.
#[cold]
fn refuse(entry: Entry, verdict: Verdict) -> bool {
    if entry.is_vdso_sigreturn() || entry.is_uprobe_trampoline() {
        return false;
    }

    match verdict {
        Verdict::Run => return false,
        Verdict::Dispatch => effects::dispatch(entry),
        Verdict::BadSelector(reading) => effects::kill(entry, bindings::SIGSYS, reading),
        Verdict::NoSelector(reading) => effects::kill(entry, bindings::SIGSEGV, reading),
    }

    true
}

/// Serves `prctl(PR_SET_SYSCALL_USER_DISPATCH)`.
#[export]
pub extern "C" fn set_syscall_user_dispatch(
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

    // SAFETY: `get_current()` returns the current task, which lives as long as we run.
    let task = unsafe { Task::new(bindings::get_current()) };

    from_result(|| configure(task, request).map(|()| 0))
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
        configure(task, request).map(|()| 0)
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

/// Validates `request` in the words of the caller and configures `task` accordingly. On failure
/// nothing changes.
///
/// The caller is the current task, also if it is a tracer: it is its arithmetic that a region must
/// not overflow. A 64-bit tracer can thus restore whatever a thread has armed itself with, while
/// for a 32-bit one what does not fit its words is an error, as it is for a 32-bit thread.
fn configure(mut task: Task, request: Request) -> Result {
    // SAFETY: The flag is valid for the life of the kernel, and the sysctl writes it atomically.
    let allowed = unsafe { Atomic::from_ptr(&raw mut bindings::syscall_user_dispatch_allowed) };

    // SAFETY: Looks at the current task.
    let word = match unsafe { bindings::in_ia32_syscall() } {
        true => Word::Bits32,
        false => Word::Bits64,
    };

    task.configure(request.validate(word, allowed.load(Relaxed), selector::is_user)?);
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
