// SPDX-License-Identifier: GPL-2.0

//! Bit vectors as terms: what a register, a flag or a byte of memory holds on a path, as an
//! expression over the inputs.
//!
//! A term is built once (equal expressions are the same term), and simplified as it is built. The
//! simplifications are what resolves addresses: a pointer is one base plus a constant, also after
//! it went through memory byte by byte. All else is left to the solver.

use std::{cell::RefCell, collections::HashMap, fmt::Write as _};

/// A bit vector of 1 to 64 bits. A condition is one of 1 bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Const(u64),
    /// An input, by the number of its name.
    Var(u32),
    Not(Term),
    Neg(Term),
    And(Term, Term),
    Or(Term, Term),
    Xor(Term, Term),
    Add(Term, Term),
    Mul(Term, Term),
    Shl(Term, Term),
    Shr(Term, Term),
    Sar(Term, Term),
    Eq(Term, Term),
    /// Unsigned less-than.
    Ult(Term, Term),
    Ite(Term, Term, Term),
    /// From a bit on, as many bits as the term is wide.
    Extract(Term, u8),
    /// High part, low part.
    Concat(Term, Term),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    op: Op,
    width: u8,
}

#[derive(Default)]
struct Arena {
    nodes: Vec<Node>,
    index: HashMap<Node, Term>,
    names: Vec<String>,
    name_index: HashMap<String, u32>,
}

thread_local! {
    static ARENA: RefCell<Arena> = RefCell::default();
}

/// Values of inputs. One that is missing is 0.
pub type Assignment = HashMap<Term, u64>;

pub fn mask(width: u8) -> u64 {
    u64::MAX >> (64 - width)
}

pub fn sign_extend(value: u64, width: u8) -> u64 {
    let shift = 64 - u32::from(width);
    ((value << shift) as i64 >> shift) as u64
}

pub fn make(op: Op, width: u8) -> Term {
    assert!((1..=64).contains(&width), "no bit vector has {width} bits");
    ARENA.with_borrow_mut(|arena| {
        let node = Node { op, width };
        if let Some(&term) = arena.index.get(&node) {
            return term;
        }
        let term = Term(arena.nodes.len() as u32);
        arena.nodes.push(node);
        arena.index.insert(node, term);
        term
    })
}

/// The input of a name. Both programs that are compared share it.
pub fn var(name: &str, width: u8) -> Term {
    let number = ARENA.with_borrow_mut(|arena| {
        if let Some(&number) = arena.name_index.get(name) {
            return number;
        }
        let number = arena.names.len() as u32;
        arena.names.push(name.to_owned());
        arena.name_index.insert(name.to_owned(), number);
        number
    });
    make(Op::Var(number), width)
}

pub fn constant(value: u64, width: u8) -> Term {
    make(Op::Const(value & mask(width)), width)
}

pub fn word(value: u64) -> Term {
    constant(value, 64)
}

pub fn truth(value: bool) -> Term {
    constant(value.into(), 1)
}

impl Term {
    pub fn op(self) -> Op {
        ARENA.with_borrow(|arena| arena.nodes[self.0 as usize].op)
    }

    pub fn width(self) -> u8 {
        ARENA.with_borrow(|arena| arena.nodes[self.0 as usize].width)
    }

    pub fn number(self) -> u32 {
        self.0
    }

    /// The name, if it is an input.
    pub fn name(self) -> Option<String> {
        match self.op() {
            Op::Var(number) => {
                ARENA.with_borrow(|arena| Some(arena.names[number as usize].clone()))
            }
            _ => None,
        }
    }

    pub fn as_const(self) -> Option<u64> {
        match self.op() {
            Op::Const(value) => Some(value),
            _ => None,
        }
    }

    pub fn is(self, value: u64) -> bool {
        self.as_const() == Some(value & mask(self.width()))
    }

    /// What an address is made of: what varies, if anything does, and what does not.
    pub fn base_and_offset(self) -> (Option<Term>, u64) {
        match self.op() {
            Op::Const(value) => (None, value),
            Op::Add(base, offset) => match offset.as_const() {
                Some(offset) => (Some(base), offset),
                None => (Some(self), 0),
            },
            _ => (Some(self), 0),
        }
    }

    pub fn operands(self) -> Vec<Term> {
        match self.op() {
            Op::Const(_) | Op::Var(_) => vec![],
            Op::Not(a) | Op::Neg(a) | Op::Extract(a, _) => vec![a],
            Op::And(a, b)
            | Op::Or(a, b)
            | Op::Xor(a, b)
            | Op::Add(a, b)
            | Op::Mul(a, b)
            | Op::Shl(a, b)
            | Op::Shr(a, b)
            | Op::Sar(a, b)
            | Op::Eq(a, b)
            | Op::Ult(a, b)
            | Op::Concat(a, b) => vec![a, b],
            Op::Ite(a, b, c) => vec![a, b, c],
        }
    }

    pub fn extract(self, low: u8, width: u8) -> Term {
        debug_assert!(low + width <= self.width());
        if width == self.width() {
            return self;
        }
        match self.op() {
            Op::Const(value) => constant(value >> low, width),
            Op::Extract(inner, at) => inner.extract(at + low, width),
            Op::Concat(high, rest) => {
                let split = rest.width();
                if low >= split {
                    high.extract(low - split, width)
                } else if low + width <= split {
                    rest.extract(low, width)
                } else {
                    high.extract(0, low + width - split)
                        .concat(rest.extract(low, split - low))
                }
            }
            Op::And(a, b) => a.extract(low, width) & b.extract(low, width),
            Op::Or(a, b) => a.extract(low, width) | b.extract(low, width),
            Op::Xor(a, b) => a.extract(low, width) ^ b.extract(low, width),
            Op::Not(a) => !a.extract(low, width),
            Op::Ite(c, a, b) => c.ite(a.extract(low, width), b.extract(low, width)),
            _ => make(Op::Extract(self, low), width),
        }
    }

    /// `self` in the high bits, `low` in the low ones.
    pub fn concat(self, low: Term) -> Term {
        let width = self.width() + low.width();
        if let (Some(a), Some(b)) = (self.as_const(), low.as_const()) {
            return constant(a << low.width() | b, width);
        }
        if let Some(joined) = join(self, low) {
            return joined;
        }
        match (self.op(), low.op()) {
            // Bytes that were stored apart come together from the high end.
            (Op::Concat(head, tail), _) => match join(tail, low) {
                Some(joined) => head.concat(joined),
                None => make(Op::Concat(self, low), width),
            },
            (_, Op::Concat(head, tail)) => match join(self, head) {
                Some(joined) => joined.concat(tail),
                None => make(Op::Concat(self, low), width),
            },
            _ => make(Op::Concat(self, low), width),
        }
    }

    pub fn zero_extend(self, width: u8) -> Term {
        match width - self.width() {
            0 => self,
            more => constant(0, more).concat(self),
        }
    }

    pub fn sign_extend(self, width: u8) -> Term {
        let from = self.width();
        if let Some(value) = self.as_const() {
            return constant(sign_extend(value, from), width);
        }
        match width - from {
            0 => self,
            more => self
                .extract(from - 1, 1)
                .ite(constant(u64::MAX, more), constant(0, more))
                .concat(self),
        }
    }

    pub fn ite(self, yes: Term, no: Term) -> Term {
        debug_assert_eq!(self.width(), 1);
        match self.as_const() {
            Some(0) => return no,
            Some(_) => return yes,
            None => {}
        }
        if yes == no {
            return yes;
        }
        if yes.width() == 1 {
            match (yes.as_const(), no.as_const()) {
                (Some(1), Some(0)) => return self,
                (Some(0), Some(1)) => return !self,
                _ => {}
            }
        }
        make(Op::Ite(self, yes, no), yes.width())
    }

    pub fn equals(self, other: Term) -> Term {
        debug_assert_eq!(self.width(), other.width());
        if self == other {
            return truth(true);
        }
        let (a, b) = sorted(self, other);
        if let (Some(a), Some(b)) = (a.as_const(), b.as_const()) {
            return truth(a == b);
        }
        if a.width() == 1 {
            match b.as_const() {
                Some(0) => return !a,
                Some(_) => return a,
                None => {}
            }
        }
        // x + c = d, and the same with one bit that is tested: a smaller question.
        if let (Op::Add(x, c), Some(d)) = (a.op(), b.as_const()) {
            if let Some(c) = c.as_const() {
                return x.equals(constant(d.wrapping_sub(c), a.width()));
            }
        }
        if let (Op::Concat(high, low), Some(d)) = (a.op(), b.as_const()) {
            let split = low.width();
            return high.equals(constant(d >> split, high.width()))
                & low.equals(constant(d, split));
        }
        if let (Op::Ite(c, yes, no), Some(_)) = (a.op(), b.as_const()) {
            if yes.as_const().is_some() && no.as_const().is_some() {
                return c.ite(yes.equals(b), no.equals(b));
            }
        }
        make(Op::Eq(a, b), 1)
    }

    pub fn is_zero(self) -> Term {
        self.equals(constant(0, self.width()))
    }

    pub fn below(self, other: Term) -> Term {
        if self == other || other.is(0) {
            return truth(false);
        }
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return truth(a < b);
        }
        make(Op::Ult(self, other), 1)
    }

    fn shift(self, by: Term, op: fn(Term, Term) -> Op) -> Term {
        if by.is(0) {
            return self;
        }
        let term = make(op(self, by), self.width());
        match (self.as_const(), by.as_const()) {
            (Some(_), Some(_)) => constant(term.eval(&Assignment::new()), self.width()),
            _ => term,
        }
    }

    pub fn shl(self, by: Term) -> Term {
        if let Some(count @ 1..) = by.as_const() {
            if count < self.width().into() {
                let count = count as u8;
                return self
                    .extract(0, self.width() - count)
                    .concat(constant(0, count));
            }
        }
        self.shift(by, Op::Shl)
    }

    pub fn shr(self, by: Term) -> Term {
        if let Some(count @ 1..) = by.as_const() {
            if count < self.width().into() {
                let count = count as u8;
                return self
                    .extract(count, self.width() - count)
                    .zero_extend(self.width());
            }
        }
        self.shift(by, Op::Shr)
    }

    pub fn sar(self, by: Term) -> Term {
        self.shift(by, Op::Sar)
    }

    pub fn mul(self, other: Term) -> Term {
        let width = self.width();
        match (self.as_const(), other.as_const()) {
            (Some(a), Some(b)) => constant(a.wrapping_mul(b), width),
            (None, Some(b)) if b.is_power_of_two() => {
                self.shl(constant(b.trailing_zeros().into(), width))
            }
            (Some(_), None) => other.mul(self),
            _ => make(Op::Mul(self, other), width),
        }
    }

    /// The value under an assignment.
    pub fn eval(self, inputs: &Assignment) -> u64 {
        fn walk(term: Term, inputs: &Assignment, known: &mut HashMap<Term, u64>) -> u64 {
            if let Some(&value) = known.get(&term) {
                return value;
            }
            let width = term.width();
            let mut of = |term| walk(term, inputs, known);
            let value = match term.op() {
                Op::Const(value) => value,
                Op::Var(_) => inputs.get(&term).copied().unwrap_or(0),
                Op::Not(a) => !of(a),
                Op::Neg(a) => of(a).wrapping_neg(),
                Op::And(a, b) => of(a) & of(b),
                Op::Or(a, b) => of(a) | of(b),
                Op::Xor(a, b) => of(a) ^ of(b),
                Op::Add(a, b) => of(a).wrapping_add(of(b)),
                Op::Mul(a, b) => of(a).wrapping_mul(of(b)),
                Op::Shl(a, b) => match of(b) {
                    by if by < width.into() => of(a) << by,
                    _ => 0,
                },
                Op::Shr(a, b) => match of(b) {
                    by if by < width.into() => of(a) >> by,
                    _ => 0,
                },
                Op::Sar(a, b) => {
                    let by = of(b).min(63);
                    ((sign_extend(of(a), width) as i64) >> by) as u64
                }
                Op::Eq(a, b) => (of(a) == of(b)).into(),
                Op::Ult(a, b) => (of(a) < of(b)).into(),
                Op::Ite(c, a, b) => {
                    if of(c) != 0 {
                        of(a)
                    } else {
                        of(b)
                    }
                }
                Op::Extract(a, low) => of(a) >> low,
                Op::Concat(a, b) => of(a) << b.width() | of(b),
            } & mask(width);
            known.insert(term, value);
            value
        }
        walk(self, inputs, &mut HashMap::new())
    }

    /// For people, and for no program to parse.
    pub fn show(self) -> String {
        let mut text = String::new();
        self.write(&mut text, 6);
        text
    }

    fn write(self, out: &mut String, depth: u32) {
        let name = match self.op() {
            Op::Const(value) if value < 10 => return write!(out, "{value}").unwrap(),
            Op::Const(value) => return write!(out, "{value:#x}").unwrap(),
            Op::Var(_) => return out.push_str(&self.name().unwrap_or_default()),
            Op::Extract(a, low) => {
                a.write(out, depth.saturating_sub(1));
                return write!(out, "[{}:{low}]", low + self.width() - 1).unwrap();
            }
            Op::Not(_) => "not",
            Op::Neg(_) => "neg",
            Op::And(..) => "and",
            Op::Or(..) => "or",
            Op::Xor(..) => "xor",
            Op::Add(..) => "add",
            Op::Mul(..) => "mul",
            Op::Shl(..) => "shl",
            Op::Shr(..) => "shr",
            Op::Sar(..) => "sar",
            Op::Eq(..) => "eq",
            Op::Ult(..) => "ult",
            Op::Ite(..) => "if",
            Op::Concat(..) => "concat",
        };
        if depth == 0 {
            return out.push_str("...");
        }
        write!(out, "({name}").unwrap();
        for operand in self.operands() {
            out.push(' ');
            operand.write(out, depth - 1);
        }
        out.push(')');
    }
}

/// Two neighbours of the same term, or two constants, as one.
fn join(high: Term, low: Term) -> Option<Term> {
    let width = high.width() + low.width();
    if let (Some(a), Some(b)) = (high.as_const(), low.as_const()) {
        return Some(constant(a << low.width() | b, width));
    }
    let (Op::Extract(of, at), Op::Extract(same, from)) = (high.op(), low.op()) else {
        return None;
    };
    (of == same && at == from + low.width()).then(|| of.extract(from, width))
}

/// Constants last.
pub fn sorted(a: Term, b: Term) -> (Term, Term) {
    match (a.as_const().is_some(), b.as_const().is_some()) {
        (true, false) => (b, a),
        (false, true) => (a, b),
        _ if b < a => (b, a),
        _ => (a, b),
    }
}
