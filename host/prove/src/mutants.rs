// SPDX-License-Identifier: GPL-2.0

//! Whether the proof can fail: the Rust with one instruction changed, for each instruction and in
//! several ways. The comparison with patched C has to notice each, or a list says why it does the
//! same.

use crate::{
    claims,
    compare::instructions,
    image::Image,
    scene::{Function, Scene},
};
use anyhow::{Context as _, Result};
use iced_x86::{ConditionCode, Encoder, Instruction, Mnemonic, OpKind, Register};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// A mistake, by name.
#[derive(Clone, Debug)]
struct Mutant {
    at: u64,
    /// The function that it is in, as it is written in the source.
    place: String,
    name: String,
    /// The bytes in place of an instruction, or none where an alternative is left out.
    code: Option<Vec<u8>>,
    /// What has to be proved again.
    functions: Vec<Function>,
}

/// What became of it.
#[derive(Clone, Debug)]
enum Fate {
    Noticed,
    Survived,
}

/// The name at the end of a mangled one.
fn short(symbol: &str) -> String {
    let rest = symbol.trim_end_matches('_');
    let start = rest
        .rfind(|it: char| it.is_ascii_digit())
        .map_or(0, |at| at + 1);
    match symbol.starts_with("_R") {
        true => rest[start..].trim_start_matches('_').to_owned(),
        false => symbol.to_owned(),
    }
}

/// The functions of the Rust that are its own.
fn is_ours(symbol: &str) -> bool {
    let is_entry = Function::ALL.iter().any(|it| it.symbol() == symbol);
    is_entry || symbol.starts_with("_R") && symbol.contains("13user_dispatch")
}

fn list(scene: &mut Scene) -> Result<Vec<Mutant>> {
    let mut all: BTreeMap<u64, (Instruction, Vec<Function>)> = BTreeMap::new();
    let image = scene.rust.image;
    for function in Function::ALL {
        let start = scene.start(scene.rust, function, &[])?;
        let seen = instructions(scene.rust, &mut scene.world, &mut scene.solver, start)?;
        for (at, instruction) in seen {
            all.entry(at)
                .or_insert((instruction, vec![]))
                .1
                .push(function);
        }
    }
    let mut mutants = Vec::new();
    for (at, (instruction, functions)) in all {
        let Some(symbol) = image.symbol_at(at).filter(|it| is_ours(&it.name)) else {
            continue;
        };
        let mut add = |change: String, code: Option<Vec<u8>>| {
            mutants.push(Mutant {
                at,
                place: short(&symbol.name),
                name: format!("'{}' {change}", text(&instruction, image)),
                code,
                functions: functions.clone(),
            });
        };
        if image.alternatives.contains_key(&at) {
            add("left unpatched".into(), None);
            continue;
        }
        let original = &image.code(at)?[..instruction.len()];
        for (change, code) in changes(&instruction, original) {
            if code != original {
                add(change, Some(code));
            }
        }
    }
    Ok(mutants)
}

/// An instruction without what differs from one build to the next.
fn text(instruction: &Instruction, image: &Image) -> String {
    match instruction.op0_kind() {
        OpKind::NearBranch64 => {
            let target = image.show(instruction.near_branch_target());
            let target = target.split('+').next().unwrap_or_default();
            format!("{:?} {}", instruction.mnemonic(), short(target)).to_lowercase()
        }
        _ => instruction.to_string(),
    }
}

/// What may be wrong with an instruction, as bytes of its length.
fn changes(instruction: &Instruction, original: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut changes = Vec::new();
    if matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Endbr64) {
        return changes;
    }
    changes.push(("removed".to_owned(), vec![0x90; original.len()]));
    let opcode = opcode(original);

    // Conditions.
    if instruction.condition_code() != ConditionCode::None {
        for flip in [1, 2, 4] {
            let mut code = original.to_vec();
            code[opcode] ^= flip;
            let other = crate::explore::decode(&code, instruction.ip());
            if let Ok(other) = other {
                changes.push((format!("as {:?}", other.mnemonic()).to_lowercase(), code));
            }
        }
    }
    // Operations.
    for (at, byte) in operations(original, opcode) {
        let mut code = original.to_vec();
        code[at] = byte;
        if let Ok(other) = crate::explore::decode(&code, instruction.ip()) {
            if other.len() == original.len() {
                changes.push((format!("as {:?}", other.mnemonic()).to_lowercase(), code));
            }
        }
    }
    let mut encode = |change: String, other: &Instruction| {
        let mut encoder = Encoder::new(64);
        if encoder.encode(other, instruction.ip()).is_ok() {
            let mut code = encoder.take_buffer();
            if code.len() <= original.len() {
                code.resize(original.len(), 0x90);
                changes.push((change, code));
            }
        }
    };
    for n in 0..instruction.op_count() {
        match instruction.op_kind(n) {
            OpKind::Immediate8
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate32to64
            | OpKind::Immediate64 => {
                let value = instruction.immediate(n);
                for other in [value.wrapping_add(1), value.wrapping_sub(1)] {
                    let mut changed = *instruction;
                    changed.set_immediate_u64(n, other);
                    encode(format!("with {other:#x}"), &changed);
                }
            }
            OpKind::Register => {
                let register = instruction.op_register(n);
                let other = neighbour(register);
                let mut changed = *instruction;
                changed.set_op_register(n, other);
                encode(
                    format!("with {other:?} for {register:?}").to_lowercase(),
                    &changed,
                );
            }
            OpKind::Memory if !instruction.is_ip_rel_memory_operand() => {
                let size = instruction.memory_size().size() as u64;
                let to = instruction
                    .memory_displacement64()
                    .wrapping_add(size.max(1));
                let mut changed = *instruction;
                changed.set_memory_displacement64(to);
                changed.set_memory_displ_size(instruction.memory_displ_size().max(1));
                encode(format!("{size} bytes further"), &changed);
                let base = instruction.memory_base();
                if base.is_gpr64() {
                    let mut changed = *instruction;
                    changed.set_memory_base(neighbour(base));
                    encode(format!("at {:?}", neighbour(base)).to_lowercase(), &changed);
                }
            }
            _ => {}
        }
    }
    changes
}

/// Another register of the same size.
fn neighbour(register: Register) -> Register {
    let index = register.number();
    let first = register as usize - index;
    let other = match index {
        3 => 5, // not the stack pointer
        15 => 0,
        _ => index + 1,
    };
    Register::try_from(first + other).unwrap_or(register)
}

/// Where the byte is that says what is done.
fn opcode(code: &[u8]) -> usize {
    let mut at = 0;
    while matches!(
        code[at],
        0x40..=0x4f | 0x65 | 0x66 | 0x2e | 0x3e | 0xf0 | 0xf2 | 0xf3
    ) {
        at += 1;
    }
    at + usize::from(code[at] == 0x0f)
}

/// Other operations that are encoded alike: a byte, and what it becomes.
fn operations(code: &[u8], at: usize) -> Vec<(usize, u8)> {
    // add, or, adc, sbb, and, sub, xor, cmp, and what each is taken for.
    const OTHER: [u8; 8] = [5, 4, 3, 2, 1, 0, 1, 5];
    let byte = code[at];
    if at > 0 && code[at - 1] == 0x0f {
        return match byte {
            0xab => vec![(at, 0xb3)], // bts, btr
            0xb3 => vec![(at, 0xab)],
            0xb6 | 0xb7 => vec![(at, byte | 8)], // movzx, movsx
            0xbe | 0xbf => vec![(at, byte & !8)],
            _ => vec![],
        };
    }
    match byte {
        0x00..=0x3f if byte & 7 < 6 => {
            vec![(at, OTHER[usize::from(byte >> 3)] << 3 | byte & 7)]
        }
        0x80 | 0x81 | 0x83 => {
            let (index, modrm) = (at + 1, code[at + 1]);
            let other = OTHER[usize::from(modrm >> 3 & 7)];
            vec![(index, modrm & 0xc7 | other << 3)]
        }
        // Shifts to the left and right, not and neg.
        0xc0 | 0xc1 | 0xd0 | 0xd1 if code[at + 1] >> 3 & 6 == 4 => vec![(at + 1, code[at + 1] ^ 8)],
        0xf6 | 0xf7 if code[at + 1] >> 3 & 6 == 2 => vec![(at + 1, code[at + 1] ^ 8)],
        // test reads as cmp does.
        0x84 | 0x85 => vec![(at, byte ^ 0x84 ^ 0x38)],
        _ => vec![],
    }
}

/// The kernels that are compared, with a mistake in the Rust.
fn judge(images: &mut [Image; 2], solver: &str, mutant: &Mutant) -> Result<Fate> {
    let [rust, c] = images;
    let dropped = match &mutant.code {
        Some(code) => {
            // Behind a shorter instruction is what fills it up.
            for at in 0..code.len() {
                rust.changed
                    .insert(mutant.at + at as u64, code[at..].to_vec());
            }
            None
        }
        None => rust.alternatives.remove(&mutant.at),
    };
    let fate = (|| {
        let mut scene = Scene::new([rust, c, c], solver)?;
        for &function in &mutant.functions {
            // What cannot be followed, or is followed without an end, is noticed.
            if !claims::is_right(&mut scene, function, mutant.at).unwrap_or(false) {
                return Ok(Fate::Noticed);
            }
        }
        Ok(Fate::Survived)
    })();
    rust.changed.clear();
    if let Some(dropped) = dropped {
        rust.alternatives.insert(mutant.at, dropped);
    }
    fate
}

/// The survivors that are argued: `FUNCTION: CHANGE: why`, a line each.
fn argued(list: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(list).with_context(|| list.display().to_string())?;
    let lines = text.lines().map(str::trim);
    lines
        .filter(|it| !it.is_empty() && !it.starts_with('#'))
        .map(|line| {
            let (name, _) = line
                .rsplit_once(": ")
                .with_context(|| format!("no reason: {line}"))?;
            Ok(name.to_owned())
        })
        .collect()
}

/// Whether a name is as a pattern says, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            let ends = name.char_indices().map(|it| it.0).chain([name.len()]);
            ends.into_iter().any(|end| matches(rest, &name[end..]))
        }),
    }
}

/// Judges all, and prints KTAP: a result for each function. Returns whether all are noticed or
/// argued.
pub fn run(images: &[PathBuf], solver: &str, reasons: &Path) -> Result<bool> {
    let reasons = argued(reasons)?;
    let read =
        || -> Result<[Image; 2]> { Ok([Image::read(&images[0])?, Image::read(&images[1])?]) };
    let mutants = {
        let [rust, c] = read()?;
        list(&mut Scene::new([&rust, &c, &c], solver)?)?
    };
    println!("KTAP version 1\n# {} mistakes", mutants.len());
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(usize, Fate)>> {
        let mut images = read()?;
        let mut fates = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(mutant) = mutants.get(number) else {
                return Ok(fates);
            };
            let fate = judge(&mut images, solver, mutant)?;
            println!("# {fate:?}: {}: {}", mutant.place, mutant.name);
            fates.push((number, fate));
        }
    };
    let mut fates = BTreeMap::new();
    let threads = thread::available_parallelism().map_or(1, |it| it.get());
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            let all = worker
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            fates.extend(all?);
        }
        Ok(())
    })?;

    let places: BTreeSet<&str> = mutants.iter().map(|it| &*it.place).collect();
    let mut holds = true;
    println!("1..{}", places.len());
    for (number, place) in places.into_iter().enumerate() {
        let (mut noticed, mut known, mut unknown) = (0, 0, 0);
        for (index, mutant) in mutants
            .iter()
            .enumerate()
            .filter(|(_, it)| it.place == place)
        {
            let name = format!("{place}: {}", mutant.name);
            match fates[&index] {
                Fate::Noticed => noticed += 1,
                Fate::Survived if reasons.iter().any(|it| matches(it, &name)) => known += 1,
                Fate::Survived => {
                    unknown += 1;
                    println!("# survives: {name}");
                }
            }
        }
        holds &= unknown == 0;
        let ok = if unknown == 0 { "ok" } else { "not ok" };
        println!("# {noticed} mistakes are noticed, {known} are argued, {unknown} are neither");
        println!("{ok} {} {place}: each mistake is noticed", number + 1);
    }
    Ok(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_what_it_says() {
        assert!(matches("*: 'je *' as jbe", "refuse: 'je refuse' as jbe"));
        assert!(!matches("*: 'je *' as jbe", "refuse: 'jne refuse' as jbe"));
        assert!(!matches("*: 'je *' as jb", "refuse: 'je refuse' as jbe"));
        assert!(matches("refuse: *", "refuse: "));
    }

    #[test]
    fn a_mangled_name_ends_in_its_own() {
        assert_eq!(short("_RNvCs4yGICNOfiBM_13user_dispatch6refuse"), "refuse");
        assert_eq!(
            short("set_syscall_user_dispatch"),
            "set_syscall_user_dispatch"
        );
    }
}
