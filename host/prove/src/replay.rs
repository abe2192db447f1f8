// SPDX-License-Identifier: GPL-2.0

//! A counterexample, for a person: as a line that can be given back, and as what each program does
//! with it, step by step.

use crate::{
    explore::Path,
    machine::RAX,
    memory::Memory,
    scene::{Function, Scene},
    term::{var, Assignment, Term},
};
use anyhow::{Context as _, Result};

/// The inputs that are not 0, by name. What nobody can know is not among them.
pub fn show(input: &Assignment) -> Vec<String> {
    let mut values: Vec<String> = input
        .iter()
        .filter(|(_, &value)| value != 0)
        .filter_map(|(term, value)| Some(format!("{}={value:#x}", term.name()?)))
        .filter(|it| !it.starts_with("garbage."))
        .collect();
    values.sort();
    values
}

/// The same as one line, with the function that it is for.
pub fn line(function: &str, input: &Assignment) -> String {
    format!("{function}: {}", show(input).join("; "))
}

/// A line that was given back.
pub struct Line {
    pub function: Function,
    pub values: Vec<(String, u64)>,
}

impl Line {
    pub fn parse(line: &str) -> Result<Self> {
        let (title, rest) = line.split_once(": ").context("no function is named")?;
        let function = Function::ALL.into_iter().find(|it| it.title() == title);
        let function = function.with_context(|| format!("'{title}' is none of the functions"))?;
        let mut values = Vec::new();
        for pair in rest.split(';').map(str::trim).filter(|it| !it.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("no value: {pair}"))?;
            let value = u64::from_str_radix(value.trim_start_matches("0x"), 16)
                .with_context(|| format!("not a number: {value}"))?;
            values.push((name.to_owned(), value));
        }
        Ok(Self { function, values })
    }

    /// What is not there is 0.
    pub fn value(&self, name: &str) -> u64 {
        let found = self.values.iter().find(|it| it.0 == name);
        found.map_or(0, |it| it.1)
    }
}

/// Runs what `line` made on Rust, patched C and upstream, and prints what each does.
pub fn run(scene: &mut Scene, line: &str) -> Result<()> {
    let Line { function, values } = Line::parse(line)?;
    for program in [scene.rust, scene.c, scene.upstream] {
        let paths = scene.paths(program, function, &[])?;
        println!("{}:", program.side);
        // An input is known by its name, whatever its width.
        let mut input = Assignment::new();
        for (name, value) in &values {
            for width in [1, 8, 16, 32, 64] {
                input.insert(var(name, width), *value);
            }
        }
        let takes = |path: &&Path| path.state.conditions.iter().all(|it| it.eval(&input) == 1);
        match paths.iter().find(takes) {
            Some(path) => print(scene, path, &input)?,
            None => println!("  no path: the inputs are not permitted"),
        }
    }
    Ok(())
}

fn print(scene: &Scene, path: &Path, input: &Assignment) -> Result<()> {
    let value = |term: Term| format!("{:#x}", term.eval(input));
    for event in &path.state.events {
        let values = event.values.iter();
        let values: Vec<String> = values
            .map(|(what, term)| format!("{what} {}", value(*term)))
            .collect();
        println!("  {} ({})", event.name, values.join(", "));
    }
    println!(
        "  ends as {:?}, rax {}",
        path.end,
        value(path.state.regs[RAX])
    );
    let (memory, world) = (&path.state.memory, &scene.world);
    for place in memory.changes() {
        let (before, after) = (
            Memory::default().byte(world, place)?,
            memory.byte(world, place)?,
        );
        if before.eval(input) != after.eval(input) {
            println!(
                "  {}: {} to {}",
                world.show(place),
                value(before),
                value(after)
            );
        }
    }
    for violation in &path.state.violations {
        println!("  {violation}");
    }
    Ok(())
}
