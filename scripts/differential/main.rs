// SPDX-License-Identifier: GPL-2.0

//! The differential tester of Syscall User Dispatch: the same random programs on two kernels.
//!
//! - `differential run SEED OPS` executes programs with together at least OPS operations, or those
//!   named, and prints what they saw.
//! - `differential compare OURS UPSTREAM` compares two such transcripts, and knows the deviations
//!   that are on purpose; `compare --same A B` allows none.
//! - `differential shrink SEED PROGRAM OURS UPSTREAM` makes a program that differs shorter. OURS and
//!   UPSTREAM are shell commands that execute their last argument on the kernel. Again `--same`
//!   allows no difference.
//! - `differential stress SEED SECONDS` lets threads, signals, children and a tracer loose on each
//!   other; `--ours` asserts what upstream does not keep.

mod arena;
mod calls;
mod code;
mod compare;
mod config;
mod draw;
mod handler;
mod meddle;
mod plan;
mod program;
mod requests;
mod rules;
mod shrink;
mod sibling;
mod site;
mod stress;
mod subject;
mod sys;
mod tracer;
mod vdso;
mod worker;

use compare::Mode;
use std::{env, fs, process::ExitCode, thread};
use worker::Job;

const USAGE: &str = "usage: differential run SEED OPS [--jobs N] [--program N [--keep I,J,...]]
                        [--batch FILE]
       differential compare [--same] OURS UPSTREAM
       differential shrink [--same] SEED PROGRAM OURS UPSTREAM
       differential stress SEED SECONDS [--ours]";

fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not a number"))
}

/// A list of operations to keep: `I,J,...`, which may be empty.
fn list(text: &str) -> Result<Vec<usize>, String> {
    let items = text.split(',').filter(|item| !item.is_empty());
    items
        .map(|item| number(item).map(|item| item as usize))
        .collect()
}

/// The programs of a file: a line for each, with its number and the operations to keep.
fn batch(path: &str) -> Result<Vec<Job>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let job = |line: &str| {
        let (program, keep) = line.split_once(' ').ok_or(USAGE)?;
        Ok(Job {
            program: number(program)?,
            keep: Some(list(keep)?),
        })
    };
    text.lines().map(job).collect()
}

fn run(seed: &str, operations: &str, options: &[&str]) -> Result<(), String> {
    let programs = number(operations)?.div_ceil(program::Program::OPERATIONS);
    let mut jobs: Vec<Job> = (0..programs)
        .map(|program| Job {
            program,
            keep: None,
        })
        .collect();
    let mut workers = thread::available_parallelism().map_or(1, usize::from);

    for option in options.chunks(2) {
        match option {
            ["--jobs", value] => workers = number(value)?.max(1) as usize,
            ["--program", value] => {
                jobs = vec![Job {
                    program: number(value)?,
                    keep: None,
                }]
            }
            ["--keep", value] => jobs[0].keep = Some(list(value)?),
            ["--batch", path] => jobs = batch(path)?,
            _ => return Err(USAGE.into()),
        }
    }
    worker::run(number(seed)?, &jobs, workers).map_err(|error| error.to_string())
}

fn shrink(seed: &str, program: &str, ours: &str, other: &str, mode: Mode) -> Result<bool, String> {
    shrink::shrink(seed, number(program)?, [ours, other], mode).map(|()| true)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["run", seed, operations, ref options @ ..] => {
            run(seed, operations, options).map(|()| true)
        }
        ["compare", "--same", a, b] => compare::compare(a, b, Mode::Same),
        ["compare", ours, upstream] => compare::compare(ours, upstream, Mode::Upstream),
        ["shrink", "--same", seed, program, a, b] => shrink(seed, program, a, b, Mode::Same),
        ["shrink", seed, program, ours, upstream] => {
            shrink(seed, program, ours, upstream, Mode::Upstream)
        }
        ["stress", seed, seconds, ref options @ ..] => {
            let ours = options == ["--ours"];
            number(seed).and_then(|seed| Ok(stress::stress(seed, number(seconds)?, ours)))
        }
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
