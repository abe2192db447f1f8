// SPDX-License-Identifier: GPL-2.0

//! The places in the code of the arena, and in what the kernel gives a program.

use crate::{
    arena::{is_vdso32, BORDER, CODE, CODE_SIZE, FOUR_GIB, PAGE},
    vdso,
};
use std::{arch::x86_64::__cpuid, slice};

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
    static diff_near_x32: u8;
    static diff_near_x32_after: u8;
    static diff_far_x32: u8;
    static diff_far_x32_after: u8;
    static diff_gate_probe: u8;
    static diff_gate_probe_after: u8;
    static diff_probe: u8;
    static diff_probe_after: u8;
    static diff_x32_handler: u8;
    static diff_foreign_end: u8;
    static diff_land: u8;
    static diff_code_end: u8;
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
    /// The same with a breakpoint behind it, in the gate and outside.
    GateProbe,
    Probe,
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
            Site::GateProbe => "gate-probe",
            Site::Probe => "probe",
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
            Site::GateProbe => arena!(diff_gate_probe),
            Site::Probe => arena!(diff_probe),
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
            Site::GateProbe => arena!(diff_gate_probe_after),
            Site::Probe => arena!(diff_probe_after),
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

/// The same for the handlers of x32 signals.
pub fn x32_restorer(near: bool) -> u64 {
    if near {
        arena!(diff_near_x32)
    } else {
        arena!(diff_far_x32)
    }
}

/// Where the handlers of x32 signals begin.
pub fn x32_handler() -> u64 {
    arena!(diff_x32_handler)
}

/// Whether `address` is where handlers begin and end.
pub fn is_of_handlers(address: u64) -> bool {
    [
        (arena!(diff_near), arena!(diff_near_after)),
        (arena!(diff_far), arena!(diff_far_after)),
        (arena!(diff_near_x32), arena!(diff_near_x32_after)),
        (arena!(diff_far_x32), arena!(diff_far_x32_after)),
        (arena!(diff_x32_handler), arena!(diff_x32_handler)),
    ]
    .iter()
    .any(|(start, end)| (*start..=*end).contains(&address))
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

/// Whether `address` is in code of a program's own, rather than where handlers begin and end.
pub fn is_own_code(address: u64) -> bool {
    is_code(address) && !is_of_handlers(address)
}

/// Whether the fast 32-bit syscall of this processor is SYSENTER, rather than SYSCALL.
fn is_intel() -> bool {
    // SAFETY: There is no x86-64 processor without CPUID. (Newer compilers know.)
    #[allow(unused_unsafe)]
    let vendor = unsafe { __cpuid(0) }.ebx;
    // "Genu"
    vendor == 0x756e_6547
}

/// The name of a place in the code, and how far it is from there.
pub fn place(address: u64) -> (&'static str, u64) {
    let named = [
        ("gate", arena!(diff_gate)),
        ("near", arena!(diff_near)),
        ("near-x32", arena!(diff_near_x32)),
        ("gate-probe", arena!(diff_gate_probe)),
        ("f0", arena!(diff_f0)),
        ("f1", arena!(diff_f1)),
        ("int", arena!(diff_int)),
        ("compat", arena!(diff_compat)),
        ("compat32", arena!(diff_compat_32)),
        ("pad", arena!(diff_pad)),
        ("far", arena!(diff_far)),
        ("far-x32", arena!(diff_far_x32)),
        ("probe", arena!(diff_probe)),
        ("land", arena!(diff_land)),
        ("x32-handler", arena!(diff_x32_handler)),
        ("code-end", arena!(diff_code_end)),
    ];
    let is_before = |(_, start): &&(_, u64)| *start <= address;
    let (name, start) = named.iter().rev().find(is_before).unwrap_or(&named[0]);
    (name, address - start)
}

/// The bytes of the code.
pub fn bytes() -> &'static [u8] {
    let size = arena!(diff_code_end) - CODE;
    // SAFETY: The code lies between its two symbols and never changes.
    unsafe { slice::from_raw_parts(&raw const diff_code, size as usize) }
}
