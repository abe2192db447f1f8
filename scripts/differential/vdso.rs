// SPDX-License-Identifier: GPL-2.0

//! The vDSO: what is in the one that the process has, and how to exchange it for the one of 32-bit
//! programs, whose addresses the kernel treats specially.

use crate::{
    arena::VDSO32,
    sys::{self, *},
};
use std::{fs, ops::Range, sync::OnceLock};

/// Where the vDSO of this process is, with its data, and its function that makes a syscall when it
/// does not know the clock.
pub struct Own {
    mappings: Vec<(u64, u64)>,
    /// Its code differs between compilers.
    pub image: Range<u64>,
    /// How much data lies before the image.
    data: u64,
    pub clock_gettime: u64,
}

impl Own {
    /// An address of which there are only 32 bits: if it can be one in the vDSO, it is.
    pub fn widen(&self, address: u32) -> u64 {
        let (address, upper) = (u64::from(address), self.image.start >> 32 << 32);
        match self.image.contains(&(upper | address)) {
            true => upper | address,
            false => address,
        }
    }
}

/// The entry points of the 32-bit vDSO.
#[derive(Clone, Copy, Default)]
pub struct Entries {
    pub vsyscall: u64,
    /// The syscall instructions of the two trampolines of signal handlers.
    pub sigreturn: u64,
    pub rt_sigreturn: u64,
}

fn read(address: u64, size: u64) -> u64 {
    let mut bytes = [0; 8];
    for (index, byte) in bytes.iter_mut().take(size as usize).enumerate() {
        // SAFETY: The callers read within an image that is mapped.
        *byte = unsafe { ((address + index as u64) as *const u8).read_volatile() };
    }
    u64::from_le_bytes(bytes)
}

/// The address of a symbol of an image at `base`, of either class. It does not allocate.
fn symbol(base: u64, name: &[u8]) -> Option<u64> {
    const PT_DYNAMIC: u64 = 2;
    const DT_STRTAB: u64 = 5;
    const DT_SYMTAB: u64 = 6;
    let wide = read(base + 4, 1) == 2;
    let word = if wide { 8 } else { 4 };
    let (headers, size, count) = match wide {
        true => (read(base + 32, 8), read(base + 54, 2), read(base + 56, 2)),
        false => (read(base + 28, 4), read(base + 42, 2), read(base + 44, 2)),
    };
    let mut dynamic = (0..count)
        .map(|index| base + headers + index * size)
        .find(|header| read(*header, 4) == PT_DYNAMIC)
        .map(|header| {
            base + if wide {
                read(header + 8, 8)
            } else {
                read(header + 4, 4)
            }
        })?;
    let (mut strings, mut symbols) = (0, 0);
    loop {
        match (read(dynamic, word), read(dynamic + word, word)) {
            (0, _) => break,
            (DT_STRTAB, offset) => strings = base + offset,
            (DT_SYMTAB, offset) => symbols = base + offset,
            _ => {}
        }
        dynamic += 2 * word;
    }
    // The linker puts the strings behind the symbols.
    let size = if wide { 24 } else { 16 };
    (symbols..strings).step_by(size).find_map(|symbol| {
        let text = strings + read(symbol, 4);
        let equal = |(index, byte): (usize, &u8)| read(text + index as u64, 1) == u64::from(*byte);
        let value = if wide {
            read(symbol + 8, 8)
        } else {
            read(symbol + 4, 4)
        };
        name.iter().enumerate().all(equal).then_some(base + value)
    })
}

/// What this process has. Asked for first by the worker, which may allocate.
pub fn own() -> &'static Own {
    static OWN: OnceLock<Own> = OnceLock::new();
    OWN.get_or_init(|| {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let range = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            Some((number(start)?, number(end)?))
        };
        let named = |name| {
            maps.lines()
                .filter(move |line| line.contains(name))
                .filter_map(range)
        };
        let (image, end) = named("[vdso]").next().unzip();
        let mappings: Vec<_> = named("[vdso]").chain(named("[vvar")).collect();
        let start = mappings.iter().map(|(start, _)| *start).min();
        let symbol = |base| symbol(base, b"__vdso_clock_gettime\0");
        Own {
            mappings,
            image: image.unwrap_or(0)..end.unwrap_or(0),
            data: image.zip(start).map_or(0, |(image, start)| image - start),
            clock_gettime: image.and_then(symbol).unwrap_or(0),
        }
    })
}

/// Exchanges the vDSO of the process. The trampolines are changed so that they return, whatever
/// their syscalls did.
pub fn exchange() -> Option<Entries> {
    const ARCH_MAP_VDSO_32: u64 = 0x2002;
    const RET: u8 = 0xc3;
    for (start, end) in &own().mappings {
        // SAFETY: Whoever calls does not use the clock any more.
        unsafe { sys::call(SYS_MUNMAP, &[*start, end - start]) };
    }
    // SAFETY: It is mapped where nothing is.
    let size = unsafe { sys::call(SYS_ARCH_PRCTL, &[ARCH_MAP_VDSO_32, VDSO32]) };
    let size = u64::try_from(size).ok()?;
    // The data is the same for all images.
    let base = VDSO32 + own().data;
    let entries = Entries {
        vsyscall: symbol(base, b"__kernel_vsyscall\0")?,
        // pop %eax; mov $119, %eax
        sigreturn: symbol(base, b"__kernel_sigreturn\0")? + 6,
        // mov $173, %eax
        rt_sigreturn: symbol(base, b"__kernel_rt_sigreturn\0")? + 5,
    };
    let prot = PROT_READ | PROT_WRITE | PROT_EXEC;
    // SAFETY: The pages are the image's, of which the process gets a copy of its own. What is
    // behind the instructions is never executed otherwise.
    unsafe {
        if sys::call(SYS_MPROTECT, &[base, size, prot]) != 0 {
            return None;
        }
        for instruction in [entries.sigreturn, entries.rt_sigreturn] {
            ((instruction + 2) as *mut u8).write_volatile(RET);
        }
    }
    Some(entries)
}
