// SPDX-License-Identifier: GPL-2.0

//! The arena: everything whose address matters, at addresses that never change.
//!
//! The code that enters the kernel is copied to fixed addresses below 4 GiB, so that 32-bit code
//! can be part of it, so that regions can be written down as numbers, and so that two kernels see
//! the very same addresses.

use crate::{
    sys::{self, *},
    vdso,
};
use std::{
    arch::{global_asm, x86_64::__cpuid},
    fmt, ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The syscall instructions and what goes with them.
pub const CODE: u64 = 0x2000_0000;
const CODE_SIZE: u64 = 0x1000;
/// Two pages around 2^32, with a syscall instruction that ends there.
pub const BORDER: u64 = 0xffff_f000;
pub const FOUR_GIB: u64 = 1 << 32;

/// Shared between the subject and its worker.
pub const SHARED: u64 = 0x3000_0000;

/// Pages for selectors, each of its own kind.
pub const SELECTORS: u64 = 0x4000_0000;
pub const PAGE: u64 = 0x1000;

/// The stacks of the subject, of a child that it makes, and the alternate one of its signals. They
/// lie low because 32-bit code runs on them, too.
pub const STACK: u64 = 0x5000_0000;
pub const STACK_SIZE: u64 = 0x4_0000;
pub const CHILD_STACK: u64 = 0x5010_0000;
pub const ALT_STACK: u64 = 0x5020_0000;

/// Where syscalls find and leave their structures.
pub const SCRATCH: u64 = 0x6000_0000;
/// Where the code finds what to call in the 32-bit vDSO.
pub const PAD: u64 = SCRATCH + 0xf00;

/// What the processes of the stress test share.
pub const WORLD: u64 = 0x3800_0000;

/// Where the vDSO of 32-bit programs is mapped, for a subject that wants it, and room for it.
pub const VDSO32: u64 = 0x7000_0000;
const VDSO32_SIZE: u64 = 0x10 * PAGE;

/// File descriptors that the subject finds open.
pub const FD_PIPE_READ: u64 = 40;
pub const FD_PIPE_WRITE: u64 = 41;
pub const FD_TINY: u64 = 43;
pub const FD_GARBAGE: u64 = 44;

// The code, position independent but for the far jumps. Each label `x_after` is the address that
// the kernel sees: behind the instruction.
global_asm!(
    ".globl diff_code, diff_gate, diff_gate_after, diff_near, diff_near_after, diff_gate_end",
    ".globl diff_f0, diff_f0_after, diff_f1, diff_f1_after, diff_int, diff_int_after",
    ".globl diff_compat, diff_compat_32, diff_compat_after, diff_far, diff_far_after",
    ".globl diff_pad, diff_fast, diff_fast_other, diff_foreign_end, diff_land, diff_code_end",
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
    "diff_foreign_end:",
    // Where a handler may let its thread go on.
    "diff_land: ret",
    "diff_code_end:",
    code = const CODE,
    pad = const PAD,
    options(att_syntax)
);

// How Rust gets there and back. `diff_enter(call)` loads the registers of a `Call`, flags
// included, "returns" to its target, and comes back through `diff_leave`, which stores the
// registers as they are then. All that it needs to find its way is on the stack, which the
// target leaves alone. With `step` set it traps on the way, so that a tracer can begin to step.
global_asm!(
    ".globl diff_enter, diff_step_after, diff_jump, diff_meet, diff_meet_after, diff_on_stack",
    ".globl diff_child",
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
    target = const std::mem::offset_of!(Call, target),
    step = const std::mem::offset_of!(Call, step),
    stack = const std::mem::offset_of!(Call, stack),
    jumped = const std::mem::offset_of!(Call, jumped),
    out = const std::mem::offset_of!(Call, out),
    child = sym crate::subject::child_main,
    options(att_syntax)
);

extern "C" {
    static diff_code: u8;
    static diff_gate: u8;
    static diff_gate_after: u8;
    static diff_near: u8;
    static diff_near_after: u8;
    static diff_gate_end: u8;
    static diff_f0: u8;
    static diff_f0_after: u8;
    static diff_f1: u8;
    static diff_f1_after: u8;
    static diff_int: u8;
    static diff_int_after: u8;
    static diff_compat: u8;
    static diff_compat_32: u8;
    static diff_compat_after: u8;
    static diff_pad: u8;
    static diff_fast: u8;
    static diff_fast_other: u8;
    static diff_far: u8;
    static diff_far_after: u8;
    static diff_foreign_end: u8;
    static diff_land: u8;
    static diff_code_end: u8;
    static diff_step_after: u8;
    static diff_meet_after: u8;
    static diff_child: u8;

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

/// The address in the arena of a symbol of the code.
macro_rules! arena {
    ($symbol:ident) => {
        CODE + (&raw const $symbol as u64 - &raw const diff_code as u64)
    };
}

/// A place with a syscall instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// SYSCALL in the gate, and in two foreign places.
    Gate,
    F0,
    F1,
    /// SYSCALL that ends at 2^32.
    Border,
    /// INT 0x80 in 64-bit code, and in 32-bit code.
    Int,
    Compat,
    /// The 32-bit vDSO: its entry to the kernel, a fast syscall from elsewhere that returns there,
    /// and the trampolines of signal handlers.
    Pad,
    Fast,
    Sigreturn,
    RtSigreturn,
    /// The 64-bit vDSO, where it cannot answer by itself.
    Vdso,
    /// The vsyscall page: `gettimeofday()` and `getcpu()`.
    VsyscallTime,
    VsyscallCpu,
}

impl Site {
    pub const SYSCALL: [Site; 4] = [Site::Gate, Site::F0, Site::F1, Site::Border];

    /// Whether the i386 table of syscalls applies.
    pub fn is_i386(self) -> bool {
        self == Site::Int || self.is_32bit()
    }

    /// Whether the code runs in 32-bit mode.
    pub fn is_32bit(self) -> bool {
        self == Site::Compat || self.is_vdso32()
    }

    /// Whether it needs the 32-bit vDSO.
    pub fn is_vdso32(self) -> bool {
        matches!(
            self,
            Site::Pad | Site::Fast | Site::Sigreturn | Site::RtSigreturn
        )
    }

    /// Whether the kernel offers it as a function, which has its own number and registers.
    pub fn is_function(self) -> bool {
        matches!(self, Site::Vdso | Site::VsyscallTime | Site::VsyscallCpu)
    }

    pub fn name(self) -> &'static str {
        match self {
            Site::Gate => "gate",
            Site::F0 => "f0",
            Site::F1 => "f1",
            Site::Border => "border",
            Site::Int => "int",
            Site::Compat => "compat",
            Site::Pad => "pad",
            Site::Fast => "fast",
            Site::Sigreturn => "sigreturn",
            Site::RtSigreturn => "rt-sigreturn",
            Site::Vdso => "vdso",
            Site::VsyscallTime => "vsyscall-time",
            Site::VsyscallCpu => "vsyscall-cpu",
        }
    }

    pub fn entry(self) -> u64 {
        match self {
            Site::Gate => arena!(diff_gate),
            Site::F0 => arena!(diff_f0),
            Site::F1 => arena!(diff_f1),
            Site::Border => FOUR_GIB - 2,
            Site::Int => arena!(diff_int),
            Site::Compat => arena!(diff_compat),
            Site::Pad | Site::Sigreturn | Site::RtSigreturn => arena!(diff_pad),
            Site::Fast if is_intel() => arena!(diff_fast_other),
            Site::Fast => arena!(diff_fast),
            Site::Vdso => vdso::own().clock_gettime,
            Site::VsyscallTime => 0xffff_ffff_ff60_0000,
            Site::VsyscallCpu => 0xffff_ffff_ff60_0800,
        }
    }

    /// The address that the kernel sees, of an instruction in the arena.
    pub fn after(self) -> u64 {
        match self {
            Site::Gate => arena!(diff_gate_after),
            Site::F0 => arena!(diff_f0_after),
            Site::F1 => arena!(diff_f1_after),
            Site::Border => FOUR_GIB,
            Site::Int => arena!(diff_int_after),
            Site::Compat => arena!(diff_compat_after),
            _ => self.entry(),
        }
    }
}

/// The restorer within the gate, and the one outside.
pub fn restorer(near: bool) -> u64 {
    if near {
        arena!(diff_near)
    } else {
        arena!(diff_far)
    }
}

/// Whether `address` is in a restorer.
pub fn is_restorer(address: u64) -> bool {
    [true, false]
        .iter()
        .any(|near| (restorer(*near)..=restorer_after(*near)).contains(&address))
}

/// The address that the kernel sees of a restorer.
pub fn restorer_after(near: bool) -> u64 {
    if near {
        arena!(diff_near_after)
    } else {
        arena!(diff_far_after)
    }
}

pub fn gate() -> (u64, u64) {
    (arena!(diff_gate), arena!(diff_gate_end))
}

pub fn foreign() -> (u64, u64) {
    (arena!(diff_f0), arena!(diff_foreign_end))
}

pub fn land() -> u64 {
    arena!(diff_land)
}

/// Whether `address` is in code whose registers may be changed at will.
pub fn is_code(address: u64) -> bool {
    address.wrapping_sub(CODE) < CODE_SIZE
        || address.wrapping_sub(BORDER) < 2 * PAGE
        || is_vdso32(address)
}

/// Whether `address` is in the 32-bit vDSO, which has what it returns by on the stack.
pub fn is_vdso32(address: u64) -> bool {
    address.wrapping_sub(VDSO32) < VDSO32_SIZE
}

/// Whether the fast 32-bit syscall of this processor is SYSENTER, rather than SYSCALL.
fn is_intel() -> bool {
    // SAFETY: There is no x86-64 processor without CPUID. (Newer compilers know.)
    #[allow(unused_unsafe)]
    let vendor = unsafe { __cpuid(0) }.ebx;
    // "Genu"
    vendor == 0x756e_6547
}

/// The places that selectors can be at.
pub const SELECTOR_RW: u64 = SELECTORS;
/// The last byte before a page without access.
pub const SELECTOR_LAST: u64 = SELECTORS + PAGE - 1;
pub const SELECTOR_NONE: u64 = SELECTORS + PAGE;
/// A page that can only be read, which holds its offsets: 0, 1, 2, ..., 255.
pub const SELECTOR_RO: u64 = SELECTORS + 2 * PAGE;
pub const SELECTOR_HOLE: u64 = SELECTORS + 3 * PAGE;
/// A page for the program to map, protect and unmap.
pub const SELECTOR_DYNAMIC: u64 = SELECTORS + 4 * PAGE;
/// Within a file, and past its end.
pub const SELECTOR_FILE: u64 = SELECTORS + 5 * PAGE;
pub const SELECTOR_PAST_END: u64 = SELECTORS + 6 * PAGE;
/// A page that is not there before it is touched.
pub const SELECTOR_FRESH: u64 = SELECTORS + 7 * PAGE;
/// A page whose protection key forbids access, where there are such keys.
pub const SELECTOR_KEY: u64 = SELECTORS + 8 * PAGE;
/// A page in front of one without access, for structures that cross the border between them.
pub const TORN: u64 = SELECTORS + 9 * PAGE;

/// What the worker and the subject tell each other. They take turns, but for `spin`.
#[repr(C)]
pub struct Shared {
    /// The operation under way.
    pub operation: AtomicU64,
    /// Whether a tracer is there.
    pub traced: AtomicU32,
    /// Set by the subject while it waits for the worker, cleared by the worker.
    pub spin: AtomicU32,
    /// Set where the subject ends on purpose.
    pub ended: AtomicU32,
    /// Whether the present operation makes a child, whose number is then no mere number.
    pub makes_child: AtomicU32,
    /// Where the subject's 32-bit vDSO makes syscalls, if it has one: in its function for that, and
    /// in the two trampolines of signal handlers.
    pub vsyscall: AtomicU64,
    pub sigreturn: AtomicU64,
    pub rt_sigreturn: AtomicU64,
    pub children: [AtomicI32; 32],
    pub child_count: AtomicU32,
    position: AtomicU64,
    text: [std::cell::UnsafeCell<u8>; Shared::TEXT],
}

impl Shared {
    const TEXT: usize = 1 << 18;
}

pub fn shared() -> &'static Shared {
    // SAFETY: `set_up()` mapped it for good before anyone asks; all zeroes are a value, and
    // fields that change are atomic or of type `UnsafeCell`.
    unsafe { &*(SHARED as *const Shared) }
}

/// Writes to the transcript. It never allocates, and can be used wherever the subject is.
pub struct Log;

impl fmt::Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let shared = shared();
        let position = shared.position.load(Relaxed) as usize;
        let room = &shared.text[position.min(Shared::TEXT)..];
        let len = text.len().min(room.len());
        // SAFETY: There is room for it, and the worker and the subject, and the threads of the
        // subject, take turns.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), room.as_ptr() as *mut u8, len) };
        shared.position.store((position + len) as u64, Relaxed);
        Ok(())
    }
}

impl Log {
    /// Takes out what was written.
    pub fn take(&mut self, to: &mut Vec<u8>) {
        let shared = shared();
        let position = shared.position.swap(0, Relaxed) as usize;
        // SAFETY: As in `write_str()`; the subject does not run meanwhile.
        to.extend(
            shared.text[..position]
                .iter()
                .map(|cell| unsafe { *cell.get() }),
        );
    }
}

#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => {{
        use std::fmt::Write;
        // Writing to the log cannot fail.
        let _ = writeln!($crate::arena::Log, $($argument)*);
    }};
}

/// An address or value, by name where it has one, so that it reads well and does not depend on
/// where things happen to be.
pub struct Name(pub u64);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name(value) = *self;
        let named = [
            ("gate", arena!(diff_gate)),
            ("near", arena!(diff_near)),
            ("f0", arena!(diff_f0)),
            ("f1", arena!(diff_f1)),
            ("int", arena!(diff_int)),
            ("compat", arena!(diff_compat)),
            ("compat32", arena!(diff_compat_32)),
            ("pad", arena!(diff_pad)),
            ("far", arena!(diff_far)),
            ("land", arena!(diff_land)),
            ("code-end", arena!(diff_code_end)),
        ];
        if (CODE..CODE + CODE_SIZE).contains(&value) {
            let (name, start) = named
                .iter()
                .rev()
                .find(|(_, start)| *start <= value)
                .unwrap_or(&named[0]);
            return write!(f, "{name}+{}", value - start);
        }
        if is_vdso32(value) {
            // Each compiler has another order of functions.
            let shared = shared();
            let (start, name) = [
                (&shared.vsyscall, "vsyscall"),
                (&shared.sigreturn, "sigreturn"),
                (&shared.rt_sigreturn, "rt-sigreturn"),
            ]
            .map(|(start, name)| (start.load(Relaxed), name))
            .into_iter()
            .filter(|(start, _)| (VDSO32..=value).contains(start))
            .max()
            .unwrap_or((VDSO32, "vdso32"));
            return write!(f, "{name}+{}", value - start);
        }
        if value.wrapping_sub(FOUR_GIB - 2) < 4 {
            return write!(f, "border+{}", value - (FOUR_GIB - 2));
        }
        // Code and stacks of this program and its libraries.
        if (0x5000_0000_0000..1 << 47).contains(&value) {
            return f.write_str("elsewhere");
        }
        // Small negative numbers are errnos as a rule.
        if (value as i64) < 0 && (value as i64) > -0x2_0000 {
            return write!(f, "{}", value as i64);
        }
        write!(f, "{value:#x}")
    }
}

/// A return value, which may be the number of a child.
pub struct Value(pub u64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = shared();
        let is_child = |child: &AtomicI32| child.load(Relaxed) as u64 == self.0;
        if self.0 != 0
            && shared.makes_child.load(Relaxed) != 0
            && shared.children.iter().any(is_child)
        {
            return f.write_str("child");
        }
        Name(self.0).fmt(f)
    }
}

/// A program of few instructions, to be executed: it asks for the user, and exits with 42 if it
/// was told.
fn tiny_elf() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let code = [
        0xb8u8, 102, 0, 0, 0, // mov $getuid, %eax
        0x0f, 0x05, // syscall
        0x85, 0xc0, // test %eax, %eax
        0xbf, 42, 0, 0, 0, // mov $42, %edi
        0x74, 0x05, // je 1f
        0xbf, 43, 0, 0, 0, // mov $43, %edi
        0xb8, 231, 0, 0, 0, // 1: mov $exit_group, %eax
        0x0f, 0x05, // syscall
    ];
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let size = 64 + 56 + code.len() as u64;
    let words = |elf: &mut Vec<u8>, words: &[u64]| {
        words.iter().for_each(|word| elf.extend(word.to_le_bytes()))
    };
    // ET_EXEC, EM_X86_64, version 1
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    words(&mut elf, &[BASE + 64 + 56, 64, 0]);
    // No flags; sizes of the headers and their number
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    words(&mut elf, &[0, BASE, BASE, size, size, PAGE]);
    elf.extend(code);
    elf
}

/// A file in memory under a fixed descriptor.
fn file_at(fd: u64, content: &[u8]) {
    // SAFETY: The name and the content are valid, and the descriptor is one of ours.
    unsafe {
        let file = call(SYS_MEMFD_CREATE, &[c"differential".as_ptr() as u64, 0]);
        assert!(file >= 0, "memfd_create: {file}");
        call(
            SYS_WRITE,
            &[file as u64, content.as_ptr() as u64, content.len() as u64],
        );
        assert_eq!(call(SYS_DUP3, &[file as u64, fd, 0]), fd as i64);
        call(SYS_CLOSE, &[file as u64]);
    }
}

static HAS_KEYS: AtomicBool = AtomicBool::new(false);

/// Whether there are protection keys.
pub fn has_keys() -> bool {
    HAS_KEYS.load(Relaxed)
}

/// Maps the arena into the current process, whose children inherit it.
pub fn set_up() {
    let anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    let size = arena!(diff_code_end) - CODE;
    vdso::own();
    assert!(size <= CODE_SIZE);

    map_at(CODE, CODE_SIZE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(BORDER, 2 * PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    // SAFETY: The mappings are new and large enough.
    unsafe {
        ptr::copy_nonoverlapping(
            text!(diff_code) as *const u8,
            CODE as *mut u8,
            size as usize,
        );
        // syscall; ret
        ptr::copy_nonoverlapping([0x0f, 0x05, 0xc3].as_ptr(), (FOUR_GIB - 2) as *mut u8, 3);
        sys::call(SYS_MPROTECT, &[CODE, CODE_SIZE, PROT_READ | PROT_EXEC]);
        sys::call(SYS_MPROTECT, &[BORDER, 2 * PAGE, PROT_READ | PROT_EXEC]);
    }

    let shared_size = (size_of::<Shared>() as u64).next_multiple_of(PAGE);
    map_at(
        SHARED,
        shared_size,
        PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS,
        -1,
    );
    for stack in [STACK, CHILD_STACK, ALT_STACK] {
        map_at(stack, STACK_SIZE, PROT_READ | PROT_WRITE, anonymous, -1);
    }
    map_at(SCRATCH, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);

    map_at(SELECTOR_RW, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(SELECTOR_NONE, PAGE, 0, anonymous, -1);
    map_at(SELECTOR_RO, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(
        SELECTOR_DYNAMIC,
        PAGE,
        PROT_READ | PROT_WRITE,
        anonymous,
        -1,
    );
    map_at(SELECTOR_FRESH, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    // SAFETY: The pages were just mapped.
    unsafe {
        for value in 0..=255 {
            *((SELECTOR_RO + value) as *mut u8) = value as u8;
        }
        // Half of the selectors that programs use most say block from the beginning.
        *((SELECTOR_RW + 1) as *mut u8) = 1;
        *((SELECTOR_RW + 3) as *mut u8) = 1;
    }
    file_at(FD_GARBAGE, b"no program");
    file_at(FD_TINY, &tiny_elf());
    map_at(
        SELECTOR_FILE,
        2 * PAGE,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE,
        FD_GARBAGE as i64,
    );
    map_at(SELECTOR_KEY, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(TORN, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(TORN + PAGE, PAGE, 0, anonymous, -1);
    // SAFETY: The pages are ours. Without protection keys the last one just stays as it is.
    unsafe {
        sys::call(SYS_MPROTECT, &[SELECTOR_RO, PAGE, PROT_READ]);
        let key = sys::call(SYS_PKEY_ALLOC, &[0, 1]);
        if key > 0 {
            let prot = PROT_READ | PROT_WRITE;
            *((SELECTOR_KEY + 1) as *mut u8) = 1;
            sys::call(SYS_PKEY_MPROTECT, &[SELECTOR_KEY, PAGE, prot, key as u64]);
            HAS_KEYS.store(true, Relaxed);
        }
    }
}
