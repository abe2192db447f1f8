// SPDX-License-Identifier: GPL-2.0

//! The syscalls of programs: their numbers and registers, and the structures in memory.

use crate::{arena::*, handler, log, program::*, subject, sys::*};
use std::{ptr, sync::atomic::Ordering::Relaxed};

/// The layout of `struct sigaction` as the kernel has it.
#[repr(C)]
pub struct KernelAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// The same for x32.
#[repr(C, packed(4))]
struct X32Action {
    handler: u32,
    flags: u32,
    restorer: u32,
    mask: u64,
}

/// Where the structures of syscalls lie in the scratch page.
pub mod scratch {
    use crate::arena::SCRATCH;

    pub const ACTION: u64 = SCRATCH;
    pub const SET: u64 = SCRATCH + 0x40;
    pub const STACK: u64 = SCRATCH + 0x80;
    pub const TIME: u64 = SCRATCH + 0xc0;
    /// Of 32 bits.
    pub const TIME32: u64 = SCRATCH + 0xe0;
    pub const INFO: u64 = SCRATCH + 0x100;
    pub const POLL: u64 = SCRATCH + 0x200;
    pub const PATH: u64 = SCRATCH + 0x240;
    pub const FILTER: u64 = SCRATCH + 0x340;
    pub const BUFFER: u64 = SCRATCH + 0x400;
}

/// Writes a structure to the scratch page.
pub fn put<T>(address: u64, value: T) {
    // SAFETY: The scratch page is mapped for good, the kernel is its only other user, and the
    // places in it are aligned and far enough apart.
    unsafe { (address as *mut T).write_volatile(value) }
}

pub fn kernel_action(disposition: Disposition, flags: u64, mask: u64) -> KernelAction {
    let handler = match disposition {
        Disposition::Near | Disposition::Far => handler::handler as *const () as u64,
        Disposition::Ignore => 1,
        Disposition::Default => 0,
    };
    KernelAction {
        handler,
        flags: flags | SA_SIGINFO | SA_RESTORER,
        restorer: restorer(matches!(disposition, Disposition::Near)),
        mask,
    }
}

fn x32_action(disposition: Disposition, flags: u64, mask: u64) -> X32Action {
    let action = kernel_action(disposition, flags, mask);
    X32Action {
        handler: match disposition {
            Disposition::Near | Disposition::Far => x32_handler() as u32,
            _ => action.handler as u32,
        },
        flags: action.flags as u32,
        restorer: x32_restorer(matches!(disposition, Disposition::Near)) as u32,
        mask,
    }
}

/// The number of `prctl()`. In an x32 syscall addresses are as wide as in any other.
fn prctl(site: Site, x32: bool) -> u64 {
    match (site.is_i386(), x32) {
        (true, _) => SYS32_PRCTL,
        (false, false) => SYS_PRCTL,
        (false, true) => X32 | SYS_PRCTL,
    }
}

/// Puts the structures of a syscall in place. Returns its number and its arguments, or nothing if
/// it cannot be made now.
pub fn prepare(syscall: &Syscall, site: Site) -> Option<(u64, [u64; 6])> {
    let arguments = |given: &[u64]| {
        let mut all = [0; 6];
        all[..given.len()].copy_from_slice(given);
        all
    };
    Some(match syscall {
        Syscall::Plain {
            rax,
            arguments: given,
        } => (*rax, arguments(given)),
        Syscall::Arm {
            config:
                SudConfig {
                    mode,
                    selector,
                    offset,
                    len,
                },
            x32,
        } => (
            prctl(site, *x32),
            arguments(&[
                PR_SET_SYSCALL_USER_DISPATCH,
                *mode,
                *offset,
                *len,
                *selector,
            ]),
        ),
        Syscall::Upcall { handler, rest, x32 } => (
            prctl(site, *x32),
            arguments(&[
                PR_SET_SYSCALL_USER_DISPATCH,
                PR_SYS_DISPATCH_UPCALL,
                handler.address(),
                rest[0],
                rest[1],
            ]),
        ),
        Syscall::Action {
            signal,
            disposition,
            flags,
            mask,
            x32,
        } => {
            let number = if *x32 {
                put(scratch::ACTION, x32_action(*disposition, *flags, *mask));
                SYS_X32_RT_SIGACTION
            } else {
                put(scratch::ACTION, kernel_action(*disposition, *flags, *mask));
                SYS_RT_SIGACTION
            };
            (number, arguments(&[*signal, scratch::ACTION, 0, 8]))
        }
        Syscall::Mask { how, set } => {
            put(scratch::SET, *set);
            (SYS_RT_SIGPROCMASK, arguments(&[*how, scratch::SET, 0, 8]))
        }
        Syscall::AltStack { flags, size, hole } => {
            let stack = if *hole { SELECTOR_HOLE } else { ALT_STACK };
            put(scratch::STACK, (stack, u64::from(*flags), *size));
            (SYS_SIGALTSTACK, arguments(&[scratch::STACK]))
        }
        Syscall::Raise { signal, how } => {
            let (pid, tid) = (subject::PID.load(Relaxed), subject::TID.load(Relaxed));
            match how {
                Raise::Tgkill => (SYS_TGKILL, arguments(&[pid, tid, *signal])),
                Raise::Kill => (SYS_KILL, arguments(&[pid, *signal])),
                Raise::Queue => {
                    let mut info = SigInfo::new();
                    (info.signo, info.code, info.addr) = (*signal as i32, -1, 0);
                    put(scratch::INFO, info);
                    (
                        SYS_RT_SIGQUEUEINFO,
                        arguments(&[pid, *signal, scratch::INFO]),
                    )
                }
            }
        }
        Syscall::Poll { mask } => {
            put(scratch::SET, *mask);
            put(scratch::TIME, [0u64; 2]);
            (
                SYS_PPOLL,
                arguments(&[0, 0, scratch::TIME, scratch::SET, 8]),
            )
        }
        Syscall::Clone { flags, body } => {
            let shared = shared();
            let child = shared.child_count.load(Relaxed) as usize;
            if child >= shared.children.len() {
                log!("  skipped: too many children");
                return None;
            }
            shared.child_count.store(child as u32 + 1, Relaxed);
            subject::BODY.store(ptr::from_ref(body).cast_mut(), Relaxed);
            subject::FLAGS.store(*flags, Relaxed);
            subject::CHILD_TID.store(0, Relaxed);
            let stack = if flags & CLONE_VM != 0 {
                let top = CHILD_STACK + STACK_SIZE - 16;
                // SAFETY: The stack is mapped, and no child uses it now: its parent would wait.
                unsafe { (top as *mut u64).write_volatile(child_start()) };
                top
            } else {
                0
            };
            let parent_tid = shared.children[child].as_ptr() as u64;
            let flags = flags | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID;
            (
                SYS_CLONE,
                arguments(&[flags, stack, parent_tid, subject::CHILD_TID.as_ptr() as u64]),
            )
        }
        Syscall::Exec(exec) => {
            let path = match exec {
                Exec::Tiny => c"/proc/self/fd/43",
                Exec::Garbage => c"/proc/self/fd/44",
                Exec::Missing => c"/nonexistent",
                Exec::TinyAt | Exec::BadPointer => c"",
            };
            let path = path.to_bytes_with_nul();
            // SAFETY: The scratch page has room for the path.
            unsafe {
                ptr::copy_nonoverlapping(path.as_ptr(), scratch::PATH as *mut u8, path.len())
            };
            match exec {
                // AT_EMPTY_PATH
                Exec::TinyAt => (
                    SYS_EXECVEAT,
                    arguments(&[FD_TINY, scratch::PATH, 0, 0, 0x1000]),
                ),
                Exec::BadPointer => (SYS_EXECVE, arguments(&[SELECTOR_HOLE])),
                _ => (SYS_EXECVE, arguments(&[scratch::PATH])),
            }
        }
        Syscall::Protect { prot } => (SYS_MPROTECT, arguments(&[SELECTOR_DYNAMIC, PAGE, *prot])),
        Syscall::Map => {
            let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
            let fd = u64::MAX;
            let prot = PROT_READ | PROT_WRITE;
            (
                SYS_MMAP,
                arguments(&[SELECTOR_DYNAMIC, PAGE, prot, flags, fd]),
            )
        }
        Syscall::Unmap => (SYS_MUNMAP, arguments(&[SELECTOR_DYNAMIC, PAGE])),
        Syscall::Block(block) => {
            if shared().traced.load(Relaxed) == 0 {
                log!("  skipped: nobody would wake us");
                return None;
            }
            put(scratch::SET, 0u64);
            let time = match block {
                // Long next to what a busy machine takes from one stop to the next.
                Block::Nap => [0, 500_000_000],
                _ => [100, 0],
            };
            put(scratch::TIME, time);
            put(scratch::TIME32, time.map(|part: u64| part as u32));
            put(FUTEX, 0u64);
            // POLLIN
            put(scratch::POLL, [FD_PIPE_READ as u32, 1]);
            let time = if site.is_i386() {
                scratch::TIME32
            } else {
                scratch::TIME
            };
            let given: &[u64] = match block {
                Block::Read => &[FD_PIPE_READ, scratch::BUFFER, 1],
                Block::Poll => &[scratch::POLL, 1, 100_000],
                Block::Sleep | Block::Nap => &[time, 0],
                Block::Futex => &[FUTEX, 0, 0, time],
                Block::FutexOnly => &[FUTEX, 0, 0, 0],
                Block::Suspend => &[scratch::SET, 8],
                Block::Pause => &[],
            };
            (block.number(site.is_i386()), arguments(given))
        }
        Syscall::Filter { number, action } => {
            // Load the number; unless it is ours, skip the action and allow.
            let program: [u64; 4] = [
                0x20,
                0x15 | 1 << 24 | u64::from(*number) << 32,
                0x06 | u64::from(*action) << 32,
                0x06 | 0x7fff_0000 << 32,
            ];
            put(scratch::FILTER + 0x10, program);
            put(scratch::FILTER, (4u64, scratch::FILTER + 0x10));
            (SYS_SECCOMP, arguments(&[1, 0, scratch::FILTER]))
        }
    })
}

/// The registers for a syscall, with a pattern in those that have no part in it.
pub fn registers(operation: &Enter, rax: u64, a: [u64; 6]) -> Registers {
    let site = operation.site;
    let pattern = |i: u64| operation.pattern.rotate_left(i as u32 * 7) ^ (0x11 * i);
    let low = |value: u64| {
        if site.is_32bit() {
            value & 0xffff_ffff
        } else {
            value
        }
    };
    let mut all = Registers {
        rax,
        rbx: low(pattern(1)),
        rcx: low(pattern(2)),
        rdx: low(pattern(3)),
        rsi: low(pattern(4)),
        rdi: low(pattern(5)),
        rbp: low(pattern(6)),
        r8: pattern(7),
        r9: pattern(8),
        r10: pattern(9),
        r11: pattern(10),
        r12: pattern(11),
        r13: pattern(12),
        r14: pattern(13),
        r15: pattern(14),
        flags: operation.flags,
    };
    if site.is_i386() {
        all.rax = low(rax);
        [all.rbx, all.rcx, all.rdx, all.rsi, all.rdi, all.rbp] = a.map(low);
    } else {
        [all.rdi, all.rsi, all.rdx, all.r10, all.r8, all.r9] = a;
    }
    if site.is_function() {
        [all.rdi, all.rsi, all.rdx] = [0; 3];
    }
    if site == Site::Vdso {
        // A clock that does not exist.
        [all.rdi, all.rsi] = [99, scratch::BUFFER];
    }
    all
}
