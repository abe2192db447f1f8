// SPDX-License-Identifier: GPL-2.0

//! What the instructions do. One that is not here is refused.

use crate::{
    explore::{Explorer, Next},
    machine::{End, Flag, State, RAX, RCX, RDI},
    memory::Place,
    term::{constant, truth, word, Term},
};
use anyhow::{bail, ensure, Context as _, Result};
use iced_x86::{ConditionCode, Instruction, Mnemonic, OpKind, Register};

/// Where an operand is.
enum Operand {
    Register(Register),
    Memory(Place, u8),
    Immediate(Term),
    /// In user memory, or nowhere.
    Elsewhere(Term, u8),
}

/// The sum, and the carry and overflow that come of it.
fn sum(a: Term, b: Term, carry: Term) -> (Term, Term, Term) {
    let width = a.width();
    let c = carry.zero_extend(width);
    let result = a + b + c;
    let top = |it: Term| it.extract(width - 1, 1);
    let carry = (top(a) & top(b)) | ((top(a) | top(b)) & !top(result));
    let overflow = (top(a) ^ top(result)) & (top(b) ^ top(result));
    (result, carry, overflow)
}

impl Explorer<'_> {
    fn address(&self, state: &State, instruction: &Instruction) -> Result<Term> {
        let register = |it: Register| -> Result<Term> {
            match it {
                Register::None => Ok(word(0)),
                it if it.is_gpr64() => Ok(state.reg(it)),
                it => bail!("an address with {it:?}"),
            }
        };
        if instruction.is_ip_rel_memory_operand() {
            return Ok(word(instruction.ip_rel_memory_address()));
        }
        let base = register(instruction.memory_base())?;
        let index = register(instruction.memory_index())?;
        let scale = word(instruction.memory_index_scale().into());
        Ok(base + index.mul(scale) + word(instruction.memory_displacement64()))
    }

    fn operand(&mut self, state: &State, instruction: &Instruction, n: u32) -> Result<Operand> {
        Ok(match instruction.op_kind(n) {
            OpKind::Register => {
                let register = instruction.op_register(n);
                ensure!(register.is_gpr(), "{register:?} is not known");
                Operand::Register(register)
            }
            OpKind::Memory => {
                let width = instruction.memory_size().size() as u8 * 8;
                ensure!((8..=64).contains(&width), "an access of {width} bits");
                let gs = match instruction.segment_prefix() {
                    Register::GS => true,
                    Register::None | Register::CS | Register::DS => false,
                    other => bail!("the segment {other:?}"),
                };
                let address = self.address(state, instruction)?;
                // An access that may fault is one to user memory, whatever its address.
                let may_fault = self.image.faults.contains_key(&instruction.ip());
                match self.place(state, address, gs)? {
                    Some(place) if !may_fault => Operand::Memory(place, width),
                    _ => Operand::Elsewhere(address, width),
                }
            }
            OpKind::Immediate8 => Operand::Immediate(constant(instruction.immediate8().into(), 8)),
            OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate32to64
            | OpKind::Immediate64 => Operand::Immediate(word(instruction.immediate(n))),
            kind => bail!("an operand of kind {kind:?}"),
        })
    }

    fn load(&self, state: &State, operand: &Operand) -> Result<Term> {
        match *operand {
            Operand::Register(register) => Ok(state.reg(register)),
            Operand::Memory(place, width) => state.memory.load(self.world, place, width),
            Operand::Immediate(value) => Ok(value),
            Operand::Elsewhere(address, _) => bail!("an access to {}", address.show()),
        }
    }

    fn store(&self, state: &mut State, operand: &Operand, value: Term) -> Result<()> {
        match *operand {
            Operand::Register(register) => state.set_reg(register, value),
            Operand::Memory(place, _) => {
                let region = self.world.name(place.0);
                ensure!(self.world.is_writable(place.0), "a store to {region}");
                let own = State::return_address();
                let is_own = place.1 == 0 && place.0 == crate::memory::STACK;
                ensure!(!is_own || value == own, "a store over the return address");
                state.memory.store(place, value);
            }
            Operand::Immediate(_) => bail!("a store to a constant"),
            Operand::Elsewhere(address, _) => bail!("a store to {}", address.show()),
        }
        Ok(())
    }

    fn condition(state: &State, code: ConditionCode) -> Result<Term> {
        let flag = |it| state.flag(it);
        use Flag::{Carry, Overflow, Parity, Sign, Zero};
        Ok(match code {
            ConditionCode::o => flag(Overflow),
            ConditionCode::no => !flag(Overflow),
            ConditionCode::b => flag(Carry),
            ConditionCode::ae => !flag(Carry),
            ConditionCode::e => flag(Zero),
            ConditionCode::ne => !flag(Zero),
            ConditionCode::be => flag(Carry) | flag(Zero),
            ConditionCode::a => !(flag(Carry) | flag(Zero)),
            ConditionCode::s => flag(Sign),
            ConditionCode::ns => !flag(Sign),
            ConditionCode::p => flag(Parity),
            ConditionCode::np => !flag(Parity),
            ConditionCode::l => flag(Sign) ^ flag(Overflow),
            ConditionCode::ge => !(flag(Sign) ^ flag(Overflow)),
            ConditionCode::le => flag(Zero) | (flag(Sign) ^ flag(Overflow)),
            ConditionCode::g => !(flag(Zero) | (flag(Sign) ^ flag(Overflow))),
            ConditionCode::None => bail!("no condition"),
        })
    }

    fn set_sum_flags(&mut self, state: &mut State, a: Term, b: Term, result: Term) {
        state.set_result_flags(result);
        let adjust = (a ^ b ^ result).extract(4, 1);
        state.set_flag(Flag::Adjust, adjust);
    }

    /// `a - b - carry`, and its flags.
    fn subtract(&mut self, state: &mut State, a: Term, b: Term, carry: Term) -> Term {
        let (result, no_borrow, overflow) = sum(a, !b, !carry);
        let plain = carry.as_const() == Some(0);
        let result = if plain { a - b } else { result };
        self.set_sum_flags(state, a, b, result);
        if plain {
            // The same, in a form that is simpler to think about.
            state.set_flag(Flag::Carry, a.below(b));
            state.set_flag(Flag::Zero, a.equals(b));
        } else {
            state.set_flag(Flag::Carry, !no_borrow);
        }
        state.set_flag(Flag::Overflow, overflow);
        result
    }

    fn set_logic_flags(&mut self, state: &mut State, result: Term) {
        state.set_result_flags(result);
        state.set_flag(Flag::Carry, truth(false));
        state.set_flag(Flag::Overflow, truth(false));
        let garbage = self.garbage(1);
        state.set_flag(Flag::Adjust, garbage);
    }

    /// Executes an instruction that is not patched.
    pub fn execute(&mut self, mut state: State, instruction: &Instruction) -> Result<Next> {
        use Mnemonic as M;
        let next = instruction.next_ip();
        state.rip = next;

        match instruction.mnemonic() {
            M::Nop | M::Endbr64 | M::Lfence | M::Pause => return Ok(Next::Go(state)),
            M::Stac => state.user_open = true,
            M::Clac => state.user_open = false,
            M::Ud2 | M::Ud1 | M::Int3 => {
                let end = End::Stopped(self.image.show(instruction.ip()));
                return Ok(Next::End(state, end));
            }
            M::Ret => return self.ret(state),
            M::Jmp | M::Call => return self.transfer(state, instruction),
            _ if instruction.is_jcc_short_or_near() => {
                let condition = Self::condition(&state, instruction.condition_code())?;
                return self.branch(state, condition, instruction.near_branch_target(), next);
            }
            M::Push => {
                let operand = self.operand(&state, instruction, 0)?;
                let value = self.load(&state, &operand)?;
                ensure!(value.width() == 64, "a push of {} bits", value.width());
                state.push(value)?;
            }
            M::Pop => {
                let value = state.pop(self.world)?;
                let operand = self.operand(&state, instruction, 0)?;
                self.store(&mut state, &operand, value)?;
            }
            M::Lea => {
                let address = self.address(&state, instruction)?;
                let register = instruction.op0_register();
                state.set_reg(register, address.extract(0, register.size() as u8 * 8));
            }
            M::Cdqe => state.set_reg(Register::RAX, state.reg(Register::EAX).sign_extend(64)),
            M::Cwde => state.set_reg(Register::EAX, state.reg(Register::AX).sign_extend(32)),
            M::Stosq | M::Stosd | M::Stosb => return self.fill(state, instruction),
            _ => return self.compute(state, instruction),
        }
        Ok(Next::Go(state))
    }

    fn transfer(&mut self, mut state: State, instruction: &Instruction) -> Result<Next> {
        let near = matches!(instruction.op0_kind(), OpKind::NearBranch64);
        ensure!(near, "the target is not known");
        if instruction.mnemonic() == Mnemonic::Call {
            state.push(word(instruction.next_ip()))?;
            state.frames.push(instruction.next_ip());
        }
        state.rip = instruction.near_branch_target();
        Ok(Next::Go(state))
    }

    /// `stos`, repeated as often as a constant says.
    fn fill(&mut self, mut state: State, instruction: &Instruction) -> Result<Next> {
        let size = instruction.memory_size().size() as u64;
        let times = match instruction.has_rep_prefix() {
            false => 1,
            true => state.regs[RCX]
                .as_const()
                .context("how often is not known")?,
        };
        let value = state.regs[RAX].extract(0, size as u8 * 8);
        for _ in 0..times {
            let place = self
                .place(&state, state.regs[RDI], false)?
                .context("no place")?;
            self.store(&mut state, &Operand::Memory(place, 0), value)?;
            state.regs[RDI] = state.regs[RDI] + word(size);
        }
        if instruction.has_rep_prefix() {
            state.regs[RCX] = word(0);
        }
        Ok(Next::Go(state))
    }

    /// An instruction that computes with one or two operands.
    fn compute(&mut self, mut state: State, instruction: &Instruction) -> Result<Next> {
        use Mnemonic as M;
        let mnemonic = instruction.mnemonic();
        if matches!(mnemonic, M::Bt | M::Bts | M::Btr | M::Btc) {
            return self.bit(state, instruction);
        }
        let target = self.operand(&state, instruction, 0)?;
        let source = match instruction.op_count() {
            1 => None,
            2 => Some(self.operand(&state, instruction, 1)?),
            count => bail!("{count} operands"),
        };
        // A load from user memory is its own instruction.
        if let Some(Operand::Elsewhere(address, width)) = source {
            ensure!(
                matches!(mnemonic, M::Mov | M::Movzx | M::Movsx),
                "an access to {}",
                address.show()
            );
            let read = self.read_user(state, instruction, address, width)?;
            let mut states: Vec<State> = read.fault.into_iter().collect();
            if let Some((mut state, value)) = read.value {
                let wide = instruction.op0_register().size() as u8 * 8;
                let value = match mnemonic {
                    M::Movsx => value.sign_extend(wide),
                    _ => value.zero_extend(wide),
                };
                self.store(&mut state, &target, value)?;
                states.push(state);
            }
            return Ok(Next::Fork(states));
        }
        let width = match &target {
            Operand::Register(register) => register.size() as u8 * 8,
            Operand::Memory(_, width) | Operand::Elsewhere(_, width) => *width,
            Operand::Immediate(_) => bail!("no target"),
        };
        let source = match &source {
            Some(source) => Some(self.load(&state, source)?),
            None => None,
        };
        let b = |narrow: fn(Term, u8) -> Term| -> Result<Term> {
            let source = source.context("no source")?;
            Ok(if source.width() > width {
                source.extract(0, width)
            } else {
                narrow(source, width)
            })
        };
        let zero = truth(false);
        let same = |source: Term, _: u8| source;

        let result = match mnemonic {
            M::Mov => match self.image.runtime.get(&(instruction.next_ip() - 8)) {
                Some(name) if instruction.len() == 10 => crate::term::var(name, 64),
                Some(_) => bail!("a constant of boot is patched in here"),
                None => b(same)?,
            },
            M::Movzx => b(Term::zero_extend)?,
            M::Movsx | M::Movsxd => b(Term::sign_extend)?,
            _ if instruction.condition_code() != ConditionCode::None => {
                let condition = Self::condition(&state, instruction.condition_code())?;
                match instruction.op_count() {
                    1 => condition.zero_extend(8),
                    _ => condition.ite(b(same)?, self.load(&state, &target)?),
                }
            }
            _ => {
                let a = self.load(&state, &target)?;
                match mnemonic {
                    M::Add | M::Adc => {
                        let b = b(same)?;
                        let carry = match mnemonic {
                            M::Adc => state.flag(Flag::Carry),
                            _ => zero,
                        };
                        let (result, carry, overflow) = sum(a, b, carry);
                        self.set_sum_flags(&mut state, a, b, result);
                        state.set_flag(Flag::Carry, carry);
                        state.set_flag(Flag::Overflow, overflow);
                        result
                    }
                    M::Sub => self.subtract(&mut state, a, b(same)?, zero),
                    M::Sbb => {
                        let carry = state.flag(Flag::Carry);
                        let b = b(same)?;
                        let result = self.subtract(&mut state, a, b, carry);
                        if a == b {
                            -carry.zero_extend(width)
                        } else {
                            result
                        }
                    }
                    M::Cmp => {
                        self.subtract(&mut state, a, b(same)?, zero);
                        return Ok(Next::Go(state));
                    }
                    M::Test => {
                        let result = a & b(same)?;
                        self.set_logic_flags(&mut state, result);
                        return Ok(Next::Go(state));
                    }
                    M::And | M::Or | M::Xor => {
                        let b = b(same)?;
                        let result = match mnemonic {
                            M::And => a & b,
                            M::Or => a | b,
                            _ => a ^ b,
                        };
                        self.set_logic_flags(&mut state, result);
                        result
                    }
                    M::Not => !a,
                    M::Neg => {
                        let nothing = constant(0, width);
                        let result = self.subtract(&mut state, nothing, a, zero);
                        state.set_flag(Flag::Carry, !a.is_zero());
                        result
                    }
                    M::Inc | M::Dec => {
                        // The carry stays.
                        let (carry, one) = (state.flag(Flag::Carry), constant(1, width));
                        let result = match mnemonic {
                            M::Inc => {
                                let (result, _, overflow) = sum(a, one, zero);
                                self.set_sum_flags(&mut state, a, one, result);
                                state.set_flag(Flag::Overflow, overflow);
                                result
                            }
                            _ => self.subtract(&mut state, a, one, zero),
                        };
                        state.set_flag(Flag::Carry, carry);
                        result
                    }
                    M::Shl | M::Shr | M::Sar => self.shift(&mut state, mnemonic, a, source)?,
                    M::Xchg => {
                        let second = self.operand(&state, instruction, 1)?;
                        let b = b(same)?;
                        self.store(&mut state, &second, a)?;
                        b
                    }
                    _ => bail!("the instruction is not known"),
                }
            }
        };
        self.store(&mut state, &target, result)?;
        Ok(Next::Go(state))
    }

    fn shift(
        &mut self,
        state: &mut State,
        mnemonic: Mnemonic,
        a: Term,
        source: Option<Term>,
    ) -> Result<Term> {
        let width = a.width();
        let most = if width == 64 { 63 } else { 31 };
        let by = source
            .map_or(Some(1), Term::as_const)
            .context("how far is not known")?
            & most;
        if by == 0 {
            return Ok(a);
        }
        ensure!(by < width.into(), "a shift by more than there is");
        let (count, by) = (by as u8, constant(by, width));
        let (result, out) = match mnemonic {
            Mnemonic::Shl => (a.shl(by), a.extract(width - count, 1)),
            Mnemonic::Shr => (a.shr(by), a.extract(count - 1, 1)),
            _ => (a.sar(by), a.extract(count - 1, 1)),
        };
        state.set_result_flags(result);
        state.set_flag(Flag::Carry, out);
        let (adjust, mut overflow) = (self.garbage(1), self.garbage(1));
        if count == 1 {
            overflow = match mnemonic {
                Mnemonic::Shl => result.extract(width - 1, 1) ^ out,
                Mnemonic::Shr => a.extract(width - 1, 1),
                _ => truth(false),
            };
        }
        state.set_flag(Flag::Adjust, adjust);
        state.set_flag(Flag::Overflow, overflow);
        Ok(result)
    }

    /// `bt` and its like. With a number in a register, memory is a string of bits.
    fn bit(&mut self, state: State, instruction: &Instruction) -> Result<Next> {
        let number = self.operand(&state, instruction, 1)?;
        let number = self.load(&state, &number)?;
        let is_string =
            instruction.op0_kind() == OpKind::Memory && instruction.op1_kind() == OpKind::Register;
        let width = match instruction.op0_kind() {
            OpKind::Register => instruction.op0_register().size() as u8 * 8,
            _ => instruction.memory_size().size() as u8 * 8,
        };
        ensure!(width >= 16, "a bit of {width}");
        let shift = width.trailing_zeros() as u64;
        let far = match is_string {
            true => number.sar(constant(shift, number.width())),
            false => constant(0, width),
        };
        let mut done = Vec::new();
        for (mut state, far) in self.settle(state, far)? {
            let mut target = self.operand(&state, instruction, 0)?;
            if let Operand::Memory((_, offset), _) = &mut target {
                *offset += far as i64 * i64::from(width / 8);
            }
            let a = self.load(&state, &target)?;
            let at = number.extract(0, shift as u8).zero_extend(width);
            let one = match at.as_const() {
                Some(at) => constant(1 << at, width),
                None => constant(1, width).shl(at),
            };
            let tested = !(a & one).is_zero();
            state.set_flag(Flag::Carry, tested);
            // The others but the zero flag are undefined.
            for flag in [Flag::Parity, Flag::Adjust, Flag::Sign, Flag::Overflow] {
                let garbage = self.garbage(1);
                state.set_flag(flag, garbage);
            }
            match instruction.mnemonic() {
                Mnemonic::Bts => self.store(&mut state, &target, a | one)?,
                Mnemonic::Btr => self.store(&mut state, &target, a & !one)?,
                Mnemonic::Btc => self.store(&mut state, &target, a ^ one)?,
                _ => {}
            }
            done.push(state);
        }
        Ok(Next::Fork(done))
    }
}
