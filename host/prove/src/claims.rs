// SPDX-License-Identifier: GPL-2.0

//! What is proved of the Rust, beside the patched C and by itself. What differs from upstream is
//! in `upstream`.

use crate::{
    compare::{compare, differ, explore, start, Counterexample, View},
    explore::{Path, USER_READ},
    machine::{End, State},
    policy,
    scene::{all, any, Function, Scene, COMPAT},
    term::{truth, var, word, Term},
};
use anyhow::{ensure, Context as _, Result};

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
        let mut none = crate::scene::given();
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
        let against = Some(Counterexample {
            what,
            input: path.state.witness.clone(),
        });
        return Ok(Verdict {
            says: String::new(),
            against,
        });
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
            return Ok(Verdict {
                says: String::new(),
                against: Some(Counterexample::of(&pairs, input)),
            });
        }
    }
    Ok(Verdict::holds(format!("{} paths of Rust", paths.len())))
}

/// The end of where a handler may be, by the feature that a path asks for.
fn handlers(path: &Path) -> Term {
    let inputs = crate::solver::inputs(&path.state.conditions);
    let feature = inputs
        .into_iter()
        .find(|it| it.name().is_some_and(|name| name.starts_with("feature ")));
    policy::task_size(feature.unwrap_or(truth(false)))
}

/// What ptrace reports of an armed task can be set, and changes nothing; so it is with one that is
/// off, of which zeros are reported.
pub fn identity(scene: &mut Scene) -> Result<Verdict> {
    let rust = scene.rust;
    let reports = scene.paths(rust, Function::Get, &[])?;
    let (mut count, mut off) = (0, 0);
    for report in &reports {
        let Some(copied) = report
            .state
            .events
            .iter()
            .find(|it| it.name == "_copy_to_user")
        else {
            continue;
        };
        let done = report.state.regs[crate::machine::RAX]
            .extract(0, 32)
            .is_zero();
        let bytes: Vec<Term> = copied
            .values
            .iter()
            .filter(|it| it.0.starts_with("byte"))
            .map(|it| it.1)
            .collect();
        let (state, _) = policy::before(scene, Function::Get)?;

        let mut conditions = report.state.conditions.clone();
        conditions.push(done);
        // Off: zeros.
        let mut is_off = conditions.clone();
        is_off.push(!state.armed);
        let zeros: Vec<_> = bytes
            .iter()
            .enumerate()
            .map(|(at, &byte)| {
                (
                    format!("byte {at} of a task that is off"),
                    byte,
                    crate::term::constant(0, 8),
                )
            })
            .collect();
        if let Some(against) = differ(&mut scene.solver, &is_off, &zeros)? {
            return Ok(Verdict::fails(against));
        }
        off += usize::from(scene.solver.is_possible(&is_off)?);

        // What an armed task can have: see `invariant`.
        conditions.push(invariant(&state));
        let may = [
            !state.armed
                | state.selector.is_zero()
                | !var("USER_PTR_MAX", 64).below(state.selector),
            !crate::scene::allowed(1).is_zero(),
            // The tracer's copy succeeds as well.
            var("_copy_from_user #1: result", 64).is_zero(),
            // The state of a task that is off is nobody's business.
            state.armed
                | all(&[state.selector, state.offset, state.len, state.upcall].map(Term::is_zero)),
        ];
        conditions.extend(may);
        if !scene.solver.is_possible(&conditions)? {
            continue;
        }
        let mut start: State = scene.start(rust, Function::Set, &conditions)?;
        start.witness = scene.solver.model(&start.conditions)?.context("no input")?;
        let mut explorer = crate::explore::Explorer::new(
            rust.image,
            &mut scene.world,
            &mut scene.solver,
            rust.side,
        );
        explorer.copied_in = Some(bytes);
        explorer.run(start)?;
        let paths = explorer.paths;
        for path in &paths {
            count += 1;
            let (before, rest_before) = policy::before(scene, Function::Set)?;
            let (after, rest_after) = policy::after(scene, Function::Set, path)?;
            let mut conditions = path.state.conditions.clone();
            conditions.push(state.upcall.below(handlers(path)) | state.upcall.is_zero());
            let mut pairs = policy::pairs(&before, &before, &after);
            pairs[0] = (
                "the result".into(),
                after.errno,
                crate::term::constant(0, 32),
            );
            pairs.push(("another work flag".into(), rest_after, rest_before));
            if let Some(against) = differ(&mut scene.solver, &conditions, &pairs)? {
                return Ok(Verdict::fails(against));
            }
        }
    }
    ensure!(count > 0 && off > 0, "nothing was compared");
    Ok(Verdict::holds(format!(
        "{count} pairs of a report and its setting, {off} of a task that is off"
    )))
}

/// What every setter leaves in the state of an armed task: a region that starts at 0 or is not
/// empty, which is what tells the modes apart.
pub fn invariant(state: &policy::Outcome) -> Term {
    state.offset.is_zero() | !state.len.is_zero()
}

/// The setters keep that.
pub fn keeps_invariant(scene: &mut Scene, function: Function) -> Result<Verdict> {
    let paths = scene.paths(scene.rust, function, &[])?;
    for path in &paths {
        let (before, _) = policy::before(scene, function)?;
        let (after, _) = policy::after(scene, function, path)?;
        let mut conditions = path.state.conditions.clone();
        conditions.extend([
            !before.armed | invariant(&before),
            after.armed,
            !invariant(&after),
        ]);
        if let Some(input) = scene.solver.model(&conditions)? {
            let what = "the region is empty and does not start at 0".to_owned();
            return Ok(Verdict {
                says: String::new(),
                against: Some(Counterexample { what, input }),
            });
        }
    }
    Ok(Verdict::holds(format!("{} paths of Rust", paths.len())))
}

/// A function that both images build from the same source answers no for 64-bit code.
pub fn no_vdso(scene: &mut Scene) -> Result<Verdict> {
    let program = scene.rust;
    let status = scene.word(Function::Decision, scene.layout.work + 8)?;
    let mut given = crate::scene::given();
    given.push((status & word(COMPAT)).is_zero());
    let registers = [(crate::machine::RDI, var("regs", 64))];
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
        let result = path.state.regs[crate::machine::RAX].extract(0, 8);
        let pairs = [("the result".to_owned(), result, crate::term::constant(0, 8))];
        if let Some(against) = differ(&mut scene.solver, &path.state.conditions, &pairs)? {
            return Ok(Verdict::fails(against));
        }
    }
    Ok(Verdict::holds(format!("{} paths", paths.len())))
}
