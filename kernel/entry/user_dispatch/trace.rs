// SPDX-License-Identifier: GPL-2.0

//! The tracepoints. While one is off, it is a no-op that the kernel patches.
//!
//! C header: `include/trace/events/syscall_user_dispatch.h`

use super::{
    policy::Request,
    task::Task, //
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
    /// None.
    unsafe fn sud_dispatch(address: c_ulong, number: c_int, arch: c_uint);

    /// # Safety
    ///
    /// None.
    unsafe fn sud_kill(address: c_ulong, selector: c_ulong, reading: c_int);
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

/// The syscall `number`, made in the way of `arch` before `address`, is handed back.
pub(crate) fn dispatch(address: usize, number: i32, arch: u32) {
    // SAFETY: Takes plain values.
    unsafe { sud_dispatch(address, number, arch) };
}

/// The task dies before `address`, over what `reading` its selector gave.
pub(crate) fn kill(address: usize, selector: *const c_char, reading: i32) {
    // SAFETY: Takes plain values.
    unsafe { sud_kill(address, selector as usize, reading) };
}
