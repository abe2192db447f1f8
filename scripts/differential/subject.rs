// SPDX-License-Identifier: GPL-2.0

//! The subject: the sacrificial process that a program runs in.
//!
//! From the moment that it is forked it makes no syscall but those of its program, does not
//! allocate, and writes what it sees to shared memory: whatever its syscalls may be subject to,
//! the machinery around them is not.

use crate::{
    arena::{self, *},
    calls::{prepare, put, registers},
    handler, log,
    plan::Resume,
    program::*,
    sibling,
    sys::{self, *},
    vdso,
};
use std::{
    arch::asm,
    cell::Cell,
    hint, ptr,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// What handlers and children need to know. There is one subject per process, and its threads take
/// turns.
pub static CURRENT: AtomicPtr<Call> = AtomicPtr::new(ptr::null_mut());
pub static SCRIPT: AtomicPtr<Enter> = AtomicPtr::new(ptr::null_mut());
pub static HANDLED: AtomicUsize = AtomicUsize::new(0);
pub static BODY: AtomicPtr<Vec<What>> = AtomicPtr::new(ptr::null_mut());
pub static FLAGS: AtomicU64 = AtomicU64::new(0);
pub static IN_CHILD: AtomicUsize = AtomicUsize::new(0);
pub static PID: AtomicU64 = AtomicU64::new(0);
pub static TID: AtomicU64 = AtomicU64::new(0);
/// Written by the kernel in the memory of a child alone, unless it shares ours.
pub static CHILD_TID: AtomicU64 = AtomicU64::new(0);

/// Runs `program` from one of its operations on. This is the whole life of the process.
pub fn run(program: &Program, from: usize) -> ! {
    // SAFETY: None of these touches memory.
    unsafe {
        sys::call(SYS_PRCTL, &[PR_SET_PDEATHSIG, SIGKILL]);
        PID.store(sys::call(SYS_GETPID, &[]) as u64, Relaxed);
        TID.store(PID.load(Relaxed), Relaxed);
        // A call that is made again may read from anywhere.
        sys::call(SYS_CLOSE_RANGE, &[0, FD_PIPE_READ - 1, 0]);
    }
    for syscall in &program.setup {
        if let Some((number, arguments)) = prepare(syscall, Site::Gate) {
            // SAFETY: The structures are valid, and the handlers do not return to Rust code that
            // expects other registers than it left.
            unsafe { sys::call(number, &arguments) };
        }
    }
    put(X32_HANDLER, handler::x32_handler as *const () as u64);
    if program.sibling {
        sibling::begin();
    }
    let shared = shared();
    if program.seized {
        shared.wait_to_go();
    } else if program.traced {
        // SAFETY: No memory is involved.
        unsafe { sys::ptrace(PTRACE_TRACEME, 0, 0, 0) };
    }
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
    // SAFETY: It is the end. The addresses on the stack are for whoever gets there by an upcall that
    // does nothing but return.
    unsafe {
        asm!(
            "mov {number}, %rbx",
            "mov %rbx, %rax; lea 2f(%rip), %rcx; push %rcx; xor %edi, %edi",
            "syscall",
            "2: mov %rbx, %rax; lea 3f(%rip), %rcx; push %rcx; xor %edi, %edi",
            "syscall",
            "3: ud2",
            number = in(reg) number,
            options(noreturn, att_syntax)
        )
    }
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

pub fn store(at: u64, value: u8) {
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

pub fn show_result(site: Site, call: &Call) {
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
pub fn show_changes(before: &Registers, after: &Registers) {
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

/// Prepares what is shared for the next subject, of `program`. The worker calls it.
pub fn clear(program: &Program) {
    let shared = shared();
    shared.operation.store(0, Relaxed);
    shared.traced.store(program.traced.into(), Relaxed);
    shared.spin.store(program.seized.into(), Relaxed);
    shared.ended.store(0, Relaxed);
    shared.child_count.store(0, Relaxed);
    shared.sibling.clear();
    for child in &shared.children {
        child.store(0, Relaxed);
    }
}
