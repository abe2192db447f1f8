// SPDX-License-Identifier: GPL-2.0

//! The tracepoints. While one is off, it is a no-op that the kernel patches.
//!
//! C header: `include/trace/events/syscall_user_dispatch.h`

use super::{
    policy::Request,
    task::{
        Entry,
        Task, //
    }, //
};
use kernel::{
    bindings,
    prelude::*,
    tracepoint::declare_trace, //
};

declare_trace! {
    /// # Safety
    ///
    /// `task` must be valid.
    unsafe fn sud_configure(
        task: *mut bindings::task_struct,
        mode: c_ulong,
        offset: c_ulong,
        len: c_ulong,
        selector: c_ulong,
    );

    /// # Safety
    ///
    /// `regs` must be the user registers of the current task.
    unsafe fn sud_dispatch(regs: *mut bindings::pt_regs);

    /// # Safety
    ///
    /// `regs` must be the user registers of the current task.
    unsafe fn sud_kill(regs: *mut bindings::pt_regs, selector: *const c_char, reading: c_int);
}

/// `task` was armed, armed anew or disarmed, as in `request`.
pub(crate) fn configure(task: &Task, request: Request) {
    let Request {
        mode,
        offset,
        len,
        selector,
    } = request;

    // SAFETY: A `Task` is a valid task.
    unsafe { sud_configure(task.as_ptr(), mode, offset, len, selector) };
}

/// The syscall of `entry` is handed back.
pub(crate) fn dispatch(entry: &Entry) {
    // SAFETY: An `Entry` has the user registers of the current task.
    unsafe { sud_dispatch(entry.regs()) };
}

/// The task dies at `entry`, over what `reading` its selector gave.
pub(crate) fn kill(entry: &Entry, reading: i32) {
    // SAFETY: An `Entry` has the user registers of the current task.
    unsafe { sud_kill(entry.regs(), entry.selector(), reading) };
}
