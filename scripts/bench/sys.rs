// SPDX-License-Identifier: GPL-2.0

//! The kernel as the bench sees it: the loops that make the measured syscalls at known
//! addresses, and thin wrappers around the interfaces that say what becomes of them.

use std::{
    arch::global_asm,
    ffi::c_void,
    io,
    mem::size_of_val,
    process,
    sync::atomic::{AtomicU8, Ordering},
};

pub const ALLOW: u8 = 0;
pub const BLOCK: u8 = 1;

/// The byte that the kernel reads.
pub static SELECTOR: AtomicU8 = AtomicU8::new(ALLOW);

// One macro makes all the loops, so that they cost the same wherever they lie: what is left of a
// difference is the kernel's. Each stores the selector on each turn, since a handler may have
// changed it, and compares the answer, so that a syscall that went another way than the measured
// one cannot pass for it: seven instructions, which are in all the numbers and so in no difference.
// They leave the selector at ALLOW.
//
// The region holds two more things: a way to make syscalls and one to end a handler, neither of
// which can be dispatched. The kernel looks at the address after the instruction, so the region
// must reach beyond the last one.
global_asm!(
    r#"
    .macro bench_loop name, number, instruction
    .globl \name
    .hidden \name
\name:
    push rbx
    push rbp
    push r12
    mov rbx, rdi
    mov r12d, esi
    mov rbp, rdx
    test rbx, rbx
    jz 3f
2:  mov byte ptr [rip + {selector}], r12b
    mov eax, \number
    \instruction
    cmp rax, rbp
    jne 3f
    dec rbx
    jnz 2b
3:  mov byte ptr [rip + {selector}], {allow}
    mov rax, rbx
    pop r12
    pop rbp
    pop rbx
    ret
    .endm

    .macro bench_restorer name
    .globl \name
    .hidden \name
\name:
    mov eax, {rt_sigreturn}
    syscall
    ud2
    .endm

    .pushsection .text.bench, "ax", @progbits
    bench_loop bench_outside_syscall, {getppid}, "syscall"
    bench_loop bench_outside_int80, {getppid_i386}, "int 0x80"
    bench_restorer bench_outside_restorer

    .globl bench_region, bench_region_end, bench_direct
    .hidden bench_region, bench_region_end, bench_direct
bench_region:
    bench_loop bench_inside_syscall, {getppid}, "syscall"
    bench_loop bench_inside_int80, {getppid_i386}, "int 0x80"
    bench_restorer bench_inside_restorer
bench_direct:
    mov rax, rdi
    mov rdi, rsi
    mov rsi, rdx
    mov rdx, rcx
    mov r10, r8
    mov r8, r9
    syscall
    ret
bench_region_end:

    // The least that the handler of an upcall can do.
    .globl bench_upcall, bench_upcall_c
    .hidden bench_upcall, bench_upcall_c
bench_upcall:
    mov eax, {answer}
    jmp rcx
    // One that calls a function as compilers make it: on a stack of its own, it saves the
    // registers that such a function may change, x87 and SSE among them, and the flags.
bench_upcall_c:
    mov [rip + bench_upcall_stack + 4096], rsp
    lea rsp, [rip + bench_upcall_stack + 4096]
    push r11
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    lea r11, [rip + bench_upcall_state]
    fxsave64 [r11]
    mov rdi, rax
    call {emulated}
    lea r11, [rip + bench_upcall_state]
    fxrstor64 [r11]
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    popfq
    mov rsp, [rip + bench_upcall_stack + 4096]
    jmp rcx
    .popsection

    .pushsection .bss.bench, "aw", @nobits
    .balign 16
bench_upcall_stack:
    .skip 4096 + 16
bench_upcall_state:
    .skip 512
    .popsection
"#,
    selector = sym SELECTOR,
    allow = const ALLOW,
    rt_sigreturn = const 15,
    getppid = const GETPPID,
    getppid_i386 = const 64,
    answer = const ANSWER,
    emulated = sym emulated,
);

unsafe extern "C" {
    fn bench_outside_syscall(turns: u64, selector: u8, answer: u64) -> u64;
    fn bench_outside_int80(turns: u64, selector: u8, answer: u64) -> u64;
    fn bench_inside_syscall(turns: u64, selector: u8, answer: u64) -> u64;
    fn bench_inside_int80(turns: u64, selector: u8, answer: u64) -> u64;
    fn bench_outside_restorer();
    fn bench_inside_restorer();
    fn bench_direct(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize;
    fn bench_upcall();
    fn bench_upcall_c();
    static bench_region: u8;
    static bench_region_end: u8;

    // The C library's, since a thread may be made in the child.
    fn fork() -> i32;
}

/// A syscall: its name and its number.
struct Call(&'static str, usize);

const RT_SIGACTION: Call = Call("rt_sigaction", 13);
const IOCTL: Call = Call("ioctl", 16);
const WAIT4: Call = Call("wait4", 61);
const KILL: Call = Call("kill", 62);
const PTRACE: Call = Call("ptrace", 101);
const PERSONALITY: Call = Call("personality", 135);
const SCHED_SETSCHEDULER: Call = Call("sched_setscheduler", 144);
const PRCTL: Call = Call("prctl", 157);
const SCHED_SETAFFINITY: Call = Call("sched_setaffinity", 203);
const CLOCK_GETTIME: Call = Call("clock_gettime", 228);
const GETCPU: Call = Call("getcpu", 309);
const SECCOMP: Call = Call("seccomp", 317);

pub const GETPPID: u32 = 110;

/// Where a syscall is made: inside or outside of the region.
#[derive(Clone, Copy)]
pub enum Place {
    Inside,
    Outside,
}

/// How it enters the kernel.
#[derive(Clone, Copy)]
pub enum Entry {
    Syscall,
    Int80,
}

/// Makes getppid `turns` times, each to be answered by `answer`.
pub fn call(place: Place, entry: Entry, turns: u64, selector: u8, answer: u64) {
    let calls = match (place, entry) {
        (Place::Inside, Entry::Syscall) => bench_inside_syscall,
        (Place::Inside, Entry::Int80) => bench_inside_int80,
        (Place::Outside, Entry::Syscall) => bench_outside_syscall,
        (Place::Outside, Entry::Int80) => bench_outside_int80,
    };
    // SAFETY: The loops follow the C calling convention and write to SELECTOR only, an atomic.
    // getppid takes no arguments.
    if unsafe { calls(turns, selector, answer) } != 0 {
        fail("a syscall went another way than the one to be measured");
    }
}

/// Ends the process. The message must get out, however the thread is armed.
pub fn fail(why: &str) -> ! {
    // SAFETY: OFF takes no pointers; where nothing is armed it does nothing.
    let _ = unsafe { try_direct(&PRCTL, &[PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0]) };
    eprintln!("error: {why}");
    process::exit(1)
}

/// A syscall that is never dispatched. It leaves the arguments that are not given at 0.
///
/// # Safety
///
/// That of the syscall with these arguments.
unsafe fn try_direct(call: &Call, arguments: &[usize]) -> io::Result<usize> {
    let mut all = [0; 5];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e] = all;
    // SAFETY: The caller answers for the syscall.
    match unsafe { bench_direct(call.1, a, b, c, d, e) } {
        error @ -4095..=-1 => Err(io::Error::from_raw_os_error(-error as i32)),
        result => Ok(result as usize),
    }
}

/// The same, of one that has to succeed.
///
/// # Safety
///
/// That of the syscall with these arguments.
unsafe fn direct(call: Call, arguments: &[usize]) -> usize {
    // SAFETY: By the requirements of this function.
    match unsafe { try_direct(&call, arguments) } {
        Ok(result) => result,
        Err(error) => fail(&format!("{}: {error}", call.0)),
    }
}

/// CLOCK_MONOTONIC in nanoseconds. Not through the vDSO: where it has no clock that user code can
/// read it makes a syscall of its own, which might be dispatched.
pub fn now() -> u64 {
    let mut time = [0u64; 2];
    // SAFETY: `time` is laid out as a timespec.
    unsafe { direct(CLOCK_GETTIME, &[1, time.as_mut_ptr() as usize]) };
    time[0] * 1_000_000_000 + time[1]
}

/// Keeps to the processor that this runs on, and all children with it.
pub fn stay_on_this_cpu() {
    let mut cpu = 0u32;
    let mut mask = [0u64; 128];
    // SAFETY: The only pointer that is not null is valid for a write of 32 bits.
    unsafe { direct(GETCPU, &[&raw mut cpu as usize]) };
    mask[cpu as usize / 64] = 1 << (cpu % 64);
    let (size, mask) = (size_of_val(&mask), mask.as_ptr() as usize);
    // SAFETY: The mask is as long as said.
    unsafe { direct(SCHED_SETAFFINITY, &[0, size, mask]) };
}

/// First in, first out, for this thread and its children, where that is permitted. The paths that
/// switch between tasks would otherwise count how the fair scheduler weighs them, which depends on
/// what ran before.
pub fn schedule_simply() {
    const SCHED_FIFO: usize = 1;
    let priority = 1i32;
    let arguments = [0, SCHED_FIFO, &raw const priority as usize];
    // SAFETY: The priority is all of a struct sched_param.
    let _ = unsafe { try_direct(&SCHED_SETSCHEDULER, &arguments) };
}

/// Runs `child` in a process of its own, which must not have threads yet, and returns its number.
pub fn spawn(child: impl FnOnce()) -> i32 {
    // SAFETY: The process has one thread, so no lock can be held by another.
    match unsafe { fork() } {
        0 => {
            child();
            process::exit(0)
        }
        -1 => fail(&format!("fork: {}", io::Error::last_os_error())),
        pid => pid,
    }
}

/// Waits for a child to end, or to stop if it is traced. The status as wait(2) encodes it.
pub fn wait(pid: i32) -> i32 {
    let mut status = 0i32;
    // SAFETY: The status may be written to; no resource usage is asked for.
    unsafe { direct(WAIT4, &[pid as usize, &raw mut status as usize]) };
    status
}

pub fn kill(pid: u32, signal: usize) {
    // SAFETY: No pointers; a child or this process itself.
    unsafe { direct(KILL, &[pid as usize, signal]) };
}

/// A request of ptrace(2), which has to succeed.
///
/// # Safety
///
/// That of the request with these arguments.
pub unsafe fn ptrace(request: usize, pid: usize, address: usize, data: usize) {
    // SAFETY: By the requirements of this function.
    unsafe { direct(PTRACE, &[request, pid, address, data]) };
}

/// Has this process lay out its memory, from the next exec on, as every other that does so.
pub fn lay_out_alike() {
    const ADDR_NO_RANDOMIZE: usize = 0x0004_0000;
    // SAFETY: No pointers.
    unsafe { direct(PERSONALITY, &[ADDR_NO_RANDOMIZE]) };
}

const PR_SET_SYSCALL_USER_DISPATCH: usize = 59;

#[derive(Clone, Copy)]
pub enum Mode {
    Off,
    Exclusive,
    Inclusive,
}

/// Arms this thread, or disarms it, with or without a selector.
pub fn set_dispatch(mode: Mode, selector: bool) {
    let start = &raw const bench_region as usize;
    let length = &raw const bench_region_end as usize - start;
    let selector = match selector {
        true => SELECTOR.as_ptr() as usize,
        false => 0,
    };
    let [mode, start, length, selector] = match mode {
        Mode::Off => [0, 0, 0, 0],
        Mode::Exclusive => [1, start, length, selector],
        Mode::Inclusive => [2, start, length, selector],
    };
    let arguments = [PR_SET_SYSCALL_USER_DISPATCH, mode, start, length, selector];
    // SAFETY: The selector, if there is one, lives as long as the program and is an atomic.
    unsafe { direct(PRCTL, &arguments) };
}

/// The handlers of upcalls.
#[derive(Clone, Copy)]
pub enum Upcall {
    Least,
    Function,
}

const PR_SYS_DISPATCH_UPCALL: usize = 3;

/// Whether this kernel has upcalls.
pub fn has_upcall() -> bool {
    let arguments = [PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_UPCALL];
    // SAFETY: Without an address this changes nothing.
    unsafe { try_direct(&PRCTL, &arguments) }.is_ok()
}

/// Lets the dispatches of this thread, which is armed, go to a handler.
pub fn set_upcall(upcall: Upcall) {
    let handler = match upcall {
        Upcall::Least => bench_upcall,
        Upcall::Function => bench_upcall_c,
    };
    let handler = handler as unsafe extern "C" fn() as usize;
    let arguments = [
        PR_SET_SYSCALL_USER_DISPATCH,
        PR_SYS_DISPATCH_UPCALL,
        handler,
    ];
    // SAFETY: The handlers change nothing that the syscall would not change, but their own memory,
    // which no other thread uses.
    unsafe { direct(PRCTL, &arguments) };
}

/// What the function of a handler does with the number of a syscall.
extern "C" fn emulated(_number: u64) -> u64 {
    ANSWER
}

/// What an emulated syscall returns.
pub const ANSWER: u64 = 4242;

/// The ucontext as far as it concerns us.
#[repr(C)]
pub struct Context {
    before: [u64; 18],
    rax: u64,
}

type Handler = extern "C" fn(i32, *mut c_void, *mut Context);

/// Emulates the syscall. The selector stays as it is.
pub extern "C" fn emulate(_signal: i32, _info: *mut c_void, context: *mut Context) {
    // SAFETY: The kernel hands over a ucontext, which is ours until we return.
    unsafe { (*context).rax = ANSWER };
}

/// Emulates the syscall, and lets those that follow run, the return from here among them.
pub extern "C" fn emulate_and_allow(signal: i32, info: *mut c_void, context: *mut Context) {
    emulate(signal, info, context);
    SELECTOR.store(ALLOW, Ordering::Relaxed);
}

/// Handles SIGSYS, with a restorer inside or outside of the region.
pub fn handle_sigsys(handler: Handler, restorer: Place) {
    const SIGSYS: usize = 31;
    const SA_SIGINFO: usize = 4;
    const SA_RESTORER: usize = 0x0400_0000;

    let restorer = match restorer {
        Place::Inside => bench_inside_restorer,
        Place::Outside => bench_outside_restorer,
    };
    // The kernel's own struct sigaction: handler, flags, restorer, mask. A signal that came in
    // between would start its handler with the selector at BLOCK, so the mask is full.
    let action = [
        handler as usize,
        SA_SIGINFO | SA_RESTORER,
        restorer as unsafe extern "C" fn() as usize,
        usize::MAX,
    ];
    // SAFETY: The handlers keep to the C calling convention and to the frame they are given, and
    // the restorers end them. Nothing else in this process handles SIGSYS.
    unsafe { direct(RT_SIGACTION, &[SIGSYS, action.as_ptr() as usize, 0, 8]) };
}

#[derive(Clone, Copy)]
pub enum Filter {
    /// SIGSYS to the thread that made the syscall.
    Trap,
    /// A message to whoever holds the listener.
    Notify,
}

/// Has seccomp catch getppid in this thread. Returns the listener, where there is one.
pub fn filter(filter: Filter) -> usize {
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    const NEW_LISTENER: usize = 1 << 3;

    let (flags, verdict) = match filter {
        Filter::Trap => (0, 0x0003_0000),
        Filter::Notify => (NEW_LISTENER, 0x7fc0_0000),
    };
    // Classic BPF, each instruction as code, jt, jf, k: load the number; getppid gets the
    // verdict, all else runs. The i386 call of that number is nowhere made here.
    let program = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, GETPPID),
        instruction(0x06, 0, 0, verdict),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ];
    // struct sock_fprog
    let program = [program.len(), program.as_ptr() as usize];
    let arguments = [SECCOMP_SET_MODE_FILTER, flags, program.as_ptr() as usize];
    // SAFETY: The program and its description live across the call, which copies both.
    unsafe {
        direct(PRCTL, &[PR_SET_NO_NEW_PRIVS, 1]);
        direct(SECCOMP, &arguments)
    }
}

/// A struct sock_filter.
fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> u64 {
    u64::from(code) | u64::from(jt) << 16 | u64::from(jf) << 24 | u64::from(k) << 32
}

/// Answers what a listener reports, until the process ends.
pub fn supervise(listener: usize) -> ! {
    const SET_FLAGS: usize = 0x4008_2104;
    const SYNC_WAKE_UP: usize = 1;
    const RECV: usize = 0xc050_2100;
    const SEND: usize = 0xc018_2101;

    // struct seccomp_notif_resp: id, val, error and flags
    let mut response = [0, ANSWER, 0];
    // SAFETY: The structures are as large as the request numbers say.
    unsafe {
        // Both sides run on one processor: for that the kernel has a faster way.
        direct(IOCTL, &[listener, SET_FLAGS, SYNC_WAKE_UP]);
        loop {
            // struct seccomp_notif, whose first field is the id
            let mut notification = [0u64; 10];
            direct(IOCTL, &[listener, RECV, notification.as_mut_ptr() as usize]);
            response[0] = notification[0];
            direct(IOCTL, &[listener, SEND, response.as_mut_ptr() as usize]);
        }
    }
}
