// SPDX-License-Identifier: GPL-2.0

//! Questions to an SMT solver, by SMT-LIB through a pipe.
//!
//! The program and not the library: any version serves, there are no bindings to generate, and
//! another solver can be asked the same by `--solver`.

use crate::term::{Assignment, Op, Term};
use anyhow::{bail, Context as _, Result};
use easy_smt::{Context, ContextBuilder, Response, SExpr};
use std::collections::{HashMap, HashSet};

pub struct Solver {
    command: String,
    context: Context,
    /// The terms that the solver knows by name.
    known: HashMap<Term, SExpr>,
    /// What was asked before, and the answer.
    answers: HashMap<Vec<Term>, Option<Assignment>>,
    pub queries: usize,
}

impl Solver {
    /// Starts a solver, by a command line.
    pub fn new(command: &str) -> Result<Self> {
        Ok(Self {
            command: command.to_owned(),
            context: Self::connect(command)?,
            known: HashMap::new(),
            answers: HashMap::new(),
            queries: 0,
        })
    }

    fn connect(command: &str) -> Result<Context> {
        let mut words = command.split_whitespace();
        let program = words.next().context("no solver is named")?;
        let mut context = ContextBuilder::new()
            .solver(program)
            .solver_args(words)
            .build()
            .with_context(|| format!("the solver '{command}' does not start"))?;
        context.set_logic("QF_BV")?;
        Ok(context)
    }

    /// Begins anew: what was asked before makes a solver slow.
    pub fn restart(&mut self) -> Result<()> {
        self.context = Self::connect(&self.command)?;
        self.known.clear();
        Ok(())
    }

    /// Inputs for which all `conditions` hold, or none if there are none.
    pub fn model(&mut self, conditions: &[Term]) -> Result<Option<Assignment>> {
        let mut conditions: Vec<Term> = conditions
            .iter()
            .copied()
            .filter(|it| it.as_const() != Some(1))
            .collect();
        if conditions.iter().any(|it| it.as_const() == Some(0)) {
            return Ok(None);
        }
        conditions.sort();
        conditions.dedup();
        if let Some(answer) = self.answers.get(&conditions) {
            return Ok(answer.clone());
        }
        self.queries += 1;
        let answer = self.ask(&conditions)?;
        if let Some(model) = &answer {
            // The solver is not believed where it can be checked.
            if let Some(not) = conditions.iter().find(|it| it.eval(model) != 1) {
                bail!("the solver's model is none: {}", not.show());
            }
        }
        self.answers.insert(conditions, answer.clone());
        Ok(answer)
    }

    pub fn is_possible(&mut self, conditions: &[Term]) -> Result<bool> {
        Ok(self.model(conditions)?.is_some())
    }

    fn ask(&mut self, conditions: &[Term]) -> Result<Option<Assignment>> {
        for &condition in conditions {
            self.define(condition)?;
        }
        self.context.push()?;
        let one = self.context.binary(1, 1);
        let all: Vec<SExpr> = conditions
            .iter()
            .map(|it| self.context.eq(self.known[it], one))
            .collect();
        let all = self.context.and_many(all);
        self.context.assert(all)?;
        let answer = match self.context.check()? {
            Response::Unsat => None,
            Response::Unknown => bail!("the solver does not know"),
            Response::Sat => Some(self.values(conditions)?),
        };
        self.context.pop()?;
        Ok(answer)
    }

    /// What the solver found for the inputs of some terms.
    fn values(&mut self, terms: &[Term]) -> Result<Assignment> {
        let mut model = Assignment::new();
        let inputs = inputs(terms);
        if inputs.is_empty() {
            return Ok(model);
        }
        let names = inputs.iter().map(|it| self.known[it]).collect();
        let values = self.context.get_value(names)?;
        for (&term, (_, value)) in inputs.iter().zip(values) {
            let text = self.context.display(value).to_string();
            let value = match (text.strip_prefix("#x"), text.strip_prefix("#b")) {
                (Some(digits), _) => u64::from_str_radix(digits, 16)?,
                (_, Some(digits)) => u64::from_str_radix(digits, 2)?,
                _ => bail!("the solver says '{text}' for a value"),
            };
            model.insert(term, value);
        }
        Ok(model)
    }

    /// The name of a term, which is declared or defined where it is not yet.
    fn define(&mut self, term: Term) -> Result<SExpr> {
        if let Some(&name) = self.known.get(&term) {
            return Ok(name);
        }
        let mut of = Vec::new();
        for operand in term.operands() {
            of.push(self.define(operand)?);
        }
        let width = term.width();
        let smt = &mut self.context;
        let sort = smt.bit_vec_sort(smt.numeral(usize::from(width)));
        let name = match term.op() {
            Op::Const(value) => smt.binary(width.into(), value),
            Op::Var(_) => smt.declare_const(format!("v{}", term.number()), sort)?,
            op => {
                let (one, zero) = (smt.binary(1, 1), smt.binary(1, 0));
                let body = match op {
                    Op::Not(_) => smt.bvnot(of[0]),
                    Op::Neg(_) => smt.bvneg(of[0]),
                    Op::And(..) => smt.bvand(of[0], of[1]),
                    Op::Or(..) => smt.bvor(of[0], of[1]),
                    Op::Xor(..) => smt.bvxor(of[0], of[1]),
                    Op::Add(..) => smt.bvadd(of[0], of[1]),
                    Op::Mul(..) => smt.bvmul(of[0], of[1]),
                    Op::Shl(..) => smt.bvshl(of[0], of[1]),
                    Op::Shr(..) => smt.bvlshr(of[0], of[1]),
                    Op::Sar(..) => smt.bvashr(of[0], of[1]),
                    Op::Eq(..) => smt.ite(smt.eq(of[0], of[1]), one, zero),
                    Op::Ult(..) => smt.ite(smt.bvult(of[0], of[1]), one, zero),
                    Op::Ite(..) => smt.ite(smt.eq(of[0], one), of[1], of[2]),
                    Op::Extract(_, low) => smt.extract((low + width - 1).into(), low.into(), of[0]),
                    Op::Concat(..) => smt.concat(of[0], of[1]),
                    Op::Const(_) | Op::Var(_) => unreachable!(),
                };
                smt.define_const(format!("t{}", term.number()), sort, body)?
            }
        };
        self.known.insert(term, name);
        Ok(name)
    }
}

/// The inputs that some terms depend on.
pub fn inputs(terms: &[Term]) -> Vec<Term> {
    let (mut seen, mut open) = (HashSet::new(), terms.to_vec());
    let mut inputs = Vec::new();
    while let Some(term) = open.pop() {
        if seen.insert(term) {
            open.extend(term.operands());
            if let Op::Var(_) = term.op() {
                inputs.push(term);
            }
        }
    }
    inputs.sort();
    inputs
}
