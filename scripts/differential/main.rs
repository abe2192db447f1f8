// SPDX-License-Identifier: GPL-2.0

//! The differential tester of Syscall User Dispatch: the same random programs on two kernels.
//!
//! - `differential run SEED OPS` executes programs with together at least OPS operations, or those
//!   named, and prints what they saw. With `--upcall` their dispatches are upcalls wherever the
//!   kernel has them, with `--ours` they try what only our kernels know.
//! - `differential compare OURS UPSTREAM` compares two such transcripts, and knows the deviations
//!   that are on purpose; `compare --upcall` knows as well what an upcall does not show;
//!   `compare --same A B` allows none.
//! - `differential shrink SEED PROGRAM OURS UPSTREAM` makes a program that differs shorter. OURS and
//!   UPSTREAM are shell commands that execute their last argument on the kernel. The options are
//!   those of `run` and `compare`.
//! - `differential stress SEED SECONDS` lets threads, signals, children and a tracer loose on each
//!   other; `--ours` asserts what upstream does not keep.

mod arena;
mod by_upcall;
mod calls;
mod code;
mod compare;
mod config;
mod delivery;
mod draw;
mod handler;
mod meddle;
mod partings;
mod plan;
mod program;
mod requests;
mod rules;
mod shrink;
mod sibling;
mod site;
mod stress;
mod style;
mod subject;
mod sys;
mod tracer;
mod upcall;
mod vdso;
mod worker;

use compare::Mode;
use program::Style;
use std::{env, fs, process::ExitCode, thread};
use worker::Job;

const USAGE: &str = "usage: differential run SEED OPS [--upcall | --ours] [--jobs N]
                        [--program N [--keep I,J,...]] [--batch FILE]
       differential compare [--same | --upcall] OURS UPSTREAM
       differential shrink [--same] [--upcall | --ours] SEED PROGRAM OURS UPSTREAM
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

    let (style, options) = style(options);
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
    worker::run(number(seed)?, style, &jobs, workers).map_err(|error| error.to_string())
}

/// The style that options name first, and the other options.
fn style<'a, 'b>(options: &'a [&'b str]) -> (Style, &'a [&'b str]) {
    match options {
        ["--upcall", rest @ ..] => (Style::Upcall, rest),
        ["--ours", rest @ ..] => (Style::Ours, rest),
        _ => (Style::Plain, options),
    }
}

fn shrink(words: &[&str]) -> Result<bool, String> {
    let (same, words) = match words {
        ["--same", rest @ ..] => (true, rest),
        _ => (false, words),
    };
    let (style, words) = style(words);
    let mode = match style {
        _ if same => Mode::Same,
        Style::Plain => Mode::Upstream,
        Style::Upcall => Mode::Upcall,
        Style::Ours => return Err("upstream knows nothing of that; say --same".into()),
    };
    let [seed, program, ours, other] = words else {
        return Err(USAGE.into());
    };
    shrink::shrink(seed, number(program)?, [ours, other], style, mode).map(|()| true)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["run", seed, operations, ref options @ ..] => {
            run(seed, operations, options).map(|()| true)
        }
        ["compare", "--same", a, b] => compare::compare(a, b, Mode::Same),
        ["compare", "--upcall", ours, upstream] => compare::compare(ours, upstream, Mode::Upcall),
        ["compare", ours, upstream] => compare::compare(ours, upstream, Mode::Upstream),
        ["shrink", ref words @ ..] => shrink(words),
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
