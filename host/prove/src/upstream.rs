// SPDX-License-Identifier: GPL-2.0

//! The Rust beside upstream's C. Each condition names the deviation for which it is there; where
//! all hold, both do the same.

use crate::{
    claims::Verdict,
    compare::{compare, differ, explore, Counterexample, Pair, View},
    explore::{Path, USER_READ},
    machine::State,
    memory::World,
    policy,
    scene::{all, Function, Scene, COMPAT},
    term::{truth, var, word, Term},
    verdict::{self, Ends},
};
use anyhow::{bail, ensure, Result};

/// The decision.
pub fn decision(scene: &mut Scene) -> Result<Verdict> {
    let (rust, upstream) = (scene.rust, scene.upstream);
    let function = Function::Decision;
    let work = scene.layout.work;
    let (state, _) = policy::before(scene, function)?;
    let status = scene.word(function, work + 8)?;
    let given = [
        // Upcalls are new.
        state.upcall.is_zero(),
        // Both setters see to that; upstream relies on it and does not mask.
        !var("USER_PTR_MAX", 64).below(state.selector),
        // Shown of its code: see `no_vdso`. Upstream asks in any case (D8).
        !(status & word(COMPAT)).is_zero() | !var("arch_syscall_is_vdso_sigreturn #1: result", 1),
    ];
    let paths = scene.paths(rust, function, &given)?;
    let (mut both, mut excused) = (0, 0);
    for path in &paths {
        let ours = verdict::ends(scene, path)?;
        let asked = verdict::event(path, verdict::UPROBE).is_some();
        // A uprobe's trampoline (D7), a tracer's suspension (new), a dying thread (D1).
        if ours == Ends::Nothing || ours == Ends::Run && asked {
            excused += 1;
            continue;
        }
        let mut start: State = scene.start(upstream, function, &given)?;
        start.conditions.extend(&path.state.conditions);
        start.witness.clone_from(&path.state.witness);
        for other in explore(upstream, &mut scene.world, &mut scene.solver, start)? {
            both += 1;
            let theirs = verdict::ends(scene, &other)?;
            let against = match theirs == ours {
                true => {
                    let pairs = decision_pairs(&scene.world, work, path, &other)?;
                    differ(&mut scene.solver, &other.state.conditions, &pairs)?
                }
                false => Some(Counterexample {
                    what: format!("it comes to {ours:?}, and upstream to {theirs:?}"),
                    input: other.state.witness.clone(),
                }),
            };
            if against.is_some() {
                return Ok(Verdict {
                    says: String::new(),
                    against,
                });
            }
        }
    }
    ensure!(both > 0, "nothing was compared");
    Ok(Verdict::holds(format!(
        "{both} paths of both, {excused} of Rust are deviations"
    )))
}

/// What else is equal when a decision comes to the same.
fn decision_pairs(world: &World, work: i64, a: &Path, b: &Path) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for name in [USER_READ, "force_exit_sig"] {
        match (verdict::event(a, name), verdict::event(b, name)) {
            (None, None) => {}
            (Some(a), Some(b)) => {
                for ((what, a), (_, b)) in a.values.iter().zip(&b.values) {
                    pairs.push((format!("{name}: {what}"), *a, *b));
                }
            }
            (a, _) => pairs.push((name.into(), truth(a.is_some()), truth(a.is_none()))),
        }
    }
    if let Some(theirs) = verdict::event(b, "force_sig_info") {
        // What ours does is in what it calls: see `verdict::siginfo`.
        for (what, byte, expected) in verdict::signal_pairs(world, work, theirs)? {
            pairs.push((what, resolve(byte), expected));
        }
    }
    Ok(pairs)
}

/// Upstream finds the registers at the end of the stack of the current task. That they are those
/// that the entry code passes is its matter, and assumed here.
fn resolve(byte: Term) -> Term {
    use crate::term::Op;
    if let Op::Extract(of, at) = byte.op() {
        if of
            .name()
            .is_some_and(|it| it.starts_with("*(current+") && it.contains(")+0x3f"))
        {
            return var("regs+0x80", 64).extract(at, 8);
        }
    }
    byte
}

/// The setters.
pub fn setter(scene: &mut Scene, function: Function) -> Result<Verdict> {
    let (rust, upstream) = (scene.rust, scene.upstream);
    let status = scene.word(function, scene.layout.work + 8)?;
    let compat = !(status & word(COMPAT)).is_zero();
    let is = |name| var(name, 64);
    let given = match function {
        Function::Setter => {
            let end = is("offset") + is("len");
            let fits = all(&[
                !end.below(is("offset")),
                !word(u32::MAX.into()).below(end),
                is("selector").below(word(0xc000_0000)),
            ]);
            // The upcall is new; words of 32 bits are judged as such (D6).
            vec![!is("mode").equals(word(3)), !compat | fits]
        }
        Function::Set => vec![!is("size").equals(word(40))],
        Function::Get => {
            let (state, _) = policy::before(scene, function)?;
            let end = state.offset + state.len;
            let exclusive =
                state.offset.is_zero() | (!state.len.is_zero() & !end.below(state.offset));
            // The size is new, and the upcall in it; zeros of a task that is off (D4), the mode of
            // one that is armed (D3).
            vec![
                !is("size").equals(word(40)),
                !state.armed | state.upcall.is_zero(),
                !is("size").equals(word(32)) | state.armed,
                !state.armed | exclusive,
            ]
        }
        Function::Decision => bail!("not a setter"),
    };
    let paths = scene.paths(rust, function, &given)?;
    let start = scene.start(upstream, function, &given)?;
    // Tracepoints are new. In the place of the upcall upstream has a flag, which is new to Rust.
    let view = View {
        returns: function.returns(),
        traces: false,
        except: Some(scene.layout.state + 24),
    };
    let (world, solver) = (&mut scene.world, &mut scene.solver);
    let (both, against) = compare(&paths, upstream, &start, world, solver, view)?;
    Ok(Verdict {
        says: format!("{} paths of Rust, {both} of both", paths.len()),
        against,
    })
}
