// SPDX-License-Identifier: GPL-2.0

//! Runs programs that other people wrote on programs that use Syscall User Dispatch, on the kernel
//! that runs, and compares what they print with what they have to. Prints KTAP.
//!
//! Calls go one way:
//!
//! ```text
//! main ──> debuggers             gdb and strace
//!      ──> tracers               perf, trace-cmd and bpftrace
//!      ──> interposed            programs all of whose syscalls are handed over
//!      ──> run                   how a program is run, and what is said of its output
//! ```
//!
//! A client that is not there, or that this kernel has nothing for, is skipped with the reason.

mod debuggers;
mod interposed;
mod run;
mod tracers;

use clap::Parser;
use run::Place;
use std::{path::PathBuf, process::ExitCode, time::Instant};

/// Runs other people's programs on programs that use Syscall User Dispatch.
#[derive(Parser)]
struct Options {
    /// Where the samples of the kernel are
    samples: PathBuf,
    /// Where the program for debuggers is
    armed: PathBuf,
    /// Run only what has this in its name
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
}

/// How a client did.
enum Outcome {
    Right,
    Skipped(String),
}

/// What a client does, by name.
type Case = (String, Box<dyn Fn(&Place) -> anyhow::Result<Outcome>>);

fn main() -> ExitCode {
    let options = Options::parse();
    let place = Place::new(options.samples, options.armed);
    let mut cases: Vec<Case> = Vec::new();
    cases.extend(debuggers::cases());
    cases.extend(tracers::cases());
    cases.extend(interposed::cases());
    cases.retain(|it| it.0.contains(&options.only));

    let mut right = true;
    println!("KTAP version 1\n1..{}", cases.len());
    for (number, (name, run)) in cases.iter().enumerate() {
        let number = number + 1;
        let from = Instant::now();
        let outcome = run(&place);
        println!("# {:.1} s", from.elapsed().as_secs_f32());
        match outcome {
            Ok(Outcome::Right) => println!("ok {number} {name}"),
            Ok(Outcome::Skipped(reason)) => println!("ok {number} {name} # SKIP {reason}"),
            Err(error) => {
                right = false;
                for line in format!("{error:#}").lines() {
                    println!("# {line}");
                }
                println!("not ok {number} {name}");
            }
        }
    }
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
