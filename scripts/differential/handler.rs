// SPDX-License-Identifier: GPL-2.0

//! The signal handlers of the subject: they write down what they see, and follow their script.

use crate::{
    arena::*,
    calls::registers,
    log,
    program::*,
    subject::{show_changes, show_result, store, CURRENT, HANDLED, IN_CHILD, SCRIPT},
    sys::*,
    vdso,
};
use std::{arch::asm, fmt, mem, ptr, sync::atomic::Ordering::Relaxed};

/// How often handlers may run within one operation, before it is taken for endless.
const HANDLERS: usize = 10;

/// The handler of all signals.
pub extern "C" fn handler(signal: i32, info: *const SigInfo, context: *mut UContext) {
    // SAFETY: The kernel passes both, and nobody else uses them while the handler runs.
    let (info, context) = unsafe { (&*info, &mut *context) };
    let what = format_args!("signal={signal} code={}", info.code);
    follow(what, context, |context| show_signal(signal, info, context));
}

/// Shows what a handler sees, and does what the script has for it.
pub fn follow(what: impl fmt::Display, context: &mut UContext, show: impl FnOnce(&UContext)) {
    let count = HANDLED.fetch_add(1, Relaxed);
    let script = SCRIPT.load(Relaxed);
    let ended = shared().ended.load(Relaxed) != 0;
    if ended {
        // There is nothing more to say.
    } else if script.is_null() {
        // On the way out, or under the hands of the tracer: nothing to say of registers.
        log!("  handler {what} between operations");
    } else {
        show(context);
    }
    if count >= HANDLERS {
        if !ended {
            log!("  endless");
        }
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

/// `siginfo_t` of x32, as far as SIGSYS fills it in.
#[repr(C)]
pub struct X32Info {
    signo: i32,
    errno: i32,
    code: i32,
    addr: u32,
    syscall: i32,
    arch: u32,
}

/// The handler of signals that are delivered as x32 has it. Its structures are turned into those
/// of other signals, and back.
pub extern "C" fn x32_handler(signal: i32, info: *const X32Info, context: *mut u8) {
    // Where `struct ucontext_x32` has the flags of the stack, and what it has in common with
    // `struct ucontext`: the registers and the mask.
    const STACK_FLAGS: usize = 12;
    const COMMON: usize = 24;
    let common = mem::offset_of!(UContext, r8);
    let size = mem::offset_of!(UContext, sigmask) + 8 - common;
    // SAFETY: The kernel passes both, with this layout, and nobody else uses them while the
    // handler runs; all zeroes are a value of `UContext`.
    unsafe {
        let X32Info {
            signo,
            errno,
            code,
            addr,
            syscall,
            arch,
        } = info.read();
        let mut wide_info = SigInfo::new();
        (wide_info.signo, wide_info.errno, wide_info.code) = (signo, errno, code);
        (wide_info.syscall, wide_info.arch) = (syscall, arch);
        // No syscall ends at 0, but one at 2^32.
        wide_info.addr = match addr {
            0 => FOUR_GIB,
            addr => vdso::own().widen(addr),
        };
        let mut wide: UContext = mem::zeroed();
        let registers = (&raw mut wide).cast::<u8>().add(common);
        ptr::copy_nonoverlapping(context.add(COMMON), registers, size);
        wide.flags = context.cast::<u32>().read().into();
        wide.stack_flags = context.add(STACK_FLAGS).cast::<u32>().read();
        handler(signal, &wide_info, &mut wide);
        ptr::copy_nonoverlapping(registers, context.add(COMMON), size);
    }
}

fn show_signal(signal: i32, info: &SigInfo, context: &UContext) {
    use std::fmt::Write;
    let _ = write!(
        Log,
        "  handler signal={signal} code={} errno={}",
        info.code, info.errno
    );
    if info.is_of_syscall() {
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
    show_registers(context);
    let _ = writeln!(Log);
}

/// The registers are worth a line where they are those of the program. A restorer has what the
/// handler left in them.
pub fn show_registers(context: &UContext) {
    let call = CURRENT.load(Relaxed);
    if is_own_code(context.rip) && !call.is_null() {
        // SAFETY: The call is under way on this stack, or on that of the outer handler.
        show_changes(unsafe { &(*call).registers }, &Registers::load(context));
    }
}

fn act(action: Action, operation: &Enter, context: &mut UContext) {
    // Only the arena's code can go on with other registers.
    let in_code = is_own_code(context.rip);
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
            context.eflags ^= pattern & ARITHMETIC;
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
