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
///
/// Where the signal cannot be queued, because one from elsewhere is pending already or because
/// memory is short, the thread will make the syscall again: after the handler of the other signal,
/// which may have disarmed it or changed the selector, or at once. As nothing was queued, the
/// syscall cannot be dispatched twice. It does not go on forever either: each round delivers the
/// signal that was in the way, and if that was blocked, the task dies of it, as it does of any
/// dispatch while SIGSYS is blocked. While memory is short, every other signal is still delivered.
pub(crate) fn dispatch(mut entry: Entry) {
    let arch = entry.arch();

    // Zeroed, padding included, as by `clear_siginfo()`: it is copied to user space.
    let mut siginfo: bindings::kernel_siginfo = pin_init::zeroed();

    // CAST: Small positive constants, which bindgen takes for unsigned.
    siginfo.__bindgen_anon_1.si_signo = bindings::SIGSYS as c_int;
    siginfo.__bindgen_anon_1.si_code = bindings::SYS_USER_DISPATCH as c_int;
    siginfo.__bindgen_anon_1._sifields._sigsys = bindings::__sifields__bindgen_ty_7 {
        _call_addr: entry.address() as *mut c_void,
        _syscall: entry.number(),
        _arch: arch,
    };

    trace::dispatch(&entry, arch);
    entry.mark_undone();
    entry.rollback();

    // SAFETY: `siginfo` is a complete description of a signal, and the current task may be sent
    // one on its way into a syscall.
    let queued = unsafe { bindings::force_sig_info_queued(&mut siginfo) } == 0;
    if !queued {
        entry.rewind();
    }
}

/// Kills the task, and with it its thread group, by a `signal` that nothing can stop; `reading` is
/// what its selector gave.
pub(crate) fn kill(mut entry: Entry, signal: u32, reading: i32) {
    trace::kill(&entry, reading);
    entry.mark_undone();

    // CAST: A signal number, which bindgen takes for unsigned.
    //
    // SAFETY: The current task may be sent a signal on its way into a syscall.
    unsafe { bindings::force_exit_sig(signal as c_int) };
}
