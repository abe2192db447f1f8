// SPDX-License-Identifier: GPL-2.0

//! The state of a processor on one path through a program.

use crate::{
    memory::{Memory, Place, World, STACK},
    term::{constant, truth, var, word, Assignment, Term},
};
use anyhow::{ensure, Context as _, Result};
use iced_x86::Register;

pub const RAX: usize = 0;
pub const RCX: usize = 1;
pub const RDX: usize = 2;
pub const RSP: usize = 4;
pub const RSI: usize = 6;
pub const RDI: usize = 7;
/// In which the first six arguments are.
pub const ARGUMENTS: [usize; 6] = [RDI, RSI, RDX, RCX, 8, 9];
/// What a call leaves alone.
pub const CALLEE_SAVED: [usize; 6] = [3, 5, 12, 13, 14, 15];
pub const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    Carry,
    Parity,
    Adjust,
    Zero,
    Sign,
    Overflow,
}

/// What a program did that others can see, and how memory was then.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub values: Vec<(String, Term)>,
    pub memory: Memory,
}

/// How a path ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Returned,
    /// With a signal in the queue.
    Queued,
    /// At an instruction that the kernel does not survive.
    Stopped(String),
}

#[derive(Clone, Debug)]
pub struct State {
    pub rip: u64,
    pub regs: [Term; 16],
    flags: [Term; 6],
    /// Whether STAC opened user memory.
    pub user_open: bool,
    pub memory: Memory,
    /// What holds on this path, and inputs that take it.
    pub conditions: Vec<Term>,
    pub witness: Assignment,
    pub events: Vec<Event>,
    /// What must not be, and is.
    pub violations: Vec<String>,
    /// Return addresses of functions that were looked into.
    pub frames: Vec<u64>,
    pub steps: usize,
    /// Whether the instruction that is watched was executed.
    pub watched: bool,
}

impl State {
    /// At the entry of a function. The bases and the return address are inputs.
    pub fn at(rip: u64) -> Self {
        let mut regs = NAMES.map(|name| var(&format!("{name}.entry"), 64));
        regs[RSP] = word(0) + var("stack", 64);
        let mut memory = Memory::default();
        memory.store((STACK, 0), Self::return_address());
        Self {
            rip,
            regs,
            flags: ["c", "p", "a", "z", "s", "o"].map(|it| var(&format!("{it}f.entry"), 1)),
            user_open: false,
            memory,
            conditions: Vec::new(),
            witness: Assignment::new(),
            events: Vec::new(),
            violations: Vec::new(),
            frames: Vec::new(),
            steps: 0,
            watched: false,
        }
    }

    pub fn return_address() -> Term {
        var("return", 64)
    }

    pub fn reg(&self, register: Register) -> Term {
        let whole = self.regs[register.full_register().number()];
        let width = register.size() as u8 * 8;
        match register {
            Register::AH | Register::CH | Register::DH | Register::BH => {
                self.regs[register.number() - 4].extract(8, 8)
            }
            _ => whole.extract(0, width),
        }
    }

    pub fn set_reg(&mut self, register: Register, value: Term) {
        if matches!(
            register,
            Register::AH | Register::CH | Register::DH | Register::BH
        ) {
            let number = register.number() - 4;
            let whole = self.regs[number];
            self.regs[number] = whole
                .extract(16, 48)
                .concat(value)
                .concat(whole.extract(0, 8));
            return;
        }
        let number = register.full_register().number();
        let whole = self.regs[number];
        self.regs[number] = match value.width() {
            64 => value,
            32 => value.zero_extend(64),
            width => whole.extract(width, 64 - width).concat(value),
        };
        if number == RSP {
            if let Ok(offset) = self.stack_offset() {
                self.memory.drop_below(offset);
            }
        }
    }

    pub fn flag(&self, flag: Flag) -> Term {
        self.flags[flag as usize]
    }

    pub fn set_flag(&mut self, flag: Flag, value: Term) {
        self.flags[flag as usize] = value;
    }

    /// The flags that follow from a result alone.
    pub fn set_result_flags(&mut self, result: Term) {
        let width = result.width();
        let mut parity = truth(true);
        for bit in 0..8 {
            parity = parity ^ result.extract(bit, 1);
        }
        self.set_flag(Flag::Parity, parity);
        self.set_flag(Flag::Zero, result.is_zero());
        self.set_flag(Flag::Sign, result.extract(width - 1, 1));
    }

    /// Where the stack pointer is, from where it was at entry.
    pub fn stack_offset(&self) -> Result<i64> {
        let (base, offset) = self.regs[RSP].base_and_offset();
        ensure!(
            base == Some(var("stack", 64)),
            "the stack pointer is something else"
        );
        Ok(offset as i64)
    }

    pub fn push(&mut self, value: Term) -> Result<()> {
        self.regs[RSP] = self.regs[RSP] + constant(8u64.wrapping_neg(), 64);
        let offset = self.stack_offset()?;
        self.memory.store((STACK, offset), value);
        Ok(())
    }

    pub fn pop(&mut self, world: &World) -> Result<Term> {
        let offset = self.stack_offset()?;
        let value = self.memory.load(world, (STACK, offset), 64)?;
        self.set_reg(Register::RSP, self.regs[RSP] + word(8));
        Ok(value)
    }

    /// A pointer to the stack, as a place.
    pub fn stack_place(&self, pointer: Term) -> Result<Place> {
        let (base, offset) = pointer.base_and_offset();
        ensure!(
            base == Some(var("stack", 64)),
            "{} is not on the stack",
            pointer.show()
        );
        let offset = offset as i64;
        let lowest = self.stack_offset().context("no stack pointer")?;
        ensure!(offset >= lowest, "a buffer is below the stack pointer");
        Ok((STACK, offset))
    }

    /// The how manieth event of a name the next one is. It names what comes of the event, so that
    /// both programs get the same.
    pub fn occurrence(&self, name: &str) -> usize {
        1 + self.events.iter().filter(|it| it.name == name).count()
    }

    pub fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }
}
