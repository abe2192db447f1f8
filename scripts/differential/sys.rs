// SPDX-License-Identifier: GPL-2.0

//! Raw system calls, and the numbers and layouts of the kernel's interface.
//!
//! Nothing here goes through libc: the subject must know exactly which syscalls it makes, and must
//! be able to make them on any stack and in any thread.

use std::arch::asm;

pub const SYS_WRITE: u64 = 1;
pub const SYS_CLOSE: u64 = 3;
pub const SYS_POLL: u64 = 7;
pub const SYS_MMAP: u64 = 9;
pub const SYS_MPROTECT: u64 = 10;
pub const SYS_MUNMAP: u64 = 11;
pub const SYS_RT_SIGACTION: u64 = 13;
pub const SYS_RT_SIGPROCMASK: u64 = 14;
pub const SYS_RT_SIGRETURN: u64 = 15;
pub const SYS_IOCTL: u64 = 16;
pub const SYS_READ: u64 = 0;
pub const SYS_SCHED_YIELD: u64 = 24;
pub const SYS_MADVISE: u64 = 28;
pub const SYS_PAUSE: u64 = 34;
pub const SYS_NANOSLEEP: u64 = 35;
pub const SYS_ALARM: u64 = 37;
pub const SYS_GETPID: u64 = 39;
pub const SYS_CLONE: u64 = 56;
pub const SYS_FORK: u64 = 57;
pub const SYS_EXECVE: u64 = 59;
pub const SYS_EXIT: u64 = 60;
pub const SYS_WAIT4: u64 = 61;
pub const SYS_KILL: u64 = 62;
pub const SYS_FLOCK: u64 = 73;
pub const SYS_PTRACE: u64 = 101;
pub const SYS_RT_SIGQUEUEINFO: u64 = 129;
pub const SYS_RT_SIGSUSPEND: u64 = 130;
pub const SYS_SIGALTSTACK: u64 = 131;
pub const SYS_PERSONALITY: u64 = 135;
pub const SYS_PRCTL: u64 = 157;
pub const SYS_ARCH_PRCTL: u64 = 158;
pub const SYS_SETRLIMIT: u64 = 160;
pub const SYS_GETTID: u64 = 186;
pub const SYS_TKILL: u64 = 200;
pub const SYS_FUTEX: u64 = 202;
pub const SYS_SCHED_SETAFFINITY: u64 = 203;
pub const SYS_SCHED_GETAFFINITY: u64 = 204;
pub const SYS_EXIT_GROUP: u64 = 231;
pub const SYS_TGKILL: u64 = 234;
pub const SYS_PPOLL: u64 = 271;
pub const SYS_DUP3: u64 = 292;
pub const SYS_PIPE2: u64 = 293;
pub const SYS_SECCOMP: u64 = 317;
pub const SYS_MEMFD_CREATE: u64 = 319;
pub const SYS_EXECVEAT: u64 = 322;
pub const SYS_USERFAULTFD: u64 = 323;
pub const SYS_PKEY_MPROTECT: u64 = 329;
pub const SYS_PKEY_ALLOC: u64 = 330;
pub const SYS_CLOSE_RANGE: u64 = 436;

/// The bit of x32 syscalls.
pub const X32: u64 = 0x4000_0000;
pub const SYS_X32_RT_SIGACTION: u64 = X32 | 512;
pub const SYS32_PRCTL: u64 = 172;

pub const PR_SET_PDEATHSIG: u64 = 1;
pub const PR_SET_CHILD_SUBREAPER: u64 = 36;
pub const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;
pub const PR_SYS_DISPATCH_UPCALL: u64 = 3;

pub const PTRACE_TRACEME: u64 = 0;
pub const PTRACE_POKEDATA: u64 = 5;
pub const PTRACE_CONT: u64 = 7;
pub const PTRACE_SINGLESTEP: u64 = 9;
pub const PTRACE_GETREGS: u64 = 12;
pub const PTRACE_SETREGS: u64 = 13;
pub const PTRACE_ATTACH: u64 = 16;
pub const PTRACE_DETACH: u64 = 17;
pub const PTRACE_SYSCALL: u64 = 24;
pub const PTRACE_SYSEMU: u64 = 31;
pub const PTRACE_SYSEMU_SINGLESTEP: u64 = 32;
pub const PTRACE_SETOPTIONS: u64 = 0x4200;
pub const PTRACE_GETEVENTMSG: u64 = 0x4201;
pub const PTRACE_GETSIGINFO: u64 = 0x4202;
pub const PTRACE_SEIZE: u64 = 0x4206;
pub const PTRACE_INTERRUPT: u64 = 0x4207;
pub const PTRACE_GETSIGMASK: u64 = 0x420a;
pub const PTRACE_SETSIGMASK: u64 = 0x420b;
pub const PTRACE_GET_SYSCALL_INFO: u64 = 0x420e;
pub const PTRACE_SET_SUD: u64 = 0x4210;
pub const PTRACE_GET_SUD: u64 = 0x4211;

pub const PTRACE_O_TRACESYSGOOD: u64 = 1;
pub const PTRACE_O_TRACEFORK: u64 = 2;
pub const PTRACE_O_TRACEVFORK: u64 = 4;
pub const PTRACE_O_TRACECLONE: u64 = 8;
pub const PTRACE_O_TRACEEXEC: u64 = 0x10;
pub const PTRACE_O_TRACEEXIT: u64 = 0x40;
pub const PTRACE_O_EXITKILL: u64 = 0x100000;
pub const PTRACE_O_SUSPEND_SUD: u64 = 0x400000;

pub const SIGTRAP: u64 = 5;
pub const SIGKILL: u64 = 9;
pub const SIGUSR1: u64 = 10;
pub const SIGSEGV: u64 = 11;
pub const SIGUSR2: u64 = 12;
pub const SIGCHLD: u64 = 17;
pub const SIGALRM: u64 = 14;
pub const SIGSYS: u64 = 31;

pub const SA_SIGINFO: u64 = 4;
pub const SA_RESTORER: u64 = 0x0400_0000;
pub const SA_ONSTACK: u64 = 0x0800_0000;
pub const SA_RESTART: u64 = 0x1000_0000;
pub const SA_NODEFER: u64 = 0x4000_0000;
pub const SA_RESETHAND: u64 = 0x8000_0000;

pub const CLONE_VM: u64 = 0x100;
pub const CLONE_FS: u64 = 0x200;
pub const CLONE_FILES: u64 = 0x400;
pub const CLONE_SIGHAND: u64 = 0x800;
pub const CLONE_VFORK: u64 = 0x4000;
pub const CLONE_THREAD: u64 = 0x1_0000;
pub const CLONE_SYSVSEM: u64 = 0x4_0000;
pub const CLONE_PARENT_SETTID: u64 = 0x10_0000;
pub const CLONE_CHILD_SETTID: u64 = 0x100_0000;

pub const PROT_READ: u64 = 1;
pub const PROT_WRITE: u64 = 2;
pub const PROT_EXEC: u64 = 4;
pub const MAP_SHARED: u64 = 1;
pub const MAP_PRIVATE: u64 = 2;
pub const MAP_FIXED: u64 = 0x10;
pub const MAP_ANONYMOUS: u64 = 0x20;
pub const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

pub const LOCK_SH: u64 = 1;
pub const LOCK_EX: u64 = 2;
pub const LOCK_UN: u64 = 8;

pub const EINTR: i64 = 4;

/// The signal set of all signals but SIGTRAP, by which the subject meets its tracer.
pub const ALL: u64 = !(1 << (SIGTRAP - 1));

/// The flags that arithmetic leaves.
pub const ARITHMETIC: u64 = 0x8d5;

pub const fn bit(signal: u64) -> u64 {
    1 << (signal - 1)
}

/// `struct user_regs_struct`
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct UserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// `siginfo_t`, as far as SIGSYS and the signals of faults fill it in.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct SigInfo {
    pub signo: i32,
    pub errno: i32,
    pub code: i32,
    _pad: i32,
    pub addr: u64,
    pub syscall: i32,
    pub arch: u32,
    _rest: [u64; 12],
}

impl SigInfo {
    /// Whether it is that of a dispatch which is an upcall for a thread that asked for upcalls.
    pub fn can_be_upcall(&self) -> bool {
        const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
        self.is_of_syscall() && self.code == 2 && self.arch == AUDIT_ARCH_X86_64
    }

    /// Whether it is that of a syscall: of a seccomp filter, or a dispatch.
    pub fn is_of_syscall(&self) -> bool {
        self.signo as u64 == SIGSYS && matches!(self.code, 1 | 2)
    }

    pub const fn new() -> Self {
        Self {
            signo: 0,
            errno: 0,
            code: 0,
            _pad: 0,
            addr: 0,
            syscall: 0,
            arch: 0,
            _rest: [0; 12],
        }
    }
}

/// `struct ucontext` on x86-64.
#[repr(C)]
pub struct UContext {
    pub flags: u64,
    pub link: u64,
    pub stack_sp: u64,
    pub stack_flags: u32,
    _pad: u32,
    pub stack_size: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    pub segments: u64,
    pub err: u64,
    pub trapno: u64,
    pub oldmask: u64,
    pub cr2: u64,
    pub fpstate: u64,
    _reserved: [u64; 8],
    pub sigmask: u64,
}

/// `struct ptrace_sud_config`
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct SudConfig {
    pub mode: u64,
    pub selector: u64,
    pub offset: u64,
    pub len: u64,
}

/// The same with what a kernel with upcalls adds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WideConfig {
    pub config: SudConfig,
    pub upcall: u64,
}

/// `struct ptrace_syscall_info`, whose tail depends on what stopped the task.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SyscallInfo {
    pub op: u8,
    _pad: [u8; 3],
    pub arch: u32,
    pub ip: u64,
    pub sp: u64,
    pub tail: [u64; 8],
}

/// A syscall with up to six arguments. Returns what the kernel returns: a negative errno or a
/// result.
///
/// # Safety
///
/// As the syscall's own: what it does to memory must be sound.
#[inline(always)]
pub unsafe fn call(number: u64, arguments: &[u64]) -> i64 {
    let argument = |i: usize| arguments.get(i).copied().unwrap_or(0);
    let result: i64;
    // SAFETY: The registers are those of the syscall convention; the rest is up to the caller.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") argument(0),
            in("rsi") argument(1),
            in("rdx") argument(2),
            in("r10") argument(3),
            in("r8") argument(4),
            in("r9") argument(5),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Whether the kernel has what is tested here: it can always be switched off.
pub fn is_supported() -> bool {
    // SAFETY: No memory is involved.
    unsafe { call(SYS_PRCTL, &[PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0]) == 0 }
}

/// Maps memory at a fixed address where nothing is yet.
pub fn map_at(address: u64, len: u64, prot: u64, flags: u64, fd: i64) {
    let flags = flags | MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE does not touch what is mapped already.
    let result = unsafe { call(SYS_MMAP, &[address, len, prot, flags, fd as u64, 0]) };
    assert_eq!(result as u64, address, "mapping of {len:#x} bytes");
}

/// `wait4()` for one process or thread. Returns the process, or a negative errno.
pub fn wait(pid: i64, options: u64) -> (i64, i32) {
    const WALL: u64 = 0x4000_0000;
    let mut status = 0i32;
    loop {
        // SAFETY: The kernel writes the status to where it lives.
        let result = unsafe {
            call(
                SYS_WAIT4,
                &[pid as u64, &raw mut status as u64, WALL | options, 0],
            )
        };
        if result != -EINTR {
            return (result, status);
        }
    }
}

/// `ptrace()`, for requests whose pointers are the caller's business.
///
/// # Safety
///
/// `data` must be valid for what the request writes to it.
pub unsafe fn ptrace(request: u64, pid: i64, address: u64, data: u64) -> i64 {
    // SAFETY: By the safety requirements.
    unsafe { call(SYS_PTRACE, &[request, pid as u64, address, data]) }
}
