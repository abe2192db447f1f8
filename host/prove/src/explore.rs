// SPDX-License-Identifier: GPL-2.0

//! All paths through a function: forks where it depends on an input, follows calls, and notes what
//! goes outwards.

use crate::{
    image::{Alternative, Image},
    machine::{End, Event, Flag, State, CALLEE_SAVED, NAMES, RSP},
    memory::{Memory, Place, World, STACK},
    outward::{Outward, OUTWARD},
    solver::Solver,
    term::{constant, var, word, Term},
};
use anyhow::{bail, ensure, Context as _, Result};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic};
use std::collections::{BTreeMap, HashMap};

/// No path of these functions is as long, nor are there as many.
const LONGEST: usize = 2000;
pub const MOST: usize = 4000;
/// Of a length or an index that a path does not settle, how many values are tried.
const VALUES: usize = 8;

/// The event of a load from user memory.
pub const USER_READ: &str = "user read";

/// Where an object is that was allocated: anywhere, but aligned, and not in the image.
pub const OBJECT: u64 = 0xffff_c900_0000_1000;

/// A path to its end.
pub struct Path {
    pub state: State,
    pub end: End,
}

pub struct Explorer<'a> {
    pub image: &'a Image,
    pub world: &'a mut World,
    pub solver: &'a mut Solver,
    /// Whose program it is: garbage is that of one side alone.
    side: &'static str,
    pub garbage: u32,
    /// An instruction that is watched for.
    pub watch: Option<u64>,
    outward: HashMap<u64, &'static Outward>,
    thunks: Vec<u64>,
    pub paths: Vec<Path>,
    /// What is copied from user memory, if that is not any input.
    pub copied_in: Option<Vec<Term>>,
    /// The instructions that were executed.
    pub seen: BTreeMap<u64, Instruction>,
}

/// A load from user memory: how it goes on after a fault, and with a value.
#[derive(Default)]
pub struct UserRead {
    pub fault: Option<State>,
    pub value: Option<(State, Term)>,
}

/// What an instruction leaves behind.
pub enum Next {
    Go(State),
    Fork(Vec<State>),
    End(State, End),
}

impl<'a> Explorer<'a> {
    pub fn new(
        image: &'a Image,
        world: &'a mut World,
        solver: &'a mut Solver,
        side: &'static str,
    ) -> Self {
        let outward = OUTWARD
            .iter()
            .filter_map(|it| Some((image.symbol(it.name).ok()?.0, it)))
            .collect();
        let thunks = ["__x86_return_thunk", "__pi___x86_return_thunk"]
            .iter()
            .filter_map(|it| Some(image.symbol(it).ok()?.0))
            .collect();
        Self {
            image,
            world,
            solver,
            side,
            garbage: 0,
            watch: None,
            outward,
            thunks,
            paths: Vec::new(),
            copied_in: None,
            seen: BTreeMap::new(),
        }
    }

    /// A value that nobody can know.
    pub fn garbage(&mut self, width: u8) -> Term {
        self.garbage += 1;
        var(&format!("garbage.{}.{}", self.side, self.garbage), width)
    }

    /// Follows all paths from a state whose conditions can be met.
    pub fn run(&mut self, start: State) -> Result<()> {
        let mut open = vec![start];
        while !open.is_empty() {
            self.advance(&mut open)?;
            ensure!(self.paths.len() < MOST, "more than {MOST} paths");
        }
        Ok(())
    }

    /// Follows paths from open states until one has come to its end.
    pub fn advance(&mut self, open: &mut Vec<State>) -> Result<()> {
        let known = self.paths.len();
        while self.paths.len() == known {
            let Some(state) = open.pop() else { break };
            let at = state.rip;
            let next = self.step(state);
            match next.with_context(|| format!("at {}", self.image.show(at)))? {
                Next::Go(state) => open.push(state),
                Next::Fork(states) => open.extend(states),
                Next::End(state, end) => self.paths.push(Path { state, end }),
            }
        }
        Ok(())
    }

    /// One instruction, as it is once the kernel has patched itself.
    fn step(&mut self, mut state: State) -> Result<Next> {
        state.steps += 1;
        ensure!(
            state.steps <= LONGEST,
            "a path of more than {LONGEST} instructions"
        );
        let at = state.rip;
        state.watched |= self.watch == Some(at);

        // What is called by its name is looked into in any case.
        if let Some(&outward) = self.outward.get(&at).filter(|_| state.steps > 1) {
            return self.call_outward(state, outward);
        }
        if self.thunks.contains(&at) {
            return self.ret(state);
        }
        let name = self.image.symbol_at(at).map_or("", |it| &it.name);
        if name.contains("panic") {
            let end = End::Stopped(name.to_owned());
            return Ok(Next::End(state, end));
        }
        if let Some(branch) = self.image.branches.get(&at) {
            let on = var(&format!("key {}", branch.key), 1);
            let target = branch.target;
            let instruction = self.decode(at)?;
            let jumps = if branch.inverted { !on } else { on };
            return self.branch(state, jumps, target, instruction.next_ip());
        }
        let image = self.image;
        if let Some(alternatives) = image.alternatives.get(&at) {
            self.seen.insert(at, self.decode(at)?);
            return self.alternative(state, alternatives);
        }
        let instruction = self.decode(at)?;
        self.seen.insert(at, instruction);
        self.execute(state, &instruction)
            .with_context(|| format!("'{instruction}'"))
    }

    fn decode(&self, at: u64) -> Result<Instruction> {
        decode(self.image.code(at)?, at)
    }

    /// An alternative is known where it is nothing, or opens and closes user memory, or waits for
    /// loads; or where it is another constant, for which the feature is an input.
    fn alternative(&mut self, mut state: State, alternatives: &[Alternative]) -> Result<Next> {
        let at = state.rip;
        let [alternative] = alternatives else {
            bail!("several alternatives")
        };
        let original = decode_all(&self.image.code(at)?[..alternative.len as usize], at)?;
        let replacement = decode_all(&alternative.replacement, at)?;
        state.rip = at + alternative.len;

        if let ([old], [new]) = (&original[..], &replacement[..]) {
            if old.code() == Code::Mov_r64_imm64 && new.code() == old.code() {
                ensure!(old.op0_register() == new.op0_register(), "another register");
                let has = var(&format!("feature {:#x}", alternative.feature), 1);
                let value = has.ite(word(new.immediate64()), word(old.immediate64()));
                state.set_reg(old.op0_register(), value);
                return Ok(Next::Go(state));
            }
        }
        for instruction in &replacement {
            match instruction.mnemonic() {
                Mnemonic::Stac => state.user_open = true,
                Mnemonic::Clac => state.user_open = false,
                Mnemonic::Lfence | Mnemonic::Nop => {}
                _ => bail!("the kernel patches '{instruction}' in here"),
            }
        }
        // What is replaced has to do nothing, where the processor lacks the feature.
        for instruction in &original {
            let is_nop = instruction.mnemonic() == Mnemonic::Nop;
            ensure!(is_nop, "the kernel patches '{instruction}'");
        }
        Ok(Next::Go(state))
    }

    /// Both ways of a branch that inputs can take.
    pub fn branch(&mut self, state: State, taken: Term, to: u64, otherwise: u64) -> Result<Next> {
        let ways = self.assume(state, taken)?;
        Ok(Next::Fork(
            ways.into_iter()
                .map(|(mut state, is_taken)| {
                    state.rip = if is_taken { to } else { otherwise };
                    state
                })
                .collect(),
        ))
    }

    /// The state with a condition and with its opposite, as far as inputs can have it so.
    pub fn assume(&mut self, state: State, condition: Term) -> Result<Vec<(State, bool)>> {
        if let Some(value) = condition.as_const() {
            return Ok(vec![(state, value == 1)]);
        }
        let mut ways = Vec::new();
        let seen = condition.eval(&state.witness) == 1;
        for way in [true, false] {
            let mut state = state.clone();
            state
                .conditions
                .push(if way { condition } else { !condition });
            if way != seen {
                match self.solver.model(&state.conditions)? {
                    Some(model) => state.witness = model,
                    None => continue,
                }
            }
            ways.push((state, way));
        }
        Ok(ways)
    }

    /// A state for each value that a term can have.
    pub fn settle(&mut self, state: State, term: Term) -> Result<Vec<(State, u64)>> {
        if let Some(value) = term.as_const() {
            return Ok(vec![(state, value)]);
        }
        let mut rest = state.clone();
        let mut ways = Vec::new();
        loop {
            ensure!(ways.len() < VALUES, "{} has too many values", term.show());
            let value = term.eval(&rest.witness);
            let is = term.equals(constant(value, term.width()));
            let mut state = rest.clone();
            state.conditions.push(is);
            ways.push((state, value));
            rest.conditions.push(!is);
            match self.solver.model(&rest.conditions)? {
                Some(model) => rest.witness = model,
                None => return Ok(ways),
            }
        }
    }

    /// The place that an address is, if it is in a region that is known.
    pub fn place(&mut self, state: &State, address: Term, gs: bool) -> Result<Option<Place>> {
        let (base, offset) = address.base_and_offset();
        let Some(base) = base else {
            if (OBJECT..OBJECT + 4096).contains(&offset) {
                let region = self.world.region("new object");
                return Ok(Some((region, (offset - OBJECT) as i64)));
            }
            let symbol = self
                .image
                .symbol_at(offset)
                .with_context(|| format!("nothing is at {offset:#x}"))?;
            let name = match gs {
                true => format!("percpu {}", symbol.name),
                false => symbol.name.clone(),
            };
            let offset = (offset - symbol.start) as i64;
            return Ok(Some((self.world.region(&name), offset)));
        };
        if base == var("stack", 64) && !gs {
            let offset = offset as i64;
            ensure!(
                offset >= state.stack_offset()?,
                "an access below the stack pointer"
            );
            ensure!(offset <= 0, "an access to the caller's stack");
            return Ok(Some((STACK, offset)));
        }
        if let Some(region) = self.world.region_of(base).filter(|_| !gs) {
            return Ok(Some((region, offset as i64)));
        }
        // What a pointer in memory points to, which is read only.
        match base.name() {
            Some(name) if base.width() == 64 && name.contains(['+', '-']) => {
                let prefix = if gs { "percpu " } else { "" };
                let region = self.world.region(&format!("{prefix}*({name})"));
                Ok(Some((region, offset as i64)))
            }
            _ => Ok(None),
        }
    }

    /// Goes back to the caller.
    pub fn ret(&mut self, mut state: State) -> Result<Next> {
        let to = state.pop(self.world)?;
        if let Some(frame) = state.frames.pop() {
            ensure!(to.as_const() == Some(frame), "returns to {}", to.show());
            state.rip = frame;
            return Ok(Next::Go(state));
        }
        if to != State::return_address() {
            state.violate("returns to another address");
        }
        if state.regs[RSP] != var("stack", 64) + word(8) {
            state.violate("returns with another stack pointer");
        }
        for number in CALLEE_SAVED {
            let entry = var(&format!("{}.entry", NAMES[number]), 64);
            if state.regs[number] != entry {
                state.violate(format!("does not preserve {}", NAMES[number]));
            }
        }
        if state.user_open {
            state.violate("returns with user memory open");
        }
        Ok(Next::End(state, End::Returned))
    }

    pub fn note(&mut self, state: &mut State, name: &str, values: Vec<(String, Term)>) {
        state.events.push(Event {
            name: name.to_owned(),
            values,
            memory: Memory::clone(&state.memory),
        });
    }

    pub fn spoil_flags(&mut self, state: &mut State) {
        use Flag::{Adjust, Carry, Overflow, Parity, Sign, Zero};
        for flag in [Carry, Parity, Adjust, Zero, Sign, Overflow] {
            let garbage = self.garbage(1);
            state.set_flag(flag, garbage);
        }
    }

    /// A byte or more of user memory, which may fault.
    pub fn read_user(
        &mut self,
        mut state: State,
        instruction: &Instruction,
        address: Term,
        width: u8,
    ) -> Result<UserRead> {
        let fault = *self
            .image
            .faults
            .get(&instruction.ip())
            .with_context(|| format!("{} is in no region that is known", address.show()))?;
        if !state.user_open {
            state.violate("reads user memory that is not open");
        }
        let number = state.occurrence(USER_READ);
        let limit = var("USER_PTR_MAX", 64);
        let mut beyond = state.conditions.clone();
        beyond.push(limit.below(address));
        if self.solver.is_possible(&beyond)? {
            state.violate("reads user memory at an address that is not masked");
        }
        let values = vec![
            ("address".to_owned(), address),
            ("length".to_owned(), word(u64::from(width) / 8)),
        ];
        self.note(&mut state, USER_READ, values);
        state.memory.others_ran(self.world);
        let faults = var(&format!("{USER_READ} #{number}: fault"), 1);
        let mut read = UserRead::default();
        for (mut state, is_fault) in self.assume(state, faults)? {
            if is_fault {
                state.rip = fault.resume;
                if let Some((register, value)) = fault.set {
                    state.regs[register] = word(value as i64 as u64);
                }
                read.fault = Some(state);
            } else {
                let value = var(&format!("{USER_READ} #{number}: value"), width);
                read.value = Some((state, value));
            }
        }
        Ok(read)
    }
}

pub fn decode(code: &[u8], at: u64) -> Result<Instruction> {
    let instruction = Decoder::with_ip(64, code, at, DecoderOptions::NONE).decode();
    ensure!(!instruction.is_invalid(), "no instruction");
    Ok(instruction)
}

fn decode_all(code: &[u8], at: u64) -> Result<Vec<Instruction>> {
    let all = Decoder::with_ip(64, code, at, DecoderOptions::NONE)
        .iter()
        .collect::<Vec<_>>();
    ensure!(all.iter().all(|it| !it.is_invalid()), "no instruction");
    Ok(all)
}
