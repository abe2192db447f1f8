// SPDX-License-Identifier: GPL-2.0

//! What a decision has to come to, and what is delivered then: written once more, as the admin
//! guide says it.

use crate::{
    claims::Verdict,
    compare::{differ, explore, start, Pair},
    explore::{Path, USER_READ},
    machine::{Event, RAX, RDI},
    memory::{Memory, Place, World},
    policy,
    scene::{all, Function, Scene, COMPAT},
    solver::inputs,
    term::{constant, truth, var, word, Term},
};
use anyhow::{bail, ensure, Context as _, Result};

/// What a decision comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    Run,
    /// By `force_sig_user_dispatch()`, or upstream by `force_sig_info()`.
    Dispatch,
    Upcall,
    Kill,
    /// Neither runs nor is handed back: the thread is dying.
    Nothing,
}

pub const UPROBE: &str = "arch_syscall_is_uprobe_trampoline";

// Offsets in `struct pt_regs`, which user space knows.
const R11: i64 = 0x30;
const AX: i64 = 0x50;
const CX: i64 = 0x58;
const ORIG_AX: i64 = 0x78;
const IP: i64 = 0x80;
const CS: i64 = 0x88;
const FLAGS: i64 = 0x90;
const SS: i64 = 0xa0;

pub fn event<'a>(path: &'a Path, name: &str) -> Option<&'a Event> {
    path.state.events.iter().find(|it| it.name == name)
}

pub fn ends(scene: &mut Scene, path: &Path) -> Result<Ends> {
    let has = |name: &str| event(path, name).is_some();
    let regs = scene.world.region("regs");
    let result = path.state.regs[RAX].extract(0, 8).as_const();
    let delivered = delivery(path);
    Ok(match result {
        Some(0) => Ends::Run,
        Some(1) if has("force_exit_sig") => Ends::Kill,
        Some(1) if has("force_sig_user_dispatch") || has("force_sig_info") => Ends::Dispatch,
        Some(1) if delivered.changes().any(|it| it.0 == regs) => Ends::Upcall,
        Some(1) => Ends::Nothing,
        _ => bail!("the result is not known"),
    })
}

/// Memory when an upcall was delivered.
fn delivery(path: &Path) -> &Memory {
    event(path, "syscall_user_dispatch_step").map_or(&path.state.memory, |it| &it.memory)
}

fn load(world: &World, memory: &Memory, region: &str, at: i64, width: u8) -> Result<Term> {
    let region = world
        .find(region)
        .with_context(|| format!("no region {region}"))?;
    memory.load(world, (region, at), width)
}

/// Each decision is what the region, the selector and the rest make it.
pub fn decided(scene: &mut Scene) -> Result<Verdict> {
    let function = Function::Decision;
    let paths = scene.paths(scene.rust, function, &[])?;
    let (state, _) = policy::before(scene, function)?;
    let status = scene.word(function, scene.layout.work + 8)?;
    let fresh = Memory::default();
    let ip = load(&scene.world, &fresh, "regs", IP, 64)?;

    let compat = !(status & word(COMPAT)).is_zero();
    let exempt = (ip - state.offset).below(state.len);
    let trampoline = compat & var("arch_syscall_is_vdso_sigreturn #1: result", 1);
    let none = state.selector.is_zero();
    let fault = !none & var(&format!("{USER_READ} #1: fault"), 1);
    let value = var(&format!("{USER_READ} #1: value"), 8);
    let says = |number| !none & !fault & value.equals(constant(number, 8));
    let uprobe = var("arch_syscall_is_uprobe_trampoline #1: result", 1);
    let refused = all(&[!exempt, !trampoline, !says(0)]);

    let mut counts = std::collections::BTreeMap::new();
    for path in &paths {
        let ends = ends(scene, path)?;
        *counts.entry(format!("{ends:?}")).or_insert(0) += 1;
        let holds = match ends {
            // A tracer's suspension is asked for after the uprobe.
            Ends::Run if event(path, UPROBE).is_some() => refused,
            Ends::Run => !refused,
            Ends::Nothing => refused & !uprobe,
            Ends::Dispatch | Ends::Upcall => all(&[refused, !uprobe, none | says(1)]),
            Ends::Kill => {
                let signal = event(path, "force_exit_sig").context("no kill")?.values[0].1;
                let bad = !none & !fault & !says(1);
                let number = fault.ite(constant(11, 32), constant(31, 32));
                all(&[refused, !uprobe, fault | bad, signal.equals(number)])
            }
        };
        let pair = (
            format!("whether it should come to {ends:?}"),
            holds,
            truth(true),
        );
        if let Some(against) = differ(&mut scene.solver, &path.state.conditions, &[pair])? {
            return Ok(Verdict::fails(against));
        }
    }
    ensure!(counts.len() == 5, "not all there is: {counts:?}");
    Ok(Verdict::holds(format!("paths {counts:?}")))
}

/// What an upcall leaves in the registers, and that nothing else there changes.
pub fn upcall(scene: &mut Scene) -> Result<Verdict> {
    const RF: u64 = 1 << 16;
    const DF: u64 = 1 << 10;
    const TF: u64 = 1 << 8;
    const SWEVENT: u64 = 1 << 17;
    // Of `thread_info.flags`, which come first in a task.
    const FORCED_TF: u8 = 24;
    const SINGLESTEP: u8 = 25;

    let function = Function::Decision;
    let paths = scene.paths(scene.rust, function, &[])?;
    let (state, _) = policy::before(scene, function)?;
    let status = scene.word(function, scene.layout.work + 8)?;
    let mut count = 0;
    for path in &paths {
        if ends(scene, path)? != Ends::Upcall {
            continue;
        }
        count += 1;
        let (world, memory) = (&scene.world, delivery(path));
        let before = |at| load(world, &Memory::default(), "regs", at, 64);
        let after = |at| load(world, memory, "regs", at, 64);
        // The flags of the thread, as they were when they were asked for the last time.
        let asked = inputs(&[&path.state.conditions[..], &[after(R11)?]].concat());
        let thread = asked
            .into_iter()
            .filter_map(|it| Some((flags_read(&it.name()?)?, it)))
            .max_by_key(|it| it.0)
            .context("the flags of the thread are not read")?
            .1;
        let flags = before(FLAGS)?;
        let forced = thread.extract(FORCED_TF, 1).ite(word(!TF), word(u64::MAX));
        let mut pairs: Vec<Pair> = Vec::new();
        for at in (0..0xa8).step_by(8) {
            let expected = match at {
                R11 => flags & word(!RF) & forced,
                AX => before(ORIG_AX)?,
                CX => before(IP)?,
                ORIG_AX => word(u64::MAX),
                IP => state.upcall,
                FLAGS => flags & word(!(DF | RF | TF)),
                SS => before(SS)? & word(!SWEVENT),
                _ => before(at)?,
            };
            pairs.push((format!("regs+{at:#x}"), after(at)?, expected));
        }
        let cs = before(CS)?.extract(0, 16).equals(constant(0x33, 16));
        let compat = !(status & word(COMPAT)).is_zero();
        let may = all(&[cs, !compat, !state.upcall.is_zero()]);
        pairs.push(("whether there may be an upcall".into(), may, truth(true)));
        let steps = truth(event(path, "syscall_user_dispatch_step").is_some());
        pairs.push((
            "whether a step is reported".into(),
            steps,
            thread.extract(SINGLESTEP, 1),
        ));
        if let Some(against) = differ(&mut scene.solver, &path.state.conditions, &pairs)? {
            return Ok(Verdict::fails(against));
        }
    }
    ensure!(count > 0, "there is no upcall");
    Ok(Verdict::holds(format!("{count} paths with an upcall")))
}

/// After how many events the flags of the current thread are read, if that is what an input is.
fn flags_read(name: &str) -> Option<u32> {
    match name.strip_prefix("current+0x0")? {
        "" => Some(0),
        epoch => epoch.strip_prefix('@')?.parse().ok(),
    }
}

/// The bytes of a siginfo beside what they have to be, and rax beside the number.
pub fn signal_pairs(world: &World, work: i64, signal: &Event) -> Result<Vec<Pair>> {
    let fresh = Memory::default();
    let number = load(world, &fresh, "regs", ORIG_AX, 64)?;
    let address = load(world, &fresh, "regs", IP, 64)?;
    let status = load(world, &fresh, "current", work + 8, 32)?;
    let compat = !(status & constant(COMPAT, 32)).is_zero();
    // AUDIT_ARCH_I386 and AUDIT_ARCH_X86_64.
    let arch = compat.ite(constant(0x4000_0003, 32), constant(0xc000_003e, 32));
    // SIGSYS, no errno, SYS_USER_DISPATCH, a gap; address, number, architecture; nothing.
    let mut fields: Vec<Term> = [31, 0, 2, 0].map(|it| constant(it, 32)).into();
    fields.extend([address, number.extract(0, 32), arch, word(0), word(0)]);
    let expected = fields
        .iter()
        .flat_map(|it| (0..it.width() / 8).map(|at| it.extract(at * 8, 8)));
    let bytes = signal.values.iter().filter(|it| it.0.starts_with("byte"));
    let mut pairs: Vec<Pair> = bytes
        .zip(expected)
        .map(|((what, byte), expected)| (format!("{what} of the siginfo"), *byte, expected))
        .collect();
    ensure!(pairs.len() == 48, "a siginfo of {} bytes", pairs.len());
    let rax = load(world, &signal.memory, "regs", AX, 64)?;
    pairs.push(("rax at the signal".into(), rax, number));
    Ok(pairs)
}

/// The dispatch by a signal, which both implementations call: the siginfo that it queues.
pub fn siginfo(scene: &mut Scene) -> Result<Verdict> {
    let mut says = Vec::new();
    for program in [scene.rust, scene.c] {
        let registers = [(RDI, var("regs", 64))];
        let given = crate::scene::given();
        let name = "force_sig_user_dispatch";
        let start = start(program, name, &registers, &given, &mut scene.solver)?;
        scene.world.all_writable = true;
        let paths = explore(program, &mut scene.world, &mut scene.solver, start);
        scene.world.all_writable = false;
        let paths = paths?;
        for path in &paths {
            let queued = event(path, "send_user_dispatch_locked").context("nothing is queued")?;
            let mut pairs = signal_pairs(&scene.world, scene.layout.work, queued)?;
            let regs = scene.world.region("regs");
            let changes = |place: &Place| place.0 == regs && !(AX..AX + 8).contains(&place.1);
            let others = queued.memory.changes().filter(changes).count();
            pairs.push(("other registers".into(), word(others as u64), word(0)));
            if let Some(against) = differ(&mut scene.solver, &path.state.conditions, &pairs)? {
                return Ok(Verdict::fails(against));
            }
        }
        says.push(format!("{} paths of {}", paths.len(), program.side));
    }
    Ok(Verdict::holds(says.join(", ")))
}
