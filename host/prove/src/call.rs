// SPDX-License-Identifier: GPL-2.0

//! Calls outwards: what of them is compared, and what both programs may rely on afterwards.

use crate::{
    explore::{Explorer, Next, Path, OBJECT},
    machine::{End, State, ARGUMENTS, CALLEE_SAVED, RAX, RDI, RDX, RSI, RSP},
    memory::{Place, STACK},
    outward::{Effect, Outward, Returns, SIGINFO},
    term::{constant, var, word, Term},
};
use anyhow::{ensure, Context as _, Result};

impl Explorer<'_> {
    /// A call that is not looked into: all that both sides may know of it is its result.
    pub fn call_outward(&mut self, mut state: State, outward: &'static Outward) -> Result<Next> {
        match outward.effect {
            Effect::Stops => return Ok(Next::End(state, End::Stopped(outward.name.into()))),
            Effect::Queues(at) => {
                let place = self.place(&state, state.regs[RDI] + word(at as u64), false)?;
                let mut values = Vec::new();
                let place = place.context("the object is nowhere")?;
                self.bytes_of(&state, place, SIGINFO as u64, &mut values)?;
                self.note(&mut state, outward.name, values);
                return Ok(Next::End(state, End::Queued));
            }
            _ => {}
        }
        if state.user_open {
            state.violate(format!("calls {} with user memory open", outward.name));
        }
        let mut values = Vec::new();
        for (number, &width) in outward.arguments.iter().enumerate() {
            let value = match ARGUMENTS.get(number) {
                Some(&register) => state.regs[register],
                None => {
                    let offset = state.stack_offset()? + 8 * (number as i64 - 5);
                    state.memory.load(self.world, (STACK, offset), 64)?
                }
            };
            values.push((format!("argument {}", number + 1), value.extract(0, width)));
        }
        // Whatever is below the return address is the callee's.
        let top = state.stack_offset()?;
        state.memory.drop_below(top);
        let number = state.occurrence(outward.name);
        let label = |what: &str| format!("{} #{number}: {what}", outward.name);

        let mut states = vec![(state, 0)];
        if matches!(outward.effect, Effect::CopyIn | Effect::CopyOut) {
            let (state, _) = states.remove(0);
            let len = state.regs[RDX];
            states = self.settle(state, len)?;
        }
        let mut done = Vec::new();
        for (mut state, len) in states {
            let mut values = values.clone();
            let mut stored: Option<(Place, u64)> = None;
            match outward.effect {
                Effect::CopyOut => {
                    values.push(("to".into(), state.regs[RDI]));
                    let from = state.stack_place(state.regs[RSI])?;
                    self.bytes_of(&state, from, len, &mut values)?;
                }
                Effect::CopyIn => {
                    values.push(("from".into(), state.regs[RSI]));
                    values.push(("length".into(), word(len)));
                    let to = state.stack_place(state.regs[RDI])?;
                    ensure!(to.1 + len as i64 <= 0, "copies over the caller's stack");
                    stored = Some((to, len));
                }
                Effect::Takes(len) => {
                    let from = state.stack_place(state.regs[RDI])?;
                    self.bytes_of(&state, from, len as u64, &mut values)?;
                }
                _ => {}
            }
            self.note(&mut state, outward.name, values);
            match outward.effect {
                Effect::All | Effect::Takes(_) => state.memory.all_changed(),
                _ => state.memory.others_ran(self.world),
            }
            if let Some(((region, offset), len)) = stored {
                for at in 0..len {
                    let name = label(&format!("byte {at}"));
                    let byte = match &self.copied_in {
                        Some(bytes) => *bytes.get(at as usize).context("too few bytes")?,
                        None => var(&name, 8),
                    };
                    state.memory.store((region, offset + at as i64), byte);
                }
            }
            // Arguments on the stack are the callee's as well.
            for number in ARGUMENTS.len()..outward.arguments.len() {
                let offset = state.stack_offset()? + 8 * (number as i64 - 5);
                let garbage = self.garbage(64);
                state.memory.store((STACK, offset), garbage);
            }
            for number in 0..16 {
                if number != RSP && !CALLEE_SAVED.contains(&number) {
                    state.regs[number] = self.garbage(64);
                }
            }
            self.spoil_flags(&mut state);
            let result = match outward.returns {
                Returns::Nothing => None,
                Returns::Bool => Some(constant(0, 7).concat(var(&label("result"), 1))),
                Returns::Word if outward.effect == Effect::Allocates => Some(word(OBJECT)),
                Returns::Word => Some(var(&label("result"), 64)),
            };
            if let Some(result) = result {
                let rest = 64 - result.width();
                let whole = match rest {
                    0 => result,
                    rest => state.regs[RAX].extract(64 - rest, rest).concat(result),
                };
                state.regs[RAX] = whole;
            }
            match self.ret(state)? {
                Next::Go(state) => done.push(state),
                Next::End(state, end) => self.paths.push(Path { state, end }),
                Next::Fork(states) => done.extend(states),
            }
        }
        Ok(Next::Fork(done))
    }

    fn bytes_of(
        &self,
        state: &State,
        (region, offset): Place,
        len: u64,
        values: &mut Vec<(String, Term)>,
    ) -> Result<()> {
        values.push(("length".into(), word(len)));
        for at in 0..len {
            let byte = state
                .memory
                .byte(self.world, (region, offset + at as i64))?;
            values.push((format!("byte {at}"), byte));
        }
        Ok(())
    }
}
