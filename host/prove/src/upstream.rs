// SPDX-License-Identifier: GPL-2.0

//! The Rust beside upstream's C. Each condition names the deviation for which it is there; where
//! all hold, both do the same.

use crate::{
    claims::Verdict,
    compare::{compare, differ, explore, Counterexample, Pair, View},
    explore::{Path, USER_READ},
    machine::{State, RAX},
    memory::{Memory, World},
    policy,
    scene::{all, Function, Scene, COMPAT},
    term::{constant, truth, var, word, Term},
};
use anyhow::{bail, ensure, Result};

/// What a decision comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Run,
    /// By `force_sig_user_dispatch()`, or upstream by `force_sig_info()`.
    Dispatch,
    Kill,
    /// Neither runs nor is handed back: the thread is dying. Upstream does not ask (D1).
    Nothing,
}

const UPROBE: &str = "arch_syscall_is_uprobe_trampoline";

fn ends(path: &Path) -> Result<Ends> {
    let has = |name: &str| path.state.events.iter().any(|it| it.name == name);
    let result = path.state.regs[RAX].extract(0, 8).as_const();
    Ok(match result {
        Some(0) => Ends::Run,
        Some(1) if has("force_exit_sig") => Ends::Kill,
        Some(1) if has("force_sig_user_dispatch") || has("force_sig_info") => Ends::Dispatch,
        Some(1) => Ends::Nothing,
        _ => bail!("the result is not known"),
    })
}

/// The 48 bytes of the siginfo of a dispatch, as the contract has them.
fn siginfo(world: &World, scene_work: i64, regs: &Memory) -> Result<Vec<Term>> {
    let (registers, current) = (region(world, "regs")?, region(world, "current")?);
    let number = regs.load(world, (registers, 0x78), 32)?;
    let address = regs.load(world, (registers, 0x80), 64)?;
    let status = regs.load(world, (current, scene_work + 8), 32)?;
    let compat = !(status & constant(COMPAT, 32)).is_zero();
    // AUDIT_ARCH_I386 and AUDIT_ARCH_X86_64.
    let arch = compat.ite(constant(0x4000_0003, 32), constant(0xc000_003e, 32));
    let mut bytes = Vec::new();
    let mut put = |value: Term| {
        bytes.extend((0..value.width() / 8).map(|at| value.extract(at * 8, 8)));
    };
    // Number, errno, code, a gap; address, number of the syscall, architecture.
    for value in [31, 0, 2, 0] {
        put(constant(value, 32));
    }
    for value in [address, number, arch] {
        put(value);
    }
    for _ in 0..2 {
        put(word(0));
    }
    ensure!(bytes.len() == 48, "a siginfo of {} bytes", bytes.len());
    Ok(bytes)
}

fn region(world: &World, name: &str) -> Result<crate::memory::Region> {
    world
        .find(name)
        .ok_or_else(|| anyhow::anyhow!("no region {name}"))
}

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
        let ours = ends(path)?;
        let asked = path.state.events.iter().any(|it| it.name == UPROBE);
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
            let theirs = ends(&other)?;
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
    let event =
        |path: &Path, name: &str| path.state.events.iter().find(|it| it.name == name).cloned();
    for name in [USER_READ, "force_exit_sig"] {
        match (event(a, name), event(b, name)) {
            (None, None) => {}
            (Some(a), Some(b)) => {
                for ((what, a), (_, b)) in a.values.iter().zip(&b.values) {
                    pairs.push((format!("{name}: {what}"), *a, *b));
                }
            }
            (a, _) => pairs.push((name.into(), truth(a.is_some()), truth(a.is_none()))),
        }
    }
    if let Some(theirs) = event(b, "force_sig_info") {
        // Ours rolls back and fills in the siginfo in what it calls: see `siginfo_of_rust`.
        let expected = siginfo(world, work, &Memory::default())?;
        let bytes = theirs
            .values
            .iter()
            .filter(|it| it.0.starts_with("byte"))
            .map(|it| it.1);
        for (at, (byte, expected)) in bytes.zip(expected).enumerate() {
            pairs.push((format!("byte {at} of the siginfo"), resolve(byte), expected));
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
            .is_some_and(|it| it.starts_with("*(current+") && it.contains(")+0x3fc8"))
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
