// SPDX-License-Identifier: GPL-2.0

//! Whether two programs do the same, and for which input they do not.

use crate::{
    explore::{Explorer, Path},
    image::Image,
    machine::{End, Event, State, RAX},
    memory::{Memory, Place, World},
    solver::Solver,
    term::{truth, Assignment, Term},
};
use anyhow::{ensure, Context as _, Result};
use iced_x86::Instruction;
use std::collections::{BTreeMap, BTreeSet};

/// A program: a function of an image.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    pub image: &'a Image,
    pub side: &'static str,
}

/// An input for which something is not as claimed.
#[derive(Clone, Debug)]
pub struct Counterexample {
    pub what: String,
    pub input: Assignment,
}

impl Counterexample {
    /// With the first pair that differs.
    pub fn of(pairs: &[Pair], input: Assignment) -> Self {
        let differing = pairs
            .iter()
            .find(|(_, a, b)| a.eval(&input) != b.eval(&input));
        let what = match differing {
            Some((what, a, b)) => {
                format!("{what} is {:#x}, and {:#x}", a.eval(&input), b.eval(&input))
            }
            None => "nothing differs".to_owned(),
        };
        Self { what, input }
    }
}

/// Two things that have to be equal.
pub type Pair = (String, Term, Term);

/// All paths of a function from a state.
pub fn explore(
    program: Program,
    world: &mut World,
    solver: &mut Solver,
    start: State,
) -> Result<Vec<Path>> {
    let mut explorer = Explorer::new(program.image, world, solver, program.side);
    explorer.run(start)?;
    Ok(explorer.paths)
}

/// The instructions that these paths consist of, by address.
pub fn instructions(
    program: Program,
    world: &mut World,
    solver: &mut Solver,
    start: State,
) -> Result<BTreeMap<u64, Instruction>> {
    let mut explorer = Explorer::new(program.image, world, solver, program.side);
    explorer.run(start)?;
    Ok(explorer.seen)
}

/// A state at the entry of a function, with inputs that its conditions permit.
pub fn start(
    program: Program,
    name: &str,
    registers: &[(usize, Term)],
    given: &[Term],
    solver: &mut Solver,
) -> Result<State> {
    let mut state = State::at(program.image.symbol(name)?.0);
    for &(register, value) in registers {
        state.regs[register] = value;
    }
    state.conditions = given.to_vec();
    state.witness = solver.model(given)?.context("no input is permitted")?;
    Ok(state)
}

/// An input under which one of the pairs differs.
pub fn differ(
    solver: &mut Solver,
    conditions: &[Term],
    pairs: &[Pair],
) -> Result<Option<Counterexample>> {
    let open: Vec<&Pair> = pairs.iter().filter(|(_, a, b)| a != b).collect();
    if open.is_empty() {
        return Ok(None);
    }
    let any = open
        .iter()
        .fold(truth(false), |any, (_, a, b)| any | !a.equals(*b));
    let mut asked = conditions.to_vec();
    asked.push(any);
    Ok(solver
        .model(&asked)?
        .map(|input| Counterexample::of(pairs, input)))
}

/// What of two paths is compared.
#[derive(Clone, Copy)]
pub struct View {
    /// How many bits of rax mean something.
    pub returns: u8,
    /// Whether tracepoints are, and what they count.
    pub traces: bool,
    /// A word of the tasks that is not.
    pub except: Option<i64>,
}

impl View {
    pub fn everything(returns: u8) -> Self {
        Self {
            returns,
            traces: true,
            except: None,
        }
    }

    fn event(self, name: &str) -> bool {
        self.traces || !name.starts_with("__SCT__")
    }

    fn place(self, world: &World, (region, offset): Place) -> bool {
        (self.traces || !world.name(region).starts_with("percpu"))
            && self.except.is_none_or(|at| !(at..at + 8).contains(&offset))
    }

    /// What is in memory outside the stack, wherever either program has written.
    fn memory(self, world: &World, when: &str, a: &Memory, b: &Memory) -> Result<Vec<Pair>> {
        let places: BTreeSet<Place> = a.changes().chain(b.changes()).collect();
        places
            .into_iter()
            .filter(|&place| self.place(world, place))
            .map(|place| {
                let what = format!("{} {when}", world.show(place));
                Ok((what, a.byte(world, place)?, b.byte(world, place)?))
            })
            .collect()
    }

    /// All that has to be equal when two paths are taken by the same input, or what makes them
    /// different in any case.
    pub fn pairs(self, world: &World, a: &Path, b: &Path) -> Result<Result<Vec<Pair>, String>> {
        let mut pairs = Vec::new();
        let events = |path: &Path| -> Vec<Event> {
            let all = path.state.events.iter();
            all.filter(|it| self.event(&it.name)).cloned().collect()
        };
        let (a_events, b_events) = (events(a), events(b));
        for (number, (x, y)) in a_events.iter().zip(&b_events).enumerate() {
            if x.name != y.name || x.values.len() != y.values.len() {
                return Ok(Err(format!("event {number} is {}, and {}", x.name, y.name)));
            }
            for ((what, x_value), (_, y_value)) in x.values.iter().zip(&y.values) {
                pairs.push((
                    format!("event {number}, {}: {what}", x.name),
                    *x_value,
                    *y_value,
                ));
            }
            let when = format!("at event {number}, {}", x.name);
            pairs.extend(self.memory(world, &when, &x.memory, &y.memory)?);
        }
        let (x, y) = (a_events.len(), b_events.len());
        if x != y {
            return Ok(Err(format!("there are {x} events, and {y}")));
        }
        if a.end != b.end {
            return Ok(Err(format!("it ends as {:?}, and {:?}", a.end, b.end)));
        }
        if a.end == End::Returned && self.returns > 0 {
            let result = |path: &Path| path.state.regs[RAX].extract(0, self.returns);
            pairs.push(("the result".into(), result(a), result(b)));
        }
        pairs.extend(self.memory(world, "at the end", &a.state.memory, &b.state.memory)?);
        Ok(Ok(pairs))
    }
}

/// Follows `b` for all inputs of each path of `a`. Returns how many paths of `b` that made, and an
/// input for which they differ.
pub fn compare(
    a: &[Path],
    b: Program,
    start: &State,
    world: &mut World,
    solver: &mut Solver,
    view: View,
) -> Result<(usize, Option<Counterexample>)> {
    let mut count = 0;
    for path in a {
        let mut start = start.clone();
        start.conditions.extend(&path.state.conditions);
        match solver.model(&start.conditions)? {
            Some(model) => start.witness = model,
            // It is not in question here.
            None => continue,
        }
        let others = explore(b, world, solver, start)?;
        ensure!(!others.is_empty(), "no path is left");
        count += others.len();
        for other in &others {
            let found = match view.pairs(world, path, other)? {
                Ok(pairs) => differ(solver, &other.state.conditions, &pairs)?,
                Err(what) => Some(Counterexample {
                    what,
                    input: other.state.witness.clone(),
                }),
            };
            if found.is_some() {
                return Ok((count, found));
            }
        }
    }
    ensure!(count > 0, "nothing was compared");
    Ok((count, None))
}
