// SPDX-License-Identifier: GPL-2.0

//! The task: typed access to its dispatch state, to its work flag and to its registers.
//!
//! The same fields are met in two situations, each with rights of its own: [`Entry`] is the
//! current task on its way into a syscall, which reads them and may hand the syscall back; [`Task`]
//! is a task that stands still, whose configuration can be read and replaced.

use super::{
    arch,
    policy::{
        Exempt,
        Settings, //
    }, //
};
use core::mem::offset_of;
use kernel::{
    bindings,
    container_of,
    prelude::*, //
};

/// The work flag that brings a syscall to us.
const WORK_BIT: c_ulong =
    bindings::syscall_work_bit_SYSCALL_WORK_BIT_SYSCALL_USER_DISPATCH as c_ulong;

// The fields of a structure that large are used by name only as long as bindgen places the one
// that matters where C has it.
static_assert!(
    offset_of!(bindings::task_struct, syscall_dispatch)
        == bindings::TASK_STRUCT_SYSCALL_DISPATCH_OFFSET
);

/// The current task at a syscall that has not been decided yet.
///
/// # Invariants
///
/// `regs` are the user registers of the current task, and `state` is its `syscall_dispatch`. Both
/// are valid, and written by nobody else: a tracer writes them only while the task is stopped, and
/// it does not stop before it has left the function that made this value. Registers are read by
/// others meanwhile, such as a sampling interrupt or `/proc/PID/syscall`.
pub(crate) struct Entry {
    regs: *mut bindings::pt_regs,
    state: *mut bindings::syscall_user_dispatch,
}

impl Entry {
    /// # Safety
    ///
    /// Must be called on a syscall entry of the current task, before it can stop for a tracer,
    /// with the task's user registers and its `syscall_dispatch`.
    #[inline(always)]
    pub(crate) unsafe fn new(
        regs: *mut bindings::pt_regs,
        state: *mut bindings::syscall_user_dispatch,
    ) -> Self {
        // INVARIANT: By the safety requirements.
        Self { regs, state }
    }

    /// The current task.
    #[inline(always)]
    fn task(&self) -> *mut bindings::task_struct {
        // SAFETY: By the type invariant, `state` is that field of a task.
        unsafe { container_of!(self.state, bindings::task_struct, syscall_dispatch) }
    }

    /// The address after the syscall instruction.
    #[inline(always)]
    pub(crate) fn address(&self) -> usize {
        // SAFETY: By the type invariant, `regs` is valid.
        unsafe { arch::instruction_pointer(self.regs) }
    }

    /// The addresses that are exempt.
    #[inline(always)]
    pub(crate) fn exempt(&self) -> Exempt {
        // SAFETY: By the type invariant, `state` is valid and written by nobody else.
        unsafe {
            Exempt {
                start: (*self.state).offset,
                len: (*self.state).len,
            }
        }
    }

    /// The selector; null for none.
    #[inline(always)]
    pub(crate) fn selector(&self) -> *const c_char {
        // SAFETY: By the type invariant, `state` is valid and written by nobody else.
        unsafe { (*self.state).selector }
    }

    /// Whether the vDSO has sigreturn trampolines for the way that the syscall came.
    #[inline(always)]
    pub(crate) fn has_vdso_sigreturn(&self) -> bool {
        // SAFETY: By the type invariant, this is the current task.
        unsafe { arch::has_vdso_sigreturn(self.task()) }
    }

    /// Whether the syscall was made by one of the sigreturn trampolines of the vDSO.
    pub(crate) fn is_vdso_sigreturn(&self) -> bool {
        // SAFETY: By the type invariant, `regs` is valid and belongs to the current task.
        unsafe { bindings::arch_syscall_is_vdso_sigreturn(self.regs) }
    }

    /// Whether the syscall was made by a trampoline that uprobes mapped into the program.
    pub(crate) fn is_uprobe_trampoline(&self) -> bool {
        // SAFETY: By the type invariant, `regs` is valid and belongs to the current task.
        unsafe { bindings::arch_syscall_is_uprobe_trampoline(self.regs) }
    }

    /// Whether the task dies, whatever becomes of the syscall.
    pub(crate) fn is_dying(&self) -> bool {
        // SAFETY: The current task is valid. Others may set flags of it meanwhile, which a volatile
        // read permits; most often no signal is pending, and then none is fatal.
        unsafe {
            let flags = (&raw const (*self.task()).thread_info.flags).read_volatile();

            flags & (1 << bindings::TIF_SIGPENDING) != 0
                && bindings::fatal_signal_pending(self.task()) != 0
        }
    }

    /// The user registers.
    pub(crate) fn regs(&self) -> *mut bindings::pt_regs {
        self.regs
    }
}

/// A task whose dispatch state stands still: the current task within `prctl()`, or a tracee that
/// is stopped for the current task.
///
/// # Invariants
///
/// The task is valid, and its dispatch state is accessed by nobody else.
pub(crate) struct Task(*mut bindings::task_struct);

impl Task {
    /// # Safety
    ///
    /// As long as the value exists, `task` must be the current task, or stay stopped for it as
    /// `ptrace_check_attach()` ensures, and no other value for it must exist.
    pub(crate) unsafe fn new(task: *mut bindings::task_struct) -> Self {
        // INVARIANT: The current task exists, and only its tracer would access its dispatch state
        // from elsewhere, while it is stopped. A tracee that is stopped does not access its own.
        Self(task)
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::task_struct {
        self.0
    }

    /// Arms the task with `settings`, or disarms it, from its next syscall on.
    pub(crate) fn configure(&mut self, settings: Option<Settings>) {
        let (exempt, selector) = settings.map_or_else(Default::default, |s| (s.exempt, s.selector));
        // SAFETY: By the type invariant, the task is valid and its dispatch state is ours. Of the
        // work flags others may change their own meanwhile, hence the atomic bit operations.
        unsafe {
            let state = &raw mut (*self.0).syscall_dispatch;
            (*state).selector = selector as *mut c_char;
            (*state).offset = exempt.start;
            (*state).len = exempt.len;

            let work = &raw mut (*self.0).thread_info.syscall_work;
            match settings {
                Some(_) => bindings::set_bit(WORK_BIT, work),
                None => bindings::clear_bit(WORK_BIT, work),
            }
        }
    }

    /// The configuration, if the task is armed. What an earlier image or the parent left in the
    /// state of a task that is not is nobody's business.
    pub(crate) fn settings(&self) -> Option<Settings> {
        // SAFETY: By the type invariant, the task is valid and its dispatch state is ours. Of the
        // work flags others may change their own meanwhile, which a volatile read permits.
        unsafe {
            let work = (&raw const (*self.0).thread_info.syscall_work).read_volatile();
            let state = &raw const (*self.0).syscall_dispatch;

            (work & (1 << WORK_BIT) != 0).then_some(Settings {
                exempt: Exempt {
                    start: (*state).offset,
                    len: (*state).len,
                },
                selector: (*state).selector as usize,
            })
        }
    }
}
