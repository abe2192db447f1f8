// SPDX-License-Identifier: GPL-2.0

//! What is proved of the Rust, beside the patched C and by itself. What differs from upstream is
//! in `upstream`.

use crate::{
    compare::{compare, differ, explore, start, Counterexample, View},
    explore::{Explorer, Path, MOST, USER_READ},
    machine::{End, RAX, RDI},
    policy,
    scene::{all, any, given, Function, Scene, COMPAT},
    solver::inputs,
    term::{constant, truth, var, word, Term},
};
use anyhow::{ensure, Result};

/// What came of a claim: something to say of it, and where it does not hold.
#[derive(Default)]
pub struct Verdict {
    pub says: String,
    pub against: Option<Counterexample>,
}

impl Verdict {
    pub fn fails(against: Counterexample) -> Self {
        Self {
            says: String::new(),
            against: Some(against),
        }
    }

    pub fn holds(says: impl Into<String>) -> Self {
        Self {
            says: says.into(),
            against: None,
        }
    }
}

/// Rust and patched C do the same for all inputs.
pub fn same(scene: &mut Scene, function: Function) -> Result<Verdict> {
    let (rust, c) = (scene.rust, scene.c);
    let paths = scene.paths(rust, function, &[])?;
    let start = scene.start(c, function, &[])?;
    let (world, solver) = (&mut scene.world, &mut scene.solver);
    let (both, against) = compare(
        &paths,
        c,
        &start,
        world,
        solver,
        View::everything(function.returns()),
    )?;
    Ok(Verdict {
        says: format!("{} paths of Rust, {both} of both", paths.len()),
        against,
    })
}

/// No input is without a path, in either program: nothing was proved of no input.
pub fn complete(scene: &mut Scene, function: Function) -> Result<Verdict> {
    let mut says = Vec::new();
    for program in [scene.rust, scene.c] {
        let paths = scene.paths(program, function, &[])?;
        says.push(format!("{} paths of {}", paths.len(), program.side));
        let mut none = given();
        none.extend(paths.iter().map(|path| !all(&path.state.conditions)));
        if let Some(input) = scene.solver.model(&none)? {
            let what = format!("no path of {} is taken", program.side);
            return Ok(Verdict {
                says: says.join(", "),
                against: Some(Counterexample { what, input }),
            });
        }
    }
    Ok(Verdict::holds(says.join(", ")))
}

/// The Rust leaves alone what is not its own, and does not stop.
pub fn clean(scene: &mut Scene, function: Function) -> Result<Verdict> {
    let paths = scene.paths(scene.rust, function, &[])?;
    Ok(Verdict {
        says: format!("{} paths of Rust", paths.len()),
        against: paths.iter().find_map(unclean),
    })
}

pub fn unclean(path: &Path) -> Option<Counterexample> {
    let what = match (&path.end, path.state.violations.first()) {
        (End::Stopped(at), _) => format!("it stops, at {at}"),
        (_, Some(violation)) => violation.clone(),
        _ => return None,
    };
    Some(Counterexample {
        what,
        input: path.state.witness.clone(),
    })
}

/// Whether the Rust is clean and does what patched C does on the paths through an instruction: the
/// others are as they were. What is wrong is seen before all paths are known.
pub fn is_right(scene: &mut Scene, function: Function, changed: u64) -> Result<bool> {
    let (rust, c) = (scene.rust, scene.c);
    let view = View::everything(function.returns());
    let mut open = vec![scene.start(rust, function, &[])?];
    let start = scene.start(c, function, &[])?;
    let (world, solver) = (&mut scene.world, &mut scene.solver);
    let (mut garbage, mut count) = (0, 0);
    while !open.is_empty() {
        let mut explorer = Explorer::new(rust.image, world, solver, rust.side);
        explorer.garbage = garbage;
        explorer.watch = Some(changed);
        explorer.advance(&mut open)?;
        garbage = explorer.garbage;
        let mut paths = explorer.paths;
        count += paths.len();
        ensure!(count < MOST, "more than {MOST} paths");
        paths.retain(|it| it.state.watched);
        if paths.iter().any(|it| unclean(it).is_some()) {
            return Ok(false);
        }
        if !paths.is_empty() && compare(&paths, c, &start, world, solver, view)?.1.is_some() {
            return Ok(false);
        }
    }
    Ok(count > 0)
}

/// One byte of user memory is read at most: that at the selector, once.
pub fn one_byte(scene: &mut Scene) -> Result<Verdict> {
    let function = Function::Decision;
    let paths = scene.paths(scene.rust, function, &[])?;
    let mut reads = 0;
    for path in &paths {
        let events = &path.state.events;
        let read: Vec<_> = events.iter().filter(|it| it.name == USER_READ).collect();
        let what = match &read[..] {
            [] => continue,
            [read] => {
                reads += 1;
                let selector = scene.word(function, scene.layout.state)?;
                let limit = var("USER_PTR_MAX", 64);
                let masked = limit.below(selector).ite(limit, selector);
                let pairs = [
                    ("the address".to_owned(), read.values[0].1, masked),
                    ("the length".to_owned(), read.values[1].1, word(1)),
                    (
                        "whether it is asked for".to_owned(),
                        selector.is_zero(),
                        truth(false),
                    ),
                ];
                match differ(&mut scene.solver, &path.state.conditions, &pairs)? {
                    Some(found) => found.what,
                    None => continue,
                }
            }
            _ => "it is read more than once".to_owned(),
        };
        let input = path.state.witness.clone();
        return Ok(Verdict::fails(Counterexample { what, input }));
    }
    ensure!(reads > 0, "no path reads");
    Ok(Verdict::holds(format!(
        "{reads} of {} paths read",
        paths.len()
    )))
}

/// Each of the setters does what the policy says.
pub fn as_specified(scene: &mut Scene, function: Function) -> Result<Verdict> {
    let paths = scene.paths(scene.rust, function, &[])?;
    for path in &paths {
        let (before, rest_before) = policy::before(scene, function)?;
        let (after, rest_after) = policy::after(scene, function, path)?;
        let handlers = handlers(path);
        // What may come of it. The end of what 32-bit code can map is one of two, by the
        // personality, which is compared with C: it is wrong if it is so for both.
        let outcomes: Vec<policy::Outcome> = match function {
            Function::Setter => {
                let status = scene.word(function, scene.layout.work + 8)?;
                let request = policy::of_prctl(&before, status);
                let upcall = policy::set_upcall(&request, &before, handlers);
                [0xffff_e000, 0xc000_0000]
                    .map(|end| {
                        let outcome = policy::configure(&request, word(end), handlers);
                        policy::either(request.mode.equals(word(3)), &upcall, &outcome)
                    })
                    .into()
            }
            _ => vec![policy::by_ptrace(handlers)],
        };
        let mut conditions = path.state.conditions.clone();
        for outcome in &outcomes {
            let mut pairs = policy::pairs(outcome, &before, &after);
            pairs.push(("another work flag".into(), rest_after, rest_before));
            let wrong: Vec<Term> = pairs.iter().map(|(_, a, b)| !a.equals(*b)).collect();
            conditions.push(any(&wrong));
        }
        if let Some(input) = scene.solver.model(&conditions)? {
            let pairs = policy::pairs(&outcomes[0], &before, &after);
            return Ok(Verdict::fails(Counterexample::of(&pairs, input)));
        }
    }
    Ok(Verdict::holds(format!("{} paths of Rust", paths.len())))
}

/// The end of where a handler may be, by the feature that a path asks for.
pub fn handlers(path: &Path) -> Term {
    let inputs = inputs(&path.state.conditions);
    let feature = inputs
        .into_iter()
        .find(|it| it.name().is_some_and(|name| name.starts_with("feature ")));
    policy::task_size(feature.unwrap_or(truth(false)))
}

/// A function that both images build from the same source answers no for 64-bit code.
pub fn no_vdso(scene: &mut Scene) -> Result<Verdict> {
    let program = scene.rust;
    let status = scene.word(Function::Decision, scene.layout.work + 8)?;
    let mut given = given();
    given.push((status & word(COMPAT)).is_zero());
    let registers = [(RDI, var("regs", 64))];
    let solver = &mut scene.solver;
    let start = start(
        program,
        "arch_syscall_is_vdso_sigreturn",
        &registers,
        &given,
        solver,
    )?;
    let paths = explore(program, &mut scene.world, &mut scene.solver, start)?;
    for path in &paths {
        let result = path.state.regs[RAX].extract(0, 8);
        let pairs = [("the result".to_owned(), result, constant(0, 8))];
        if let Some(against) = differ(&mut scene.solver, &path.state.conditions, &pairs)? {
            return Ok(Verdict::fails(against));
        }
    }
    Ok(Verdict::holds(format!("{} paths", paths.len())))
}
