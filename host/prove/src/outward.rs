// SPDX-License-Identifier: GPL-2.0

//! The functions that are not looked into: what is called outwards, and what both programs may
//! rely on when it returns.

/// What a function leaves in rax, in the way of the ABI: of a narrow value only the low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    Nothing,
    Bool,
    Word,
}

/// What else a function does that the caller can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changes nothing that belongs to the current task alone.
    None,
    /// It may change everything but the caller's stack.
    All,
    /// Copies to user memory: destination, source on the stack, length.
    CopyOut,
    /// Copies from user memory: destination on the stack, source, length.
    CopyIn,
    /// Takes a structure of so many bytes on the stack.
    Takes(i64),
    /// Allocates an object, which is cleared or filled in by the caller.
    Allocates,
    /// Queues a signal, which is in the object at an offset. Nothing is asked of what follows.
    Queues(i64),
    /// The kernel stops.
    Stops,
}

#[derive(Clone, Copy, Debug)]
pub struct Outward {
    pub name: &'static str,
    /// How wide its arguments are, in bits. Those of `Effect` are not among them.
    pub arguments: &'static [u8],
    pub returns: Returns,
    pub effect: Effect,
}

const fn outward(
    name: &'static str,
    arguments: &'static [u8],
    returns: Returns,
    effect: Effect,
) -> Outward {
    Outward {
        name,
        arguments,
        returns,
        effect,
    }
}

/// How long a siginfo is.
pub const SIGINFO: i64 = 48;

/// All of them. A function that is not here is looked into.
pub const OUTWARD: &[Outward] = &[
    // Questions: about the mm and the registers of the current task.
    outward(
        "arch_syscall_is_vdso_sigreturn",
        &[64],
        Returns::Bool,
        Effect::None,
    ),
    outward(
        "arch_syscall_is_uprobe_trampoline",
        &[64],
        Returns::Bool,
        Effect::None,
    ),
    // Tracepoints, with what their probes get. The first argument is the probe's own.
    outward(
        "__SCT__tp_func_sud_dispatch",
        &[64, 64, 64],
        Returns::Nothing,
        Effect::None,
    ),
    outward(
        "__SCT__tp_func_sud_kill",
        &[64, 64, 64, 32],
        Returns::Nothing,
        Effect::None,
    ),
    outward(
        "__SCT__tp_func_sud_configure",
        &[64, 64, 64, 64, 64, 64, 64],
        Returns::Nothing,
        Effect::None,
    ),
    // Effects. The syscall is over with them.
    outward(
        "force_sig_user_dispatch",
        &[64],
        Returns::Nothing,
        Effect::All,
    ),
    outward("force_exit_sig", &[32], Returns::Nothing, Effect::All),
    outward(
        "syscall_user_dispatch_step",
        &[],
        Returns::Nothing,
        Effect::All,
    ),
    outward(
        "force_sig_info",
        &[],
        Returns::Nothing,
        Effect::Takes(SIGINFO),
    ),
    // User memory, in more than a byte.
    outward("_copy_to_user", &[], Returns::Word, Effect::CopyOut),
    outward("_copy_from_user", &[], Returns::Word, Effect::CopyIn),
    // Of the dispatch by a signal, up to where it is queued.
    outward(
        "kmem_cache_alloc_noprof",
        &[],
        Returns::Word,
        Effect::Allocates,
    ),
    outward("_raw_spin_lock_irq", &[], Returns::Nothing, Effect::None),
    outward(
        "send_user_dispatch_locked",
        &[],
        Returns::Nothing,
        Effect::Queues(0x18),
    ),
    outward("__stack_chk_fail", &[], Returns::Nothing, Effect::Stops),
];
