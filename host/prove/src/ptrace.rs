// SPDX-License-Identifier: GPL-2.0

//! What ptrace reports can be set again.

use crate::{
    claims::{handlers, Verdict},
    compare::{differ, Counterexample, Pair},
    explore::{Explorer, Path},
    machine::RAX,
    policy::{self, Outcome},
    scene::{all, allowed, Function, Scene},
    term::{constant, var, Term},
    verdict::event,
};
use anyhow::{ensure, Result};

/// What every setter leaves in the state of an armed task: a region that starts at 0 or is not
/// empty, which is what tells the modes apart.
fn invariant(state: &Outcome) -> Term {
    state.offset.is_zero() | !state.len.is_zero()
}

/// The setters keep that.
pub fn keeps_invariant(scene: &mut Scene, function: Function) -> Result<Verdict> {
    let paths = scene.paths(scene.rust, function, &[])?;
    let (before, _) = policy::before(scene, function)?;
    for path in &paths {
        let (after, _) = policy::after(scene, function, path)?;
        let mut conditions = path.state.conditions.clone();
        let was = !before.armed | invariant(&before);
        conditions.extend([was, after.armed, !invariant(&after)]);
        if let Some(input) = scene.solver.model(&conditions)? {
            let what = "the region is empty and does not start at 0".to_owned();
            return Ok(Verdict::fails(Counterexample { what, input }));
        }
    }
    Ok(Verdict::holds(format!("{} paths of Rust", paths.len())))
}

/// What is reported can be set, and changes nothing. Of a thread that is off zeros are reported.
pub fn identity(scene: &mut Scene) -> Result<Verdict> {
    let reports = scene.paths(scene.rust, Function::Get, &[])?;
    let (state, _) = policy::before(scene, Function::Get)?;
    let (mut count, mut off) = (0, 0);
    for report in &reports {
        let Some(copied) = event(report, "_copy_to_user") else {
            continue;
        };
        let values = copied.values.iter().filter(|it| it.0.starts_with("byte"));
        let bytes: Vec<Term> = values.map(|it| it.1).collect();
        let mut conditions = report.state.conditions.clone();
        conditions.push(report.state.regs[RAX].extract(0, 32).is_zero());

        let is_off = [&conditions[..], &[!state.armed]].concat();
        let zeros: Vec<Pair> = bytes
            .iter()
            .enumerate()
            .map(|(at, &byte)| (format!("byte {at} while off"), byte, constant(0, 8)))
            .collect();
        if let Some(against) = differ(&mut scene.solver, &is_off, &zeros)? {
            return Ok(Verdict::fails(against));
        }
        off += usize::from(scene.solver.is_possible(&is_off)?);

        conditions.extend(may_be(&state));
        if !scene.solver.is_possible(&conditions)? {
            continue;
        }
        let (paths, against) = set(scene, &state, &conditions, bytes)?;
        count += paths;
        if let Some(against) = against {
            return Ok(Verdict::fails(against));
        }
    }
    ensure!(count > 0 && off > 0, "nothing was compared");
    Ok(Verdict::holds(format!(
        "{count} pairs of a report and its setting, {off} while off"
    )))
}

/// What a state can be that a setter left, while arming is allowed and the tracer can be read. The
/// state of a thread that is off is nobody's business.
fn may_be(state: &Outcome) -> [Term; 5] {
    let words = [state.selector, state.offset, state.len, state.upcall];
    let is_user = !var("USER_PTR_MAX", 64).below(state.selector);
    [
        invariant(state),
        !state.armed | state.selector.is_zero() | is_user,
        state.armed | all(&words.map(Term::is_zero)),
        !allowed(1).is_zero(),
        var("_copy_from_user #1: result", 64).is_zero(),
    ]
}

/// Sets what was reported. Returns on how many paths, and where something changes.
fn set(
    scene: &mut Scene,
    state: &Outcome,
    conditions: &[Term],
    bytes: Vec<Term>,
) -> Result<(usize, Option<Counterexample>)> {
    let rust = scene.rust;
    let start = scene.start(rust, Function::Set, conditions)?;
    let (world, solver) = (&mut scene.world, &mut scene.solver);
    let mut explorer = Explorer::new(rust.image, world, solver, rust.side);
    explorer.copied_in = Some(bytes);
    explorer.run(start)?;
    let paths: Vec<Path> = explorer.paths;

    let (before, rest_before) = policy::before(scene, Function::Set)?;
    for path in &paths {
        let (after, rest_after) = policy::after(scene, Function::Set, path)?;
        let mut conditions = path.state.conditions.clone();
        conditions.push(state.upcall.is_zero() | state.upcall.below(handlers(path)));
        // Before it ran there is no result, which is as if it were 0.
        let mut pairs = policy::pairs(&before, &before, &after);
        pairs.push(("another work flag".into(), rest_after, rest_before));
        let against = differ(&mut scene.solver, &conditions, &pairs)?;
        if against.is_some() {
            return Ok((paths.len(), against));
        }
    }
    Ok((paths.len(), None))
}
