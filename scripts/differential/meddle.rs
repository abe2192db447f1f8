// SPDX-License-Identifier: GPL-2.0

//! What a tracer does to a thread at a stop besides letting it go on, as debuggers and checkpointers
//! do: it puts registers back, has the thread make calls, sends signals, interrupts, and leaves.

use crate::{
    arena::{self, *},
    calls::kernel_action,
    log,
    plan::*,
    sys::*,
    tracer::Tracer,
};
use std::sync::atomic::Ordering::Relaxed;

/// What kind of stop it is.
#[derive(Clone, Copy, PartialEq)]
pub enum Moment {
    Entry,
    Dispatch,
    Trap,
    Interrupt,
    /// The subject waits for the page of its selector, and runs otherwise.
    Awaited,
    Other,
}

const NO_FILE: u64 = 0x4000_0063;

/// How to go on.
pub enum Verdict {
    /// As the plan has it.
    GoOn,
    Pass(u64),
    /// Without us, with a signal, unless it is that of the plan.
    Leave(Option<u64>),
}

impl Tracer<'_> {
    /// Arms the subject by a selector in the page that is not there, and takes the page away.
    pub fn withhold(&mut self, offset: u64) {
        let (start, end) = arena::gate();
        let config = SudConfig {
            mode: 1,
            selector: SELECTOR_AWAITED + offset,
            offset: start,
            len: end - start,
        };
        log!("  set={}", self.set(self.pid, &config));
        self.withheld = arena::shared().sibling.withhold().is_some();
    }

    pub fn provide(&mut self) {
        arena::shared().sibling.provide();
        self.withheld = false;
    }

    /// Does what is due, of what is planned for the present operation.
    pub fn meddle(&mut self, pid: i64, moment: Moment) -> Verdict {
        let program = self.program;
        let index = arena::shared().operation.load(Relaxed) as usize;
        let acts = &program.operations[index].plan.meddling;
        let (mut pass, mut leave) = (None, false);
        let mut first = true;
        while let Some(Meddling { when, act }) = acts.get(self.done) {
            let is_due = match when {
                When::Same => !first,
                _ if !first => false,
                When::Any => moment != Moment::Awaited,
                When::Interrupted => {
                    !matches!(moment, Moment::Awaited | Moment::Entry) && self.is_interrupted(pid)
                }
                When::Dispatch => moment == Moment::Dispatch,
                When::Trap => moment == Moment::Trap,
                When::Interrupt => moment == Moment::Interrupt,
                When::Awaited => moment == Moment::Awaited,
            };
            if !is_due {
                break;
            }
            (first, self.done) = (false, self.done + 1);
            match act {
                Act::Pass(signal) => pass = Some(*signal),
                Act::Detach => leave = pid == self.pid && moment != Moment::Awaited,
                _ => {}
            }
            match self.act(pid, moment, act) {
                Some(result) => log!("  act {act} = {result}"),
                None => log!("  act {act}: not here"),
            }
        }
        match (leave, pass) {
            (true, _) => {
                self.satisfy(pid);
                Verdict::Leave(pass)
            }
            (false, Some(signal)) => Verdict::Pass(signal),
            (false, None) => Verdict::GoOn,
        }
    }

    /// Whether a syscall was interrupted and may be made again.
    fn is_interrupted(&self, pid: i64) -> bool {
        let registers = self.registers(pid);
        registers.orig_rax != u64::MAX && matches!(registers.rax as i32, -516 | -514..=-512)
    }

    /// Returns what came of it, unless it is out of place here.
    fn act(&mut self, pid: i64, moment: Moment, act: &Act) -> Option<i64> {
        let is_stopped = moment != Moment::Awaited;
        let registers = || is_stopped.then(|| self.registers(pid));
        match act {
            Act::Keep => self.kept = Some((pid, registers()?)),
            Act::Inject { site, rax } => {
                let old = registers()?;
                if !can_go_elsewhere(&old) {
                    return None;
                }
                let new = UserRegs {
                    rip: site.entry(),
                    // 64-bit code
                    cs: 0x33,
                    rax: *rax,
                    orig_rax: u64::MAX,
                    // No open file, and nowhere else; no process either, or it depends on chance
                    // whether a register changes.
                    rdi: NO_FILE,
                    rbx: NO_FILE,
                    ..old
                };
                self.set_registers(pid, &new);
                self.kept = Some((pid, old));
            }
            Act::Restore => {
                let now = registers()?;
                let (owner, old) = self.kept?;
                if owner != pid || old.rsp != now.rsp || !is_code(now.rip) {
                    return None;
                }
                self.set_registers(pid, &old);
            }
            Act::Restart { number, code } => {
                let old = registers()?;
                if !can_go_elsewhere(&old) || moment == Moment::Entry {
                    return None;
                }
                let new = UserRegs {
                    orig_rax: *number,
                    rax: *code,
                    ..old
                };
                self.set_registers(pid, &new);
            }
            Act::Raise(signal) => return Some(self.raise(pid, *signal)),
            Act::Action(disposition, flags) => {
                if pid != self.pid {
                    return None;
                }
                let sibling = &arena::shared().sibling;
                let action = sibling.room(kernel_action(*disposition, *flags, 0));
                return sibling.order(SYS_RT_SIGACTION, &[SIGSYS, action, 0, 8]);
            }
            // What interrupts a wait must not be blocked.
            Act::Mask(_) if moment == Moment::Entry => return None,
            Act::Mask(set) => {
                registers()?;
                self.mask(pid, |_| *set);
            }
            Act::Set(config) => {
                registers()?;
                return Some(self.set(pid, config));
            }
            Act::SetWide(config, handler) => {
                registers()?;
                let (config, upcall) = (*config, handler.address());
                return Some(self.set_wide(pid, &WideConfig { config, upcall }));
            }
            Act::Suspend(on) => {
                registers()?;
                return Some(self.suspend(pid, *on));
            }
            Act::Interrupt => return Some(self.request(PTRACE_INTERRUPT, pid, 0)),
            Act::Pass(_) | Act::Detach => {
                registers()?;
            }
        }
        Some(0)
    }
}

/// Whether a thread can be given other code to run: where it is, its stack has what it returns to.
fn can_go_elsewhere(registers: &UserRegs) -> bool {
    is_own_code(registers.rip) && !is_vdso32(registers.rip)
}
