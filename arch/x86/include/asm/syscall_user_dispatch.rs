// SPDX-License-Identifier: GPL-2.0

// What Syscall User Dispatch in Rust wants of x86, as the header beside it has it for C. This is
// the inside of `kernel/entry/user_dispatch/arch.rs`.

/// The address after the syscall instruction.
///
/// # Safety
///
/// `regs` must be valid.
#[inline(always)]
pub(crate) unsafe fn instruction_pointer(regs: *const bindings::pt_regs) -> usize {
    // SAFETY: By the safety requirements.
    unsafe { (*regs).ip }
}

/// Whether the syscall that `task` makes came by a 32-bit entry. One of x32 did not.
///
/// # Safety
///
/// `task` must be the current task.
#[inline(always)]
pub(crate) unsafe fn is_32bit_syscall(task: *const bindings::task_struct) -> bool {
    // SAFETY: By the safety requirements; only the task itself changes its status.
    let status = unsafe { (*task).thread_info.status };

    cfg!(CONFIG_IA32_EMULATION) && status & bindings::TS_COMPAT != 0
}

/// Whether the vDSO has sigreturn trampolines for the syscall that `task` makes: that of 64-bit
/// code has not.
///
/// # Safety
///
/// `task` must be the current task.
#[inline(always)]
pub(crate) unsafe fn has_vdso_sigreturn(task: *const bindings::task_struct) -> bool {
    // SAFETY: By the safety requirements.
    unsafe { is_32bit_syscall(task) }
}

/// Reads the byte at `address` of the current task, faulting it in where needed. Returns its
/// value, or `-EFAULT` where it cannot be read, as in the kernel half of the address space.
///
/// As `get_user()` does, it masks the address instead of waiting for the comparison, so that the
/// processor cannot read kernel memory speculatively. The byte may change at any time; it is read
/// once.
///
/// # Safety
///
/// The context must allow page faults.
#[inline(always)]
pub(crate) unsafe fn read_user_byte(address: *const c_char) -> i32 {
    let reading: i32;

    // SAFETY: The address is masked, so that it is in user space, which the load opens for itself,
    // or is that of a guard page. By the safety requirements it may fault; the exception table
    // then makes `-EFAULT` of it. The stack is left alone, and no memory that Rust knows of is
    // accessed.
    unsafe {
        kernel::asm!(
            include!(concat!(
                env!("OBJTREE"),
                "/kernel/entry/user_dispatch/selector_asm.rs"
            ));
            address = inout(reg) address => _,
            limit = out(reg) _,
            lateout("eax") reading,
            options(nostack),
        );
    }

    reading
}
