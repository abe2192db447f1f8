// SPDX-License-Identifier: GPL-2.0

//! What code that was moved here calls, and what its faults come to.

use crate::{
    outward::{Effect, Returns},
    transplant::{outward, Resume},
};
use anyhow::Result;
use nix::{
    libc,
    sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal},
};
use std::{cell::RefCell, collections::BTreeMap, sync::Mutex};

/// An event as it happened: the function, its arguments, and the bytes that it took.
pub struct Called {
    pub name: &'static str,
    pub arguments: Vec<u64>,
    pub bytes: Vec<u8>,
}

/// What the stubs answer, and what they heard.
#[derive(Default)]
pub struct Script {
    /// By name: results and bytes.
    pub answers: BTreeMap<String, u64>,
    called: Vec<Called>,
}

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
}

/// Where a load may fault.
static FAULTS: Mutex<Vec<Resume>> = Mutex::new(Vec::new());

/// What the stubs call, with their number and where their arguments are.
pub extern "sysv64" fn called(number: u64, arguments: *const u64) -> u64 {
    let Ok(outward) = outward(number) else {
        return 0;
    };
    SCRIPT.with_borrow_mut(|script| {
        // SAFETY: The stub pushed six registers; then come two words, and what is on the stack.
        let argument = |n: usize| unsafe { *arguments.add(if n < 6 { n } else { n + 2 }) };
        let count = script
            .called
            .iter()
            .filter(|it| it.name == outward.name)
            .count()
            + 1;
        let answer = |what: &str| {
            let name = format!("{} #{count}: {what}", outward.name);
            script.answers.get(&name).copied().unwrap_or(0)
        };
        let mut bytes = Vec::new();
        match outward.effect {
            // SAFETY: The caller says that so many bytes are there.
            Effect::CopyOut => bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(argument(1) as *const u8, argument(2) as usize)
            }),
            Effect::Takes(len) => bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(argument(0) as *const u8, len as usize)
            }),
            Effect::CopyIn => {
                for at in 0..argument(2) as usize {
                    let byte = answer(&format!("byte {at}")) as u8;
                    // SAFETY: As above.
                    unsafe { *(argument(0) as *mut u8).add(at) = byte };
                }
            }
            _ => {}
        }
        let garbage = 0xdead_beef_5555_aaaa_u64;
        let result = match outward.returns {
            Returns::Nothing => garbage,
            Returns::Bool => garbage & !0xff | answer("result"),
            Returns::Word => answer("result"),
        };
        let arguments = (0..6.max(outward.arguments.len())).map(argument).collect();
        script.called.push(Called {
            name: outward.name,
            arguments,
            bytes,
        });
        result
    })
}

extern "C" fn faulted(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    const REGISTERS: [i32; 16] = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    // SAFETY: What the kernel passes to a handler with SA_SIGINFO.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let rip = registers[libc::REG_RIP as usize] as u64;
    // Nobody holds it while the code runs.
    let faults = FAULTS.try_lock();
    let found = faults
        .ok()
        .and_then(|it| it.iter().find(|it| it.at == rip).copied());
    match found {
        Some(fault) => {
            registers[libc::REG_RIP as usize] = fault.to as i64;
            if let Some((register, value)) = fault.set {
                registers[REGISTERS[register] as usize] = value.into();
            }
        }
        // SAFETY: As by default: the process ends where it is.
        None => unsafe {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        },
    }
}

/// Lets loads fault as in the kernel.
pub fn catch_faults() -> Result<()> {
    let handler = SigHandler::SigAction(faulted);
    let action = SigAction::new(handler, SaFlags::SA_NODEFER, SigSet::empty());
    // SAFETY: The handler writes only to the context of the fault.
    unsafe { sigaction(Signal::SIGSEGV, &action) }?;
    Ok(())
}

/// Sets what stubs answer, and where loads may fault.
pub fn prepare(script: Script, faults: &[Resume]) -> Result<()> {
    let mut all = FAULTS
        .lock()
        .map_err(|_| anyhow::anyhow!("a lock is broken"))?;
    all.clear();
    all.extend(faults);
    SCRIPT.set(script);
    Ok(())
}

/// What was called since.
pub fn heard() -> Vec<Called> {
    SCRIPT.take().called
}
