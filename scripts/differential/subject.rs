// SPDX-License-Identifier: GPL-2.0

//! The subject: the sacrificial process that a program runs in.
//!
//! From the moment that it is forked it makes no syscall but those of its program, does not
//! allocate, and writes what it sees to shared memory: whatever its syscalls may be subject to,
//! the machinery around them is not.

use crate::{
    arena::{self, *},
    log,
    program::*,
    sys::{self, *},
    vdso,
};
use std::{
    arch::asm,
    cell::Cell,
    hint, ptr,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// How often handlers may run within one operation, before it is taken for endless.
const HANDLERS: usize = 10;

/// What handlers and children need to know. There is one subject per process, and its threads take
/// turns.
static CURRENT: AtomicPtr<Call> = AtomicPtr::new(ptr::null_mut());
static SCRIPT: AtomicPtr<Enter> = AtomicPtr::new(ptr::null_mut());
static HANDLED: AtomicUsize = AtomicUsize::new(0);
static BODY: AtomicPtr<Vec<What>> = AtomicPtr::new(ptr::null_mut());
static FLAGS: AtomicU64 = AtomicU64::new(0);
static IN_CHILD: AtomicUsize = AtomicUsize::new(0);
static PID: AtomicU64 = AtomicU64::new(0);
static TID: AtomicU64 = AtomicU64::new(0);
/// Written by the kernel in the memory of a child alone, unless it shares ours.
static CHILD_TID: AtomicU64 = AtomicU64::new(0);

/// The layout of `struct sigaction` as the kernel has it.
#[repr(C)]
struct KernelAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// Where the structures of syscalls lie in the scratch page.
mod scratch {
    use crate::arena::SCRATCH;

    pub const ACTION: u64 = SCRATCH;
    pub const SET: u64 = SCRATCH + 0x40;
    pub const STACK: u64 = SCRATCH + 0x80;
    pub const TIME: u64 = SCRATCH + 0xc0;
    pub const INFO: u64 = SCRATCH + 0x100;
    pub const POLL: u64 = SCRATCH + 0x200;
    pub const PATH: u64 = SCRATCH + 0x240;
    pub const FUTEX: u64 = SCRATCH + 0x300;
    pub const FILTER: u64 = SCRATCH + 0x340;
    pub const BUFFER: u64 = SCRATCH + 0x400;
}

/// Writes a structure to the scratch page.
fn put<T>(address: u64, value: T) {
    // SAFETY: The scratch page is mapped for good, the kernel is its only other user, and the
    // places in it are aligned and far enough apart.
    unsafe { (address as *mut T).write_volatile(value) }
}

/// Runs `program` from one of its operations on. This is the whole life of the process.
pub fn run(program: &Program, from: usize) -> ! {
    // SAFETY: None of these touches memory.
    unsafe {
        sys::call(SYS_PRCTL, &[PR_SET_PDEATHSIG, SIGKILL]);
        PID.store(sys::call(SYS_GETPID, &[]) as u64, Relaxed);
        TID.store(PID.load(Relaxed), Relaxed);
    }
    for signal in [SIGSYS, SIGUSR1, SIGUSR2] {
        put(scratch::ACTION, kernel_action(Disposition::Near, 0, ALL));
        // SAFETY: The structure is valid, and the handler does not return to Rust code that
        // expects other registers than it left.
        unsafe { sys::call(SYS_RT_SIGACTION, &[signal, scratch::ACTION, 0, 8]) };
    }
    if program.traced {
        // SAFETY: No memory is involved.
        unsafe { sys::ptrace(PTRACE_TRACEME, 0, 0, 0) };
    }
    let shared = shared();
    let entries = program.vdso32.then(vdso::exchange).flatten();
    let entries = entries.unwrap_or_default();
    shared.vsyscall.store(entries.vsyscall, Relaxed);
    shared.sigreturn.store(entries.sigreturn, Relaxed);
    shared.rt_sigreturn.store(entries.rt_sigreturn, Relaxed);
    let life = Cell::new((program, from));
    on_stack(live, &raw const life as usize, STACK + STACK_SIZE)
}

extern "C" fn live(life: usize) -> ! {
    // SAFETY: `run()` passes it, and its frame stays for the rest of the process.
    let (program, from) = unsafe { &*(life as *const Cell<(&Program, usize)>) }.get();
    let shared = shared();

    for (index, operation) in program.operations.iter().enumerate().skip(from) {
        let makes_child = matches!(
            operation.what,
            What::Enter(Enter {
                syscall: Syscall::Clone { .. },
                ..
            })
        );
        shared.operation.store(index as u64, Relaxed);
        shared.makes_child.store(makes_child.into(), Relaxed);
        log!("#{index} {operation}");
        if shared.traced.load(Relaxed) != 0 {
            meet();
        }
        perform(&operation.what, operation.plan.resume);
        if operation.fence {
            break;
        }
    }
    shared.ended.store(1, Relaxed);
    end()
}

/// Ends the process or thread, whatever its syscalls are subject to.
fn end() -> ! {
    HANDLED.store(0, Relaxed);
    SCRIPT.store(ptr::null_mut(), Relaxed);
    let number = if IN_CHILD.load(Relaxed) != 0 {
        SYS_EXIT
    } else {
        SYS_EXIT_GROUP
    };
    for _ in 0..2 {
        // SAFETY: No memory is involved.
        unsafe { sys::call(number, &[0]) };
    }
    // SAFETY: It is the end.
    unsafe { asm!("ud2", options(noreturn)) }
}

fn perform(what: &What, resume: Resume) {
    match what {
        What::Store { at, value } => store(*at, *value),
        What::Enter(operation) => enter(operation, resume),
        What::Keys { open } => set_keys(*open),
        What::Trace(trace) => wait_for_tracer(*trace),
    }
}

/// The part of the subject in what its tracer does: nothing, or to run while it is done.
fn wait_for_tracer(trace: Trace) {
    let shared = shared();
    let traced = shared.traced.load(Relaxed) != 0;
    match trace {
        Trace::Running if traced => {}
        Trace::Attach { .. } if !traced => {}
        Trace::Attach { .. } => return log!("  already attached"),
        Trace::Detach => return,
        _ if !traced => return log!("  skipped: detached"),
        _ => return,
    }
    shared.spin.store(1, Relaxed);
    while shared.spin.load(Relaxed) != 0 {
        hint::spin_loop();
    }
}

fn store(at: u64, value: u8) {
    // SAFETY: Programs store only to pages that are mapped for writing all the time.
    unsafe { (at as *mut u8).write_volatile(value) }
}

/// Sets what the protection keys allow, where there are any.
fn set_keys(open: bool) {
    if !arena::has_keys() {
        return;
    }
    // All keys but the first, which pages have that were not given one: no access.
    let rights: u32 = if open { 0 } else { 0x5555_5554 };
    // SAFETY: What the program needs is in pages without a key.
    unsafe { asm!("wrpkru", in("eax") rights, in("ecx") 0, in("edx") 0, options(nostack)) };
}

fn kernel_action(disposition: Disposition, flags: u64, mask: u64) -> KernelAction {
    let handler = match disposition {
        Disposition::Near | Disposition::Far => handler as *const () as u64,
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

/// Puts the structures of a syscall in place. Returns its number and its arguments, or nothing if
/// it cannot be made now.
fn prepare(syscall: &Syscall, site: Site) -> Option<(u64, [u64; 6])> {
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
        } => {
            let number = match (site.is_i386(), x32) {
                (true, _) => SYS32_PRCTL,
                (false, false) => SYS_PRCTL,
                (false, true) => X32 | SYS_PRCTL,
            };
            let option = PR_SET_SYSCALL_USER_DISPATCH;
            (
                number,
                arguments(&[option, *mode, *offset, *len, *selector]),
            )
        }
        Syscall::Action {
            signal,
            disposition,
            flags,
            mask,
        } => {
            put(scratch::ACTION, kernel_action(*disposition, *flags, *mask));
            (
                SYS_RT_SIGACTION,
                arguments(&[*signal, scratch::ACTION, 0, 8]),
            )
        }
        Syscall::Mask { how, set } => {
            put(scratch::SET, *set);
            (SYS_RT_SIGPROCMASK, arguments(&[*how, scratch::SET, 0, 8]))
        }
        Syscall::AltStack { flags, size } => {
            put(scratch::STACK, (ALT_STACK, u64::from(*flags), *size));
            (SYS_SIGALTSTACK, arguments(&[scratch::STACK]))
        }
        Syscall::Raise { signal, how } => {
            let (pid, tid) = (PID.load(Relaxed), TID.load(Relaxed));
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
            BODY.store(ptr::from_ref(body).cast_mut(), Relaxed);
            FLAGS.store(*flags, Relaxed);
            CHILD_TID.store(0, Relaxed);
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
                arguments(&[flags, stack, parent_tid, CHILD_TID.as_ptr() as u64]),
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
            put(scratch::TIME, [100u64, 0]);
            put(scratch::FUTEX, 0u64);
            // POLLIN
            put(scratch::POLL, [FD_PIPE_READ as u32, 1]);
            let given: &[u64] = match block {
                Block::Read => &[FD_PIPE_READ, scratch::BUFFER, 1],
                Block::Poll => &[scratch::POLL, 1, 100_000],
                Block::Sleep => &[scratch::TIME, 0],
                Block::Futex => &[scratch::FUTEX, 0, 0, scratch::TIME],
                Block::Suspend => &[scratch::SET, 8],
                Block::Pause => &[],
            };
            (block.number(), arguments(given))
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
fn registers(operation: &Enter, rax: u64, a: [u64; 6]) -> Registers {
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

fn enter(operation: &Enter, resume: Resume) {
    let shared = shared();
    if operation.site.is_vdso32() && shared.vsyscall.load(Relaxed) == 0 {
        return log!("  skipped: no 32-bit vDSO");
    }
    let Some((rax, arguments)) = prepare(&operation.syscall, operation.site) else {
        return;
    };
    put(
        PAD,
        match operation.site {
            Site::Sigreturn => shared.sigreturn.load(Relaxed),
            Site::RtSigreturn => shared.rt_sigreturn.load(Relaxed),
            _ => shared.vsyscall.load(Relaxed),
        },
    );
    let in_child = IN_CHILD.load(Relaxed);
    let step = matches!(resume, Resume::Step | Resume::SysemuStep);
    let mut call = Call {
        registers: registers(operation, rax, arguments),
        target: operation.site.entry(),
        step: u64::from(step && in_child == 0 && shared.traced.load(Relaxed) != 0),
        ..Call::default()
    };
    let call = &raw mut call;

    HANDLED.store(0, Relaxed);
    SCRIPT.store(ptr::from_ref(operation).cast_mut(), Relaxed);
    CURRENT.store(if in_child == 0 { call } else { ptr::null_mut() }, Relaxed);
    // SAFETY: The sites return as functions do; programs are made of syscalls that leave memory
    // alone, but for the scratch page and the places reserved for it.
    unsafe { (*call).enter() };
    IN_CHILD.store(in_child, Relaxed);
    SCRIPT.store(ptr::null_mut(), Relaxed);

    if let Syscall::Clone { flags, body } = &operation.syscall {
        if flags & CLONE_VM == 0 && CHILD_TID.load(Relaxed) != 0 {
            child(body);
        }
    }
    // SAFETY: The call is over, and nobody else has the pointer.
    show_result(operation.site, unsafe { &*call });
}

fn show_result(site: Site, call: &Call) {
    if call.jumped != 0 {
        return log!("  jumped");
    }
    // What functions leave in their registers is theirs.
    if site.is_function() {
        return log!("  ret={}", Value(call.out.rax));
    }
    use std::fmt::Write;
    let _ = write!(Log, "  ret={}", Value(call.out.rax));
    show_changes(&call.registers, &call.out);
    let _ = writeln!(Log);
}

/// The registers that differ, but for rax.
fn show_changes(before: &Registers, after: &Registers) {
    use std::fmt::Write;
    for ((name, before), (_, after)) in before.named().iter().zip(after.named()).skip(1) {
        if *before != after {
            let _ = write!(Log, " {name}={}", Name(after));
        }
    }
}

/// A child with a stack of its own begins here.
pub extern "C" fn child_main() -> ! {
    // SAFETY: `prepare()` stored it, and the parent waits in `enter()` with its program.
    child(unsafe { &*BODY.load(Relaxed) })
}

fn child(body: &[What]) -> ! {
    IN_CHILD.store(1, Relaxed);
    let flags = FLAGS.load(Relaxed);
    let tid = CHILD_TID.load(Relaxed);
    let own_pid = if flags & CLONE_THREAD != 0 {
        PID.load(Relaxed)
    } else {
        tid
    };
    let outer = [
        (&PID, PID.swap(own_pid, Relaxed)),
        (&TID, TID.swap(tid, Relaxed)),
    ];
    log!("  child begins");
    for what in body {
        log!("  > {what}");
        perform(what, Resume::Cont);
    }
    log!("  child ends");
    if flags & CLONE_VM != 0 {
        outer
            .iter()
            .for_each(|(cell, value)| cell.store(*value, Relaxed));
    }
    end()
}

/// The handler of all signals.
extern "C" fn handler(signal: i32, info: *const SigInfo, context: *mut UContext) {
    // SAFETY: The kernel passes both, and nobody else uses them while the handler runs.
    let (info, context) = unsafe { (&*info, &mut *context) };
    if shared().ended.load(Relaxed) != 0 {
        return;
    }
    let count = HANDLED.fetch_add(1, Relaxed);
    let script = SCRIPT.load(Relaxed);
    if script.is_null() {
        // On the way out, or under the hands of the tracer: nothing to say of registers.
        log!(
            "  handler signal={signal} code={} between operations",
            info.code
        );
    } else {
        show_signal(signal, info, context);
    }
    if count >= HANDLERS {
        log!("  endless");
        // SAFETY: It is the end, with registers that do not depend on what was logged.
        unsafe { asm!("xor eax, eax", "ud2", options(noreturn)) }
    }
    // SAFETY: The operation under way is part of the program, which stays.
    let Some(operation) = (unsafe { script.as_ref() }) else {
        return;
    };
    let Some(action) = operation.script.get(count) else {
        return;
    };
    act(*action, operation, context);
}

fn show_signal(signal: i32, info: &SigInfo, context: &UContext) {
    use std::fmt::Write;
    let _ = write!(
        Log,
        "  handler signal={signal} code={} errno={}",
        info.code, info.errno
    );
    if signal as u64 == SIGSYS && info.code > 0 {
        let SigInfo {
            addr,
            syscall,
            arch,
            ..
        } = info;
        let _ = write!(Log, " addr={} nr={syscall} arch={arch:#x}", Name(*addr));
    }
    let _ = write!(
        Log,
        " rip={} rax={} cs={:#x} mask={:#x} uc={:#x} ss={:#x}",
        Name(context.rip),
        Value(context.rax),
        context.segments & 0xffff,
        context.sigmask,
        context.flags,
        context.stack_flags,
    );
    let on_alternate = (ptr::from_ref(context) as u64).wrapping_sub(ALT_STACK) < STACK_SIZE;
    if on_alternate {
        let _ = write!(Log, " alternate");
    }
    let call = CURRENT.load(Relaxed);
    // The registers are worth a line where they are those of the program. A restorer has what the
    // handler left in them.
    if is_code(context.rip) && !is_restorer(context.rip) && !call.is_null() {
        let now = Registers {
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
        };
        // SAFETY: The call is under way on this stack, or on that of the outer handler.
        show_changes(unsafe { &(*call).registers }, &now);
    }
    let _ = writeln!(Log);
}

fn act(action: Action, operation: &Enter, context: &mut UContext) {
    // Only the arena's code can go on with other registers.
    let in_code = is_code(context.rip);
    match action {
        Action::Leave => {}
        Action::Store { at, value } => store(at, value),
        Action::Rax(value) if in_code => context.rax = value,
        Action::Again if in_code => context.rip -= 2,
        Action::Land if in_code && !is_vdso32(context.rip) => {
            context.rip = land();
            // 64-bit code
            context.segments = context.segments & !0xffff | 0x33;
        }
        Action::Change(pattern) if in_code => {
            context.rbx ^= pattern;
            context.rdx ^= pattern.rotate_left(8);
            context.r8 ^= pattern.rotate_left(16);
            context.r15 ^= pattern.rotate_left(24);
            context.eflags ^= pattern & 0x8d5;
        }
        Action::Mask(mask) => context.sigmask = mask,
        Action::Jump => {
            let call = CURRENT.load(Relaxed);
            if !call.is_null() && IN_CHILD.load(Relaxed) == 0 {
                // SAFETY: The call is under way on this stack.
                unsafe { jump(call) }
            }
        }
        Action::Nested { site, rax } => nested(site, rax, operation),
        _ => log!("  not in this code"),
    }
}

/// A syscall within a handler.
fn nested(site: Site, rax: u64, outer: &Enter) {
    let inner = Enter {
        site,
        syscall: Syscall::Plain {
            rax,
            arguments: [99, 0, 0],
        },
        pattern: !outer.pattern,
        flags: 0x202,
        script: Vec::new(),
    };
    let mut call = Call {
        registers: registers(&inner, rax, [99, 0, 0, 0, 0, 0]),
        target: site.entry(),
        ..Call::default()
    };
    let call = &raw mut call;
    let outer = CURRENT.swap(call, Relaxed);
    // SAFETY: As in `enter()`.
    unsafe { (*call).enter() };
    CURRENT.store(outer, Relaxed);
    // SAFETY: The call is over.
    let call = unsafe { &*call };
    log!("  nested call {rax:#x} at {}", site.name());
    show_result(site, call);
}

/// Prepares what is shared for the next subject. The worker calls it.
pub fn clear() {
    let shared = shared();
    shared.operation.store(0, Relaxed);
    shared.spin.store(0, Relaxed);
    shared.ended.store(0, Relaxed);
    shared.child_count.store(0, Relaxed);
    for child in &shared.children {
        child.store(0, Relaxed);
    }
}
