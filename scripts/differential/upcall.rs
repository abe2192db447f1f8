// SPDX-License-Identifier: GPL-2.0

//! The handler of upcalls: it does what the handler of SIGSYS does, without a signal.
//!
//! The kernel jumps to it with the registers as SYSCALL leaves them, on the stack of whatever made
//! the syscall. It goes on where the script wants, with the registers that the script wants, and
//! makes no syscall for that.

use crate::{
    arena::*,
    handler::{follow, show_registers},
    log,
    sys::UContext,
};
use std::{arch::global_asm, mem};

// Below what the interrupted code may keep beneath its stack pointer lie the address to go on at,
// and the registers, in the order of `Frame`. What the compiled code makes of the floating-point
// registers is undone as well, since the code that made the syscall may know nothing of a call.
global_asm!(
    ".globl diff_upcall",
    ".text",
    "diff_upcall: lea -128(%rsp), %rsp",
    "push %rcx; push %r11",
    "push %r15; push %r14; push %r13; push %r12; push %r11; push %r10; push %r9; push %r8",
    "push %rbp; push %rdi; push %rsi; push %rdx; push %rcx; push %rbx; push %rax",
    // None of these has changed the flags.
    "pushfq",
    "mov %rsp, %rdi; mov %rsp, %rbp",
    "sub $512, %rsp; and $-16, %rsp",
    "fxsave64 (%rsp)",
    "call {handler}",
    "fxrstor64 (%rsp)",
    "lea 8(%rbp), %rsp",
    "pop %rax; pop %rbx; pop %rcx; pop %rdx; pop %rsi; pop %rdi; pop %rbp",
    "pop %r8; pop %r9; pop %r10; pop %r11; pop %r12; pop %r13; pop %r14; pop %r15",
    "popfq",
    "ret $128",
    handler = sym on_upcall,
    options(att_syntax)
);

extern "C" {
    static diff_upcall: u8;
}

/// What the code above puts on the stack.
#[repr(C)]
struct Frame {
    /// The flags of the handler itself.
    live: u64,
    registers: Registers,
    /// Where to go on.
    rip: u64,
}

/// Where upcalls go.
pub fn entry() -> u64 {
    &raw const diff_upcall as u64
}

extern "C" fn on_upcall(frame: &mut Frame) {
    // SAFETY: All zeroes are a value.
    let mut context: UContext = unsafe { mem::zeroed() };
    (context.rip, context.segments) = (frame.rip, 0x33);
    frame.registers.store(&mut context);
    let live = frame.live;
    follow("upcall", &mut context, |context| {
        use std::fmt::Write;
        let _ = write!(
            Log,
            "  handler upcall rip={} rax={}",
            Name(context.rip),
            Value(context.rax)
        );
        show_registers(context);
        log!(" live={live:#x}");
    });
    frame.registers = Registers::load(&context);
    frame.rip = context.rip;
}
