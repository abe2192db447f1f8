// SPDX-License-Identifier: GPL-2.0

//! The code of the arena, with the syscall instructions, and how Rust gets there and back.

use crate::{
    arena::{CODE, PAD, X32_HANDLER},
    sys::UContext,
};
use std::arch::global_asm;

// The code, position independent but for the far jumps. Each label `x_after` is the address that
// the kernel sees: behind the instruction.
global_asm!(
    ".globl diff_code, diff_gate, diff_gate_after, diff_near, diff_near_after, diff_gate_end",
    ".globl diff_f0, diff_f0_after, diff_f1, diff_f1_after, diff_int, diff_int_after",
    ".globl diff_compat, diff_compat_32, diff_compat_after, diff_far, diff_far_after",
    ".globl diff_pad, diff_fast, diff_fast_other, diff_foreign_end, diff_land, diff_code_end",
    ".globl diff_gate_probe, diff_gate_probe_after, diff_probe, diff_probe_after",
    ".globl diff_near_x32, diff_near_x32_after, diff_far_x32, diff_far_x32_after",
    ".globl diff_x32_handler",
    ".text",
    ".balign 64",
    "diff_code:",
    // A gate: a syscall and a restorer, next to each other, to be exempt together.
    "diff_gate: syscall",
    "diff_gate_after: ret",
    ".balign 16, 0xcc",
    "diff_near: mov $15, %eax",
    "syscall",
    "diff_near_after: ud2",
    ".balign 16, 0xcc",
    "diff_near_x32: mov ${x32_sigreturn}, %eax",
    "syscall",
    "diff_near_x32_after: ud2",
    // What a tracer has a thread call comes back to the tracer.
    ".balign 16, 0xcc",
    "diff_gate_probe: syscall",
    "diff_gate_probe_after: int3; ret",
    ".balign 16, 0xcc",
    "diff_gate_end:",
    // Foreign code: every way into the kernel, and a restorer far from the gate.
    ".balign 64, 0xcc",
    "diff_f0: syscall",
    "diff_f0_after: ret",
    "diff_f1: syscall",
    "diff_f1_after: ret",
    ".balign 16, 0xcc",
    "diff_int: int $0x80",
    "diff_int_after: ret",
    ".balign 16, 0xcc",
    "diff_compat: ljmpl *diff_compat_pointer(%rip)",
    ".code32",
    "diff_compat_32: int $0x80",
    "diff_compat_after: ljmp $0x33, ${code} + (diff_compat_64 - diff_code)",
    ".code64",
    "diff_compat_64: ret",
    ".balign 8, 0xcc",
    "diff_compat_pointer: .long {code} + (diff_compat_32 - diff_code)",
    ".word 0x23",
    // By the 32-bit vDSO: a call of something in it, whose address the program leaves in memory;
    // by the one data segment that a 64-bit program has.
    ".balign 16, 0xcc",
    "diff_pad: ljmpl *diff_pad_pointer(%rip)",
    ".code32",
    "diff_pad_32: call *%ss:{pad}",
    "diff_back_32: ljmp $0x33, ${code} + (diff_compat_64 - diff_code)",
    // As __kernel_vsyscall does it, from elsewhere. Each kind of processor knows one of the two.
    "diff_syscall_32: push ${code} + (diff_back_32 - diff_code)",
    "push %ecx; push %edx; push %ebp; mov %ecx, %ebp",
    ".byte 0x0f, 0x05",
    "diff_sysenter_32: push ${code} + (diff_back_32 - diff_code)",
    "push %ecx; push %edx; push %ebp; mov %esp, %ebp",
    ".byte 0x0f, 0x34",
    ".code64",
    "diff_fast: ljmpl *diff_syscall_pointer(%rip)",
    "diff_fast_other: ljmpl *diff_sysenter_pointer(%rip)",
    ".balign 8, 0xcc",
    "diff_pad_pointer: .long {code} + (diff_pad_32 - diff_code)",
    ".word 0x23",
    "diff_syscall_pointer: .long {code} + (diff_syscall_32 - diff_code)",
    ".word 0x23",
    "diff_sysenter_pointer: .long {code} + (diff_sysenter_32 - diff_code)",
    ".word 0x23",
    ".balign 16, 0xcc",
    "diff_far: mov $15, %eax",
    "syscall",
    "diff_far_after: ud2",
    ".balign 16, 0xcc",
    "diff_far_x32: mov ${x32_sigreturn}, %eax",
    "syscall",
    "diff_far_x32_after: ud2",
    ".balign 16, 0xcc",
    "diff_probe: syscall",
    "diff_probe_after: int3; ret",
    ".balign 16, 0xcc",
    "diff_foreign_end:",
    // Where a handler may let its thread go on.
    "diff_land: ret",
    // The handler of x32 signals has an address of 32 bits.
    ".balign 16, 0xcc",
    "diff_x32_handler: jmp *{x32_handler}",
    "diff_code_end:",
    code = const CODE,
    pad = const PAD,
    x32_handler = const X32_HANDLER,
    x32_sigreturn = const crate::sys::X32 | 513,
    options(att_syntax)
);

// How Rust gets there and back. `diff_enter(call)` loads the registers of a `Call`, flags
// included, "returns" to its target, and comes back through `diff_leave`, which stores the
// registers as they are then. All that it needs to find its way is on the stack, which the
// target leaves alone. With `step` set it traps on the way, so that a tracer can begin to step.
global_asm!(
    ".globl diff_enter, diff_step_after, diff_jump, diff_meet, diff_meet_after, diff_on_stack",
    ".globl diff_child, diff_sibling",
    ".text",
    "diff_enter:",
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; pushfq",
    "push %rdi",
    "mov %rsp, {stack}(%rdi)",
    "lea diff_leave(%rip), %rax; push %rax",
    "pushq {target}(%rdi)",
    "cmpq $0, {step}(%rdi)",
    "je 1f",
    "lea diff_step(%rip), %rax; push %rax",
    "1: pushq 120(%rdi)",
    "mov 0(%rdi), %rax; mov 8(%rdi), %rbx; mov 16(%rdi), %rcx; mov 24(%rdi), %rdx",
    "mov 32(%rdi), %rsi; mov 48(%rdi), %rbp; mov 56(%rdi), %r8; mov 64(%rdi), %r9",
    "mov 72(%rdi), %r10; mov 80(%rdi), %r11; mov 88(%rdi), %r12; mov 96(%rdi), %r13",
    "mov 104(%rdi), %r14; mov 112(%rdi), %r15; mov 40(%rdi), %rdi",
    "popfq",
    "ret",
    "diff_step: int3",
    "diff_step_after: ret",
    "diff_leave: push %rdi",
    "mov 8(%rsp), %rdi",
    "pushfq; popq {out}+120(%rdi)",
    "mov %rax, {out}+0(%rdi); mov %rbx, {out}+8(%rdi); mov %rcx, {out}+16(%rdi)",
    "mov %rdx, {out}+24(%rdi); mov %rsi, {out}+32(%rdi); mov %rbp, {out}+48(%rdi)",
    "mov %r8, {out}+56(%rdi); mov %r9, {out}+64(%rdi); mov %r10, {out}+72(%rdi)",
    "mov %r11, {out}+80(%rdi); mov %r12, {out}+88(%rdi); mov %r13, {out}+96(%rdi)",
    "mov %r14, {out}+104(%rdi); mov %r15, {out}+112(%rdi)",
    "popq {out}+40(%rdi)",
    "pop %rax",
    "popfq; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx",
    "ret",
    // Out of a signal handler, back to where `diff_enter` was called: a longjmp.
    "diff_jump: mov {stack}(%rdi), %rsp",
    "movq $1, {jumped}(%rdi)",
    "jmp diff_leave",
    // Where the tracer and its subject meet.
    "diff_meet: int3",
    "diff_meet_after: ret",
    // Runs `function(argument)` on another stack. It does not come back.
    "diff_on_stack: mov %rdi, %rax",
    "mov %rsi, %rdi",
    "mov %rdx, %rsp",
    "xor %ebp, %ebp",
    "call *%rax",
    "ud2",
    // Where a child with a stack of its own begins.
    "diff_child: and $-16, %rsp",
    "xor %ebp, %ebp",
    "call {child}",
    "ud2",
    // The same for the sibling.
    "diff_sibling: and $-16, %rsp",
    "xor %ebp, %ebp",
    "call {sibling}",
    "ud2",
    target = const std::mem::offset_of!(Call, target),
    step = const std::mem::offset_of!(Call, step),
    stack = const std::mem::offset_of!(Call, stack),
    jumped = const std::mem::offset_of!(Call, jumped),
    out = const std::mem::offset_of!(Call, out),
    child = sym crate::subject::child_main,
    sibling = sym crate::sibling::sibling_main,
    options(att_syntax)
);

extern "C" {
    static diff_step_after: u8;
    static diff_meet_after: u8;
    static diff_child: u8;
    static diff_sibling: u8;

    fn diff_enter(call: *mut Call);
    fn diff_jump(call: *mut Call) -> !;
    fn diff_meet();
    fn diff_on_stack(function: usize, argument: usize, stack: u64) -> !;
}

/// The general registers and the flags.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub flags: u64,
}

impl Registers {
    pub fn named(&self) -> [(&'static str, u64); 16] {
        [
            ("rax", self.rax),
            ("rbx", self.rbx),
            ("rcx", self.rcx),
            ("rdx", self.rdx),
            ("rsi", self.rsi),
            ("rdi", self.rdi),
            ("rbp", self.rbp),
            ("r8", self.r8),
            ("r9", self.r9),
            ("r10", self.r10),
            ("r11", self.r11),
            ("r12", self.r12),
            ("r13", self.r13),
            ("r14", self.r14),
            ("r15", self.r15),
            ("flags", self.flags),
        ]
    }

    /// Those that a handler finds.
    pub fn load(context: &UContext) -> Self {
        Self {
            rax: context.rax,
            rbx: context.rbx,
            rcx: context.rcx,
            rdx: context.rdx,
            rsi: context.rsi,
            rdi: context.rdi,
            rbp: context.rbp,
            r8: context.r8,
            r9: context.r9,
            r10: context.r10,
            r11: context.r11,
            r12: context.r12,
            r13: context.r13,
            r14: context.r14,
            r15: context.r15,
            flags: context.eflags,
        }
    }

    /// The reverse of `load()`.
    pub fn store(&self, context: &mut UContext) {
        context.rax = self.rax;
        context.rbx = self.rbx;
        context.rcx = self.rcx;
        context.rdx = self.rdx;
        context.rsi = self.rsi;
        context.rdi = self.rdi;
        context.rbp = self.rbp;
        context.r8 = self.r8;
        context.r9 = self.r9;
        context.r10 = self.r10;
        context.r11 = self.r11;
        context.r12 = self.r12;
        context.r13 = self.r13;
        context.r14 = self.r14;
        context.r15 = self.r15;
        context.eflags = self.flags;
    }
}

/// A way into the kernel: the registers before and after, and how to get there.
#[repr(C)]
#[derive(Default)]
pub struct Call {
    pub registers: Registers,
    pub out: Registers,
    pub target: u64,
    pub step: u64,
    pub stack: u64,
    pub jumped: u64,
}

impl Call {
    /// # Safety
    ///
    /// The target must return as a function does, and what the kernel does to memory with these
    /// registers must be sound.
    pub unsafe fn enter(&mut self) {
        // SAFETY: `diff_enter` saves what the calling convention demands; the rest is up to the
        // caller.
        unsafe { diff_enter(self) }
    }
}

/// Leaves a signal handler for where `call` was entered.
///
/// # Safety
///
/// `call` must be under way on the stack.
pub unsafe fn jump(call: *mut Call) -> ! {
    // SAFETY: By the safety requirements, `stack` is what `diff_enter` left in it.
    unsafe { diff_jump(call) }
}

/// Stops for the tracer.
pub fn meet() {
    // SAFETY: A trap that the tracer takes.
    unsafe { diff_meet() }
}

/// Runs `function(argument)` on the stack that ends at `stack`.
pub fn on_stack(function: extern "C" fn(usize) -> !, argument: usize, stack: u64) -> ! {
    // SAFETY: The stack belongs to us and is not in use.
    unsafe { diff_on_stack(function as *const () as usize, argument, stack) }
}

/// The address of a symbol of the text of this program.
macro_rules! text {
    ($symbol:ident) => {
        &raw const $symbol as u64
    };
}

/// Where the subject stops in `meet()`, as its tracer sees it.
pub fn meeting_point() -> u64 {
    text!(diff_meet_after)
}

/// Where the subject stops to be stepped from.
pub fn stepping_point() -> u64 {
    text!(diff_step_after)
}

/// Where a child with a stack of its own begins.
pub fn child_start() -> u64 {
    text!(diff_child)
}

/// Where the sibling begins.
pub fn sibling_start() -> u64 {
    text!(diff_sibling)
}
