// SPDX-License-Identifier: GPL-2.0

//! The operators of terms, with what is simplified.

use crate::term::{constant, make, sorted, Op, Term};
use std::ops::{Add, BitAnd, BitOr, BitXor, Neg, Not, Sub};

/// The same for bits that are apart: and, or and xor with a constant act on each part.
fn bitwise(a: Term, b: Term, op: fn(Term, Term) -> Op, each: fn(Term, Term) -> Term) -> Term {
    if let (Op::Concat(high, low), Some(_)) = (a.op(), b.as_const()) {
        let split = low.width();
        return each(high, b.extract(split, high.width())).concat(each(low, b.extract(0, split)));
    }
    make(op(a, b), a.width())
}

impl BitAnd for Term {
    type Output = Term;
    fn bitand(self, other: Term) -> Term {
        let (a, b) = sorted(self, other);
        if let (Some(a_value), Some(b_value)) = (a.as_const(), b.as_const()) {
            return constant(a_value & b_value, a.width());
        }
        if a == b || b.is(u64::MAX) {
            return a;
        }
        if b.is(0) {
            return b;
        }
        if let (Op::And(x, c), Some(d)) = (a.op(), b.as_const()) {
            if let Some(c) = c.as_const() {
                return x & constant(c & d, a.width());
            }
        }
        bitwise(a, b, Op::And, |a, b| a & b)
    }
}

impl BitOr for Term {
    type Output = Term;
    fn bitor(self, other: Term) -> Term {
        let (a, b) = sorted(self, other);
        if let (Some(a_value), Some(b_value)) = (a.as_const(), b.as_const()) {
            return constant(a_value | b_value, a.width());
        }
        if a == b || b.is(0) {
            return a;
        }
        if b.is(u64::MAX) {
            return b;
        }
        bitwise(a, b, Op::Or, |a, b| a | b)
    }
}

impl BitXor for Term {
    type Output = Term;
    fn bitxor(self, other: Term) -> Term {
        let (a, b) = sorted(self, other);
        if let (Some(a_value), Some(b_value)) = (a.as_const(), b.as_const()) {
            return constant(a_value ^ b_value, a.width());
        }
        if a == b {
            return constant(0, a.width());
        }
        if b.is(0) {
            return a;
        }
        if b.is(u64::MAX) {
            return !a;
        }
        bitwise(a, b, Op::Xor, |a, b| a ^ b)
    }
}

impl Not for Term {
    type Output = Term;
    fn not(self) -> Term {
        match self.op() {
            Op::Const(value) => constant(!value, self.width()),
            Op::Not(inner) => inner,
            _ => make(Op::Not(self), self.width()),
        }
    }
}

impl Neg for Term {
    type Output = Term;
    fn neg(self) -> Term {
        match self.op() {
            Op::Const(value) => constant(value.wrapping_neg(), self.width()),
            Op::Neg(inner) => inner,
            _ => make(Op::Neg(self), self.width()),
        }
    }
}

impl Add for Term {
    type Output = Term;
    fn add(self, other: Term) -> Term {
        let (a, b) = sorted(self, other);
        let width = a.width();
        if let Some(b_value) = b.as_const() {
            if let Some(a_value) = a.as_const() {
                return constant(a_value.wrapping_add(b_value), width);
            }
            if b_value == 0 {
                return a;
            }
            if let Op::Add(base, c) = a.op() {
                if let Some(c) = c.as_const() {
                    return base + constant(c.wrapping_add(b_value), width);
                }
            }
            return make(Op::Add(a, b), width);
        }
        // Constants outermost.
        for (sum, rest) in [(a, b), (b, a)] {
            if let Op::Add(base, c) = sum.op() {
                if c.as_const().is_some() {
                    return (base + rest) + c;
                }
            }
        }
        if b.op() == Op::Neg(a) || a.op() == Op::Neg(b) {
            return constant(0, width);
        }
        make(Op::Add(a, b), width)
    }
}

impl Sub for Term {
    type Output = Term;
    fn sub(self, other: Term) -> Term {
        let ((a, c), (b, d)) = (self.base_and_offset(), other.base_and_offset());
        if a.is_some() && a == b {
            return constant(c.wrapping_sub(d), self.width());
        }
        self + -other
    }
}

#[cfg(test)]
mod tests {
    use crate::term::{var, word, Assignment, Term};

    #[test]
    fn what_is_simplified_means_the_same() {
        let (x, y) = (var("x", 64), var("y", 64));
        let c = word(0xffff_0000_1234_00ff);
        for (a, b) in [
            (0, 0),
            (1, u64::MAX),
            (1 << 63, 1 << 63),
            (0x1234, 0xabcd_0000_0000),
        ] {
            let input = Assignment::from([(x, a), (y, b)]);
            let is =
                |term: Term, value: u64| assert_eq!(term.eval(&input), value, "{}", term.show());
            is((x + c) - (y + c), a.wrapping_sub(b));
            is((x & c) & word(0xffff), a & 0xff);
            is(x.extract(32, 32).concat(x.extract(0, 32)), a);
            is(x.shl(word(4)).shr(word(4)), a << 4 >> 4);
            is(x.sar(word(60)), ((a as i64) >> 60) as u64);
            is(x.extract(0, 32).sign_extend(64), a as u32 as i32 as u64);
            is((x + word(3)).equals(word(4)), u64::from(a == 1));
            is(x.below(y).ite(x, y), a.min(b));
            is(x.mul(word(8)), a.wrapping_mul(8));
            is(!(x ^ word(u64::MAX)), a);
            is((x.extract(0, 8).zero_extend(64)).equals(word(0x100)), 0);
        }
    }

    #[test]
    fn an_address_is_a_base_and_an_offset() {
        let base = var("base", 64);
        let address = (base + word(0x718)) - word(0x708);
        assert_eq!(address.base_and_offset(), (Some(base), 0x10));
        assert_eq!(word(5).base_and_offset(), (None, 5));
    }
}
