// SPDX-License-Identifier: GPL-2.0

//! User memory: the address of the selector, and the byte that is read there.

use kernel::{
    bindings,
    prelude::*, //
};

/// Whether a selector may be at `address`: in the user half of the address space, where it need
/// not be mapped.
///
/// Address tags are ignored, so that an untagged tracer can pass a tagged address of its tracee.
pub(crate) fn is_user(address: usize) -> bool {
    // SAFETY: Both functions only compute with the address.
    unsafe { bindings::access_ok(bindings::untagged_addr(address) as *const c_void, 1) }
}

/// Reads the selector byte at `address`, faulting it in where needed.
///
/// Returns its value, or `-EFAULT` where it cannot be read. The byte may change at any time; it is
/// read once.
///
/// # Speculation
///
/// The read is not fenced, and its address is not masked, since there is no check here that could
/// be mispredicted: [`is_user()`] was asked in an earlier syscall, and SYSCALL, INT and the
/// returns to user mode do not let younger instructions execute, even speculatively, before the
/// older ones have completed ("SYSCALL" and "SYSRET" in Intel SDM volume 2B).
///
/// # Safety
///
/// [`is_user()`] must have been true of `address` when it was installed in the current task by an
/// earlier syscall, and the context must allow page faults.
#[inline(always)]
pub(crate) unsafe fn read(address: *const c_char) -> i32 {
    let reading: i32;

    // SAFETY: By the safety requirements `address` is in user space, which the instruction may
    // read: it opens user memory for this one load, and the exception table turns a fault into
    // `-EFAULT`. The stack is left alone, and no memory that Rust knows of is accessed.
    unsafe {
        kernel::asm!(
            include!(concat!(
                env!("OBJTREE"),
                "/kernel/entry/user_dispatch/selector_asm.rs"
            ));
            address = in(reg) address,
            lateout("eax") reading,
            options(nostack),
        );
    }

    reading
}
