// SPDX-License-Identifier: GPL-2.0

//! The task: typed access to its dispatch state, to its work flag and to its registers.
//!
//! The same fields are met in two situations, each with rights of its own: [`Entry`] is the
//! current task on its way into a syscall, which reads them and may hand the syscall back; [`Task`]
//! is a task that stands still, whose configuration can be read and replaced.

use super::policy::{
    Exempt,
    Settings, //
};
use kernel::{
    bindings,
    prelude::*, //
};

/// The work flag that brings a syscall to us.
const WORK_BIT: c_ulong =
    bindings::syscall_work_bit_SYSCALL_WORK_BIT_SYSCALL_USER_DISPATCH as c_ulong;

/// The current task at a syscall that has not been decided yet.
///
/// # Invariants
///
/// `regs` are the user registers of the current task, and `state` is its dispatch state. Both are
/// valid and accessed by nobody else: a tracer reads and writes them only while the task is
/// stopped, and it does not stop before it has left the function that made this value.
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

    /// The address after the syscall instruction.
    #[inline(always)]
    pub(crate) fn address(&self) -> usize {
        // SAFETY: By the type invariant, `regs` is valid and ours.
        unsafe { (*self.regs).ip }
    }

    /// The addresses that are exempt.
    #[inline(always)]
    pub(crate) fn exempt(&self) -> Exempt {
        // SAFETY: By the type invariant, `state` is valid and ours.
        unsafe {
            Exempt {
                start: (*self.state).offset,
                len: (*self.state).len,
            }
        }
    }

    /// The selector; null for none.
    #[inline(always)]
    pub(crate) fn selector(&self) -> *mut c_char {
        // SAFETY: By the type invariant, `state` is valid and ours.
        unsafe { (*self.state).selector }
    }

    /// The syscall number.
    pub(crate) fn number(&self) -> i32 {
        // CAST: A syscall number is the low half of the register, as in `syscall_get_nr()`.
        //
        // SAFETY: By the type invariant, `regs` is valid and ours.
        unsafe { (*self.regs).orig_ax as i32 }
    }

    /// The audit architecture of the syscall: by the way that the kernel was entered.
    pub(crate) fn arch(&self) -> u32 {
        // CAST: A set of bits, which C keeps in a signed integer.
        //
        // SAFETY: `get_current()` returns the current task, whose syscall this is.
        unsafe { bindings::syscall_get_arch(bindings::get_current()) as u32 }
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

    /// Marks the syscall as one that has not happened, for those who would report its end.
    pub(crate) fn mark_undone(&mut self) {
        // SAFETY: By the type invariant, `state` is valid and ours.
        unsafe { (*self.state).on_dispatch = true };
    }

    /// Undoes what the entry code did to the return value: the thread finds its number there.
    pub(crate) fn rollback(&mut self) {
        // SAFETY: By the type invariant, `regs` is valid and ours.
        unsafe { (*self.regs).ax = (*self.regs).orig_ax };
    }

    /// Takes a syscall that was rolled back as not even begun: the thread executes the instruction
    /// again, and whoever looks meanwhile finds it in no syscall.
    pub(crate) fn rewind(&mut self) {
        // SAFETY: By the type invariant, `regs` is valid and ours.
        let regs = unsafe { &mut *self.regs };

        // Every instruction that enters the kernel for a syscall has two bytes, and at the landing
        // pad of SYSENTER an `int $0x80` precedes the address. It can wrap around for an address
        // that user space made up, as in `arch_do_signal_or_restart()`.
        regs.ip = regs.ip.wrapping_sub(2);
        // Minus one, as the entry code has it for what is no syscall.
        regs.orig_ax = c_ulong::MAX;
    }
}

/// A task whose dispatch state stands still: the current task within `prctl()`, or a tracee that
/// is stopped for the current task.
///
/// Of the fields of `struct task_struct` only the first, `thread_info`, is used by name: bindgen
/// ignores the alignment of an empty structure, as `struct sched_statistics` is without
/// `CONFIG_SCHEDSTATS`, and misplaces what follows.
///
/// # Invariants
///
/// The task is valid, and its dispatch state is accessed by nobody else.
pub(crate) struct Task(*mut bindings::task_struct);

impl Task {
    /// # Safety
    ///
    /// As long as the value exists, `task` must be the current task, or stay stopped for it as
    /// `ptrace_check_attach()` ensures.
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
            let state = &mut *bindings::task_syscall_dispatch(self.0);
            state.selector = selector as *mut c_char;
            state.offset = exempt.start;
            state.len = exempt.len;
            state.on_dispatch = false;

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
            let state = &*bindings::task_syscall_dispatch(self.0);

            (work & (1 << WORK_BIT) != 0).then_some(Settings {
                exempt: Exempt {
                    start: state.offset,
                    len: state.len,
                },
                selector: state.selector as usize,
            })
        }
    }
}
