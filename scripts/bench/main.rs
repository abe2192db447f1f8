// SPDX-License-Identifier: GPL-2.0

//! What a syscall costs, and what each way through Syscall User Dispatch adds to it.
//!
//! `bench measure` prints a line for each path, in nanoseconds for a syscall. In a guest whose
//! clock counts instructions (QEMU's `-icount shift=0`), a nanosecond is an instruction.
//!
//! `bench report UPSTREAM C OURS DIRECTORY` compares what `bench measure` printed on three kernels:
//! upstream's, the patched one with the implementation in C, and ours. It leaves the comparison and
//! a picture of it in DIRECTORY.
//!
//! `bench programs` and `bench table` do so for programs, all of whose syscalls are interposed in
//! one way or another, from their exec to their end.

mod chart;
mod measure;
mod programs;
mod report;
mod stage;
mod sys;
mod table;
mod trace;

use std::{env, process::ExitCode};

const USAGE: &str = "\
usage: bench measure
       bench report UPSTREAM C OURS DIRECTORY [--bounds FILE | --nanoseconds]
       bench programs INTERPOSER REPETITIONS
       bench table C OURS DIRECTORY [--bounds FILE | --nanoseconds]";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();

    let outcome = match arguments[..] {
        ["measure"] => {
            measure::run();
            Ok(true)
        }
        ["programs", preload, repetitions] => match repetitions.parse() {
            Ok(repetitions) => {
                programs::run(preload, repetitions);
                Ok(true)
            }
            Err(_) => return usage(),
        },
        ["report", upstream, patched_c, ours, directory, ref options @ ..] => {
            let Some(purpose) = purpose(options) else {
                return usage();
            };
            report::run([upstream, patched_c, ours], directory, purpose)
        }
        ["table", patched_c, ours, directory, ref options @ ..] => {
            let Some(purpose) = purpose(options) else {
                return usage();
            };
            table::run([patched_c, ours], directory, purpose)
        }
        _ => return usage(),
    };

    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn purpose<'a>(options: &[&'a str]) -> Option<report::Purpose<'a>> {
    match *options {
        [] => Some(report::Purpose::Count),
        ["--bounds", file] => Some(report::Purpose::Guard(file)),
        ["--nanoseconds"] => Some(report::Purpose::Time),
        _ => None,
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
