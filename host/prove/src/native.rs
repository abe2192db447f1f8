// SPDX-License-Identifier: GPL-2.0

//! The engine itself, checked: the same code runs on the processor, with the same inputs, and has
//! to do what the engine says.
//!
//! The inputs are those that the solver found for each path, so that each is taken, and random ones
//! around them.

use crate::{
    claims::Verdict,
    compare::{instructions, Program},
    explore::{Path, USER_READ},
    machine::{End, ARGUMENTS, RAX},
    memory::{Memory, STACK},
    scene::{given, Function, Scene},
    solver::inputs,
    stubs::{self, called, Script},
    term::{var, Assignment, Term},
    transplant::{Patched, Transplant, LIMIT},
};
use anyhow::{bail, ensure, Context as _, Result};
use nix::sys::mman::{mmap_anonymous, MapFlags, ProtFlags};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
};

/// How long a region is.
const REGION: usize = 8192;

/// Numbers that look random, and are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The name of an input, whenever it was read.
fn timeless(name: &str) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('@') {
        out.push_str(before);
        rest = after.trim_start_matches(|it: char| it.is_ascii_digit());
    }
    out + rest
}

/// A region and an offset, if an input is a word of memory.
fn place(name: &str) -> Option<(&str, i64)> {
    let (region, offset) = name.rsplit_once("+0x")?;
    Some((region, i64::from_str_radix(offset, 16).ok()?))
}

/// A program in this process, with the memory that it works on.
struct Bench {
    program: Transplant,
    entry: u64,
    regions: BTreeMap<String, u64>,
    /// A byte that can be read, and one that cannot.
    readable: u64,
    unreadable: u64,
    /// The input that is the selector of the current task.
    selector: Term,
}

fn map(len: usize, protection: ProtFlags) -> Result<u64> {
    let len = NonZeroUsize::new(len).context("no length")?;
    // SAFETY: Anonymous, at an address that is free.
    let at = unsafe { mmap_anonymous(None, len, protection, MapFlags::MAP_PRIVATE) }?;
    Ok(at.as_ptr() as u64)
}

impl Bench {
    fn new(
        scene: &mut Scene,
        program: Program,
        function: Function,
        patched: Patched,
        selector: Term,
    ) -> Result<Self> {
        let start = scene.start(program, function, &[])?;
        let seen = instructions(program, &mut scene.world, &mut scene.solver, start)?;
        let seen: BTreeSet<u64> = seen.into_keys().collect();
        let transplant = Transplant::new(program.image, &seen, patched, called)?;
        let entry = program.image.symbol(function.symbol())?.0;
        let read_write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        Ok(Self {
            entry: transplant.moved(entry).context("the entry was not moved")?,
            program: transplant,
            regions: BTreeMap::new(),
            readable: map(4096, read_write)?,
            unreadable: map(4096, ProtFlags::PROT_NONE)?,
            selector,
        })
    }

    /// Where a region is in this process.
    fn region(&mut self, name: &str) -> Result<u64> {
        if let Some(&at) = self.regions.get(name) {
            return Ok(at);
        }
        let at = match ["regs", "current", "task"].contains(&name) || name.contains("*(") {
            true => map(REGION, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?,
            false => self.program.slot(name),
        };
        self.regions.insert(name.to_owned(), at);
        Ok(at)
    }

    /// Makes inputs of what a path wants that this process can have: pointers that point, keys and
    /// features as they are patched.
    fn settle(
        &mut self,
        wanted: &Assignment,
        all: &[Term],
        patched: Patched,
        random: &mut Random,
        chaos: bool,
    ) -> Result<Assignment> {
        let names: BTreeMap<Term, String> = all
            .iter()
            .filter_map(|it| Some((*it, timeless(&it.name()?))))
            .collect();
        let pointers: BTreeSet<String> = names
            .values()
            .filter_map(|it| Some(it.split_once("*(")?.1.rsplit_once(')')?.0.to_owned()))
            .collect();
        let faults = var(&format!("{USER_READ} #1: fault"), 1);
        let mut values: BTreeMap<&str, u64> = BTreeMap::new();
        for (&term, name) in &names {
            let mut value = match wanted.get(&term) {
                Some(&value) => value,
                None if chaos => random.next() & crate::term::mask(term.width()),
                None => 0,
            };
            if chaos && random.next() % 16 == 0 {
                value = match random.next() % 3 {
                    0 => value.wrapping_add(1),
                    1 => value ^ 1 << (random.next() % u64::from(term.width())),
                    _ => random.next(),
                } & crate::term::mask(term.width());
            }
            let of_both = values.entry(name).or_insert(value);
            // What was read twice is the same: nobody else runs here.
            if wanted.contains_key(&term) && !chaos {
                *of_both = (*of_both).max(value);
            }
        }
        let mut input = Assignment::new();
        for (&term, name) in &names {
            let mut value = values[&**name];
            if name.starts_with("key ") {
                value = patched.keys.into();
            } else if name.starts_with("feature ") {
                value = patched.features.into();
            } else if name == "USER_PTR_MAX" {
                value = LIMIT;
            } else if name.starts_with("percpu cpu_number") {
                value &= 63;
            } else if name.starts_with("syscall_user_dispatch_allowed") {
                value &= !0xfe;
            } else if ["regs", "current", "task"].contains(&&**name) {
                value = self.region(name)?;
            } else if pointers.contains(name) && value != 0 {
                let percpu = name.starts_with("tracepoint_srcu");
                let prefix = if percpu { "percpu " } else { "" };
                value = self.region(&format!("{prefix}*({name})"))?;
            }
            input.insert(term, value);
        }
        // What is only an address is an input as well.
        for name in &pointers {
            if !names.values().any(|it| it == name) {
                let prefix = if name.starts_with("tracepoint_srcu") {
                    "percpu "
                } else {
                    ""
                };
                let region = self.region(&format!("{prefix}*({name})"))?;
                input.insert(var(name, 64), region);
            }
        }
        // The selector: somewhere that can be read, or not.
        if let Some(&selector @ 1..) = input.get(&self.selector) {
            let kernel = 0xffff_8000_0000_0000 | selector >> 20;
            let bad = if selector & 1 == 0 {
                kernel
            } else {
                self.unreadable
            };
            let is_fault = input.get(&faults).copied().unwrap_or(0) == 1;
            input.insert(
                self.selector,
                if is_fault { bad } else { self.readable + 5 },
            );
        }
        Ok(input)
    }

    /// Runs the program, and returns what it does other than the engine says, if anything.
    fn run(
        &mut self,
        scene: &mut Scene,
        function: Function,
        paths: &[Path],
        input: &Assignment,
    ) -> Result<Option<String>> {
        let takes = |path: &&Path| path.state.conditions.iter().all(|it| it.eval(input) == 1);
        let path = paths.iter().find(takes).context("no path is taken")?;
        ensure!(path.end == End::Returned, "the path stops");

        // Memory and answers, as the input has them.
        let current = self.region("current")?;
        let task = self.region("percpu current_task")?;
        put(task, 0, current);
        let mut script = Script::default();
        for (term, &value) in input {
            let name = timeless(&term.name().unwrap_or_default());
            if name.contains('#') {
                script.answers.insert(name, value);
            } else if let Some((region, offset)) = place(&name) {
                let region = self.region(region)?;
                put(region, offset, value);
            }
        }
        let value = var(&format!("{USER_READ} #1: value"), 8);
        put(
            self.readable,
            0,
            input.get(&value).copied().unwrap_or(0) << 40,
        );
        let watched: Vec<(&str, u64)> = ["regs", "current", "task"]
            .into_iter()
            .filter_map(|name| Some((name, *self.regions.get(name)?)))
            .collect();
        let before: Vec<Vec<u8>> = watched.iter().map(|it| bytes(it.1, REGION)).collect();
        let mut registers = [0; 6];
        for (register, term) in function.registers(scene.layout) {
            let number = ARGUMENTS
                .iter()
                .position(|it| *it == register)
                .context("no argument")?;
            registers[number] = term.eval(input);
        }
        stubs::prepare(script, &self.program.faults)?;
        let [a, b, c, d, e, f] = registers;
        // SAFETY: What was moved here keeps to the ABI, as was proved, and has its memory.
        let result = unsafe {
            let entry: extern "sysv64" fn(u64, u64, u64, u64, u64, u64) -> u64 =
                std::mem::transmute(self.entry as *const ());
            entry(a, b, c, d, e, f)
        };
        let heard = stubs::heard();

        // What the engine says of it.
        let width = function.returns();
        let says = path.state.regs[RAX].extract(0, width).eval(input);
        if result & crate::term::mask(width) != says {
            return Ok(Some(format!("the result is {result:#x}, not {says:#x}")));
        }
        let events: Vec<_> = path
            .state
            .events
            .iter()
            .filter(|it| it.name != USER_READ)
            .collect();
        let names: Vec<_> = heard.iter().map(|it| it.name).collect();
        if !events.iter().map(|it| &*it.name).eq(names.iter().copied()) {
            let says: Vec<_> = events.iter().map(|it| &it.name).collect();
            return Ok(Some(format!("it calls {names:?}, not {says:?}")));
        }
        for (event, called) in events.iter().zip(&heard) {
            for (what, term) in &event.values {
                let number = |prefix: &str| what.strip_prefix(prefix)?.parse::<usize>().ok();
                let does = match &**what {
                    "to" => called.arguments[0],
                    "from" => called.arguments[1],
                    "length" if called.bytes.is_empty() => called.arguments[2],
                    "length" => called.bytes.len() as u64,
                    _ => match (number("argument "), number("byte ")) {
                        (Some(number), _) => called.arguments[number - 1],
                        (_, Some(number)) => called.bytes[number].into(),
                        _ => bail!("what is {what}?"),
                    },
                } & crate::term::mask(term.width());
                let says = term.eval(input);
                if does != says {
                    let name = called.name;
                    return Ok(Some(format!("{name}: {what} is {does:#x}, not {says:#x}")));
                }
            }
        }
        let mut changes = BTreeMap::new();
        let memories = path.state.events.iter().map(|it| &it.memory);
        for memory in memories.chain([&path.state.memory]) {
            for place in memory.changes().filter(|it| it.0 != STACK) {
                changes.insert(place, Memory::byte(memory, &scene.world, place)?);
            }
        }
        let mut expected: BTreeMap<u64, u8> = BTreeMap::new();
        for (place, term) in changes {
            let name = timeless(scene.world.name(place.0));
            let at = self.region(&name)?.wrapping_add_signed(place.1);
            let (does, says) = (bytes(at, 1)[0], term.eval(input) as u8);
            if does != says {
                let place = scene.world.show(place);
                return Ok(Some(format!("{place} is {does:#x}, not {says:#x}")));
            }
            expected.insert(at, says);
        }
        for ((name, at), before) in watched.iter().zip(&before) {
            let after = bytes(*at, REGION);
            for (offset, (before, after)) in before.iter().zip(&after).enumerate() {
                if before != after && !expected.contains_key(&(at + offset as u64)) {
                    return Ok(Some(format!("{name}+{offset:#x} has changed")));
                }
            }
        }
        Ok(None)
    }
}

fn put(region: u64, offset: i64, value: u64) {
    // SAFETY: In one of the regions, which are longer than what is known of any.
    unsafe { (region.wrapping_add_signed(offset) as *mut u64).write_unaligned(value) };
}

fn bytes(at: u64, len: usize) -> Vec<u8> {
    // SAFETY: As above.
    unsafe { std::slice::from_raw_parts(at as *const u8, len) }.to_vec()
}

/// All inputs that any path depends on.
fn all_inputs(scene: &mut Scene, function: Function, paths: &[Path]) -> Vec<Term> {
    let mut terms = given();
    for path in paths {
        terms.extend(&path.state.conditions);
        terms.push(path.state.regs[RAX]);
        for event in &path.state.events {
            terms.extend(event.values.iter().map(|it| it.1));
        }
        let memories = path.state.events.iter().map(|it| &it.memory);
        for memory in memories.chain([&path.state.memory]) {
            let bytes = memory
                .changes()
                .filter_map(|it| memory.byte(&scene.world, it).ok());
            terms.extend(bytes);
        }
    }
    terms.extend(function.registers(scene.layout).iter().map(|it| it.1));
    let mut inputs = inputs(&terms);
    inputs.retain(|it| it.name().is_some_and(|it| !it.starts_with("garbage.")));
    inputs
}

/// Runs each path of a function, in Rust, patched C and upstream, and inputs around it.
pub fn agrees(scene: &mut Scene, function: Function) -> Result<Verdict> {
    stubs::catch_faults()?;
    let selector = scene.word(Function::Decision, scene.layout.state)?;

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut count, mut taken) = (0, 0);
    for program in [scene.rust, scene.c, scene.upstream] {
        let paths = scene.paths(program, function, &[])?;
        let all = all_inputs(scene, function, &paths);
        let mut seen = BTreeSet::new();
        for patched in [false, true] {
            let patched = Patched {
                keys: patched,
                features: patched,
            };
            let mut bench = Bench::new(scene, program, function, patched, selector)?;
            for path in &paths {
                for chaos in [false, true, true] {
                    let wanted = &path.state.witness;
                    let input = bench.settle(wanted, &all, patched, &mut random, chaos)?;
                    let takes =
                        |it: &Path| it.state.conditions.iter().all(|it| it.eval(&input) == 1);
                    let index = paths.iter().position(takes).context("no path is taken")?;
                    seen.insert(index);
                    count += 1;
                    let path = std::slice::from_ref(&paths[index]);
                    if let Some(what) = bench.run(scene, function, path, &input)? {
                        let what = format!("{}, on the processor: {what}", program.side);
                        return Ok(Verdict::fails(crate::compare::Counterexample {
                            what,
                            input,
                        }));
                    }
                }
            }
        }
        taken += seen.len();
    }
    Ok(Verdict::holds(format!("{count} inputs, on {taken} paths")))
}
