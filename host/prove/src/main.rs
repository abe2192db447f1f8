// SPDX-License-Identifier: GPL-2.0

//! Proves the object code of Syscall User Dispatch in Rust equal to that of the C, for all inputs,
//! by symbolic execution and an SMT solver. Prints KTAP.
//!
//! Calls go one way:
//!
//! ```text
//! main ──> mutants               whether the proof can fail
//!      ──> claims, ptrace, upstream
//!                                what is proved
//!      ──> native ──> transplant, stubs
//!                                whether the processor does what the engine says
//!      ──> replay, guest         what an input comes to: here, and on the kernel that runs
//!      ──> verdict, policy       what the decision and the setters have to do, said once more
//!      ──> scene                 how the functions are called, and what is assumed
//!      ──> compare               two programs, path by path
//!      ──> explore ──> step, call
//!                                all paths of one; what each instruction and call does
//!      ──> machine, memory       the state on a path
//!      ──> outward               the functions that are not looked into
//!      ──> image                 the linked kernel, and what it patches in itself
//!      ──> solver ──> term, arithmetic
//!                                questions, and bit vectors
//! ```

mod arithmetic;
mod call;
mod claims;
mod compare;
mod explore;
mod guest;
mod image;
mod machine;
mod memory;
mod mutants;
mod native;
mod outward;
mod policy;
mod ptrace;
mod replay;
mod scene;
mod solver;
mod step;
mod stubs;
mod term;
mod transplant;
mod upstream;
mod verdict;

use anyhow::Result;
use claims::Verdict;
use clap::Parser;
use image::Image;
use scene::{Function, Scene};
use std::{path::PathBuf, process::ExitCode, time::Instant};

/// Proves the object code of the Rust equal to that of the C.
#[derive(Parser)]
struct Options {
    /// The linked kernel with the Rust, that with the patched C, and upstream's
    #[arg(num_args = 3, required = true)]
    images: Vec<PathBuf>,
    /// The SMT solver, as a command that reads SMT-LIB
    #[arg(long, default_value = "z3 -in")]
    solver: String,
    /// Prove only what has this in its name
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    /// Change the Rust, an instruction at a time; the list says what may stay unnoticed, and why
    #[arg(long, value_name = "LIST")]
    mutants: Option<PathBuf>,
    /// Show what each does with the input that a claim does not hold for
    #[arg(long, value_name = "INPUT")]
    replay: Option<String>,
    /// Have the kernel that runs do what a thread can do of that input: ./guest prove --run ...
    #[arg(long, value_name = "INPUT", conflicts_with = "replay")]
    run: Option<String>,
}

/// How something is proved.
type Proof = Box<dyn Fn(&mut Scene) -> Result<Verdict>>;
/// Something to prove, by name.
type Claim = (String, Proof);

fn claims() -> Vec<Claim> {
    let mut all: Vec<Claim> = Vec::new();
    let mut add = |name: String, prove: Proof| {
        all.push((name, prove));
    };
    add(
        "the state is at the same place in all images".into(),
        Box::new(|scene| scene.check_layout().map(|()| Verdict::holds(""))),
    );
    for function in Function::ALL {
        let name = |what: &str| format!("{}: {what}", function.title());
        add(
            name("Rust does what patched C does"),
            Box::new(move |scene| claims::same(scene, function)),
        );
        add(
            name("each input takes a path"),
            Box::new(move |scene| claims::complete(scene, function)),
        );
        add(
            name("only its own memory and registers, and no panic"),
            Box::new(move |scene| claims::clean(scene, function)),
        );
        add(
            name("the processor does what the engine says"),
            Box::new(move |scene| native::agrees(scene, function)),
        );
        match function {
            Function::Decision => {
                add(
                    name("one byte is read, at the selector"),
                    Box::new(claims::one_byte),
                );
                add(
                    name("64-bit code has no trampoline"),
                    Box::new(claims::no_vdso),
                );
                add(
                    name("as the region and the selector say"),
                    Box::new(verdict::decided),
                );
                add(
                    name("the registers of an upcall"),
                    Box::new(verdict::upcall),
                );
                add(
                    name("the siginfo of a dispatch"),
                    Box::new(verdict::siginfo),
                );
                add(
                    name("upstream's, but for D1, D7 and D8"),
                    Box::new(upstream::decision),
                );
            }
            Function::Get => {
                add(
                    name("what is reported can be set"),
                    Box::new(ptrace::identity),
                );
                add(
                    name("upstream's, but for D3 and D4"),
                    Box::new(|scene| upstream::setter(scene, Function::Get)),
                );
            }
            Function::Setter | Function::Set => {
                add(
                    name("as the policy says"),
                    Box::new(move |scene| claims::as_specified(scene, function)),
                );
                add(
                    name("a region tells its mode"),
                    Box::new(move |scene| ptrace::keeps_invariant(scene, function)),
                );
                add(
                    name("upstream's, but for D6"),
                    Box::new(move |scene| upstream::setter(scene, function)),
                );
            }
        }
    }
    all
}

fn prove(options: &Options) -> Result<bool> {
    let read = |at: usize| Image::read(&options.images[at]);
    let images = [read(0)?, read(1)?, read(2)?];
    let mut scene = Scene::new([&images[0], &images[1], &images[2]], &options.solver)?;
    if let Some(line) = &options.replay {
        replay::run(&mut scene, line)?;
        return Ok(true);
    }
    if let Some(line) = &options.run {
        guest::run(scene.layout, line)?;
        return Ok(true);
    }
    let mut claims = claims();
    claims.retain(|it| it.0.contains(&options.only));
    let mut holds = true;

    println!("KTAP version 1\n1..{}", claims.len());
    for (number, (name, prove)) in claims.iter().enumerate() {
        let number = number + 1;
        let (from, queries) = (Instant::now(), scene.solver.queries);
        scene.solver.restart()?;
        let verdict = prove(&mut scene);
        let cost = format!(
            "{} questions, {:.1} s",
            scene.solver.queries - queries,
            from.elapsed().as_secs_f32()
        );
        match verdict {
            Ok(Verdict {
                says,
                against: None,
            }) => {
                let says = if says.is_empty() {
                    says
                } else {
                    format!("{says}, ")
                };
                println!("# {says}{cost}\nok {number} {name}");
            }
            Ok(Verdict {
                against: Some(found),
                ..
            }) => {
                holds = false;
                println!("# {}", found.what);
                for value in replay::show(&found.input) {
                    println!("#   {value}");
                }
                let function = name.split(':').next().unwrap_or_default();
                println!(
                    "# prove --replay '{}'",
                    replay::line(function, &found.input)
                );
                println!("not ok {number} {name}");
            }
            Err(error) => {
                holds = false;
                println!("# {error:#}\nnot ok {number} {name}");
            }
        }
    }
    Ok(holds)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.mutants {
        Some(reasons) => mutants::run(&options.images, &options.solver, reasons),
        None => prove(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("Bail out! {error:#}");
            ExitCode::FAILURE
        }
    }
}
