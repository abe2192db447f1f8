// SPDX-License-Identifier: GPL-2.0

//! The effects: what happens to the task whose syscall does not run.

use super::{
    task::Entry,
    trace, //
};
use kernel::{
    bindings,
    prelude::*, //
};

/// Hands the syscall back to the thread, as SIGSYS with all that is known about it.
pub(crate) fn dispatch(entry: Entry) {
    trace::dispatch(&entry);

    // SAFETY: An `Entry` has the user registers of the current task, which may sleep and be sent a
    // signal on its way into a syscall, and which nobody else writes.
    unsafe { bindings::force_sig_user_dispatch(entry.regs()) };
}

/// Kills the task, and with it its thread group, by a `signal` that nothing can stop; `reading` is
/// what its selector gave.
pub(crate) fn kill(entry: Entry, signal: u32, reading: i32) {
    trace::kill(&entry, reading);

    // CAST: A signal number, which bindgen takes for unsigned.
    //
    // SAFETY: The current task may be sent a signal on its way into a syscall.
    unsafe { bindings::force_exit_sig(signal as c_int) };
}
