// SPDX-License-Identifier: GPL-2.0

//! `progress`: runs a command that takes long, and says how much of it is done, how long it has
//! taken and how long it still takes: on one line of a terminal, as a line a minute elsewhere.
//!
//! What there is to do is learnt from the last time that the command succeeded on this machine.

mod estimate;

use anyhow::{Context, Result};
use clap::Parser;
use estimate::{Estimate, Work};
use nix::sys::signal::{signal, SigHandler, Signal};
use std::{
    env,
    ffi::OsString,
    fs,
    io::{stderr, BufRead, BufReader, IsTerminal, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Run COMMAND, and say how far it is.
#[derive(Parser)]
struct Options {
    /// What it is remembered as
    #[arg(long)]
    name: String,
    /// What it does, said before it starts
    #[arg(long)]
    what: String,
    /// How much there is to do and how many seconds it takes, for the first time
    #[arg(long, value_name = "UNITS:SECONDS")]
    guess: Work,
    /// What grows: the lines of all files whose names match are the units
    #[arg(long, value_name = "PATTERN")]
    of: Option<String>,
    /// The units are mebibytes instead
    #[arg(long)]
    size: bool,
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// How much there is in the files that match `pattern`: lines, or mebibytes.
fn amount(pattern: &str, size: bool) -> u64 {
    let files = glob::glob(pattern).into_iter().flatten().flatten();
    if size {
        let bytes: u64 = files
            .map(|path| path.metadata().map_or(0, |data| data.len()))
            .sum();
        return bytes >> 20;
    }
    let lines = |bytes: Vec<u8>| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    files.map(|path| fs::read(path).map_or(0, lines)).sum()
}

/// Where what was learnt on this machine is.
fn memory(name: &str) -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("syscall-user-dispatch/progress").join(name))
}

fn recall(name: &str) -> Option<Work> {
    fs::read_to_string(memory(name)?).ok()?.trim().parse().ok()
}

/// Not to be able to remember is no failure.
fn remember(name: &str, work: Work) -> Option<()> {
    let path = memory(name)?;
    fs::create_dir_all(path.parent()?).ok()?;
    fs::write(path, format!("{work}\n")).ok()
}

/// Runs the command. Returns its exit status as the shell words it.
fn run(options: &Options) -> Result<u8> {
    const LOOK: Duration = Duration::from_millis(500);
    const LINE: Duration = Duration::from_secs(60);
    let expected = recall(&options.name).unwrap_or(options.guess);
    let on_terminal = stderr().is_terminal();
    let what = &options.what;
    eprintln!("==> {what}: about {}", estimate::rounded(expected.time));

    let amount = || {
        let of = options.of.as_deref();
        of.map_or(0, |path| amount(path, options.size))
    };
    let (before, began, mut said) = (amount(), Instant::now(), Instant::now());
    // Ctrl-C is for the command, of whose end we hear. It is not to inherit that.
    let program = &options.command[0];
    let mut command = Command::new(program);
    command.args(&options.command[1..]);
    if on_terminal {
        command.stderr(Stdio::piped());
    }
    let mut child = command
        .spawn()
        .with_context(|| program.to_string_lossy().into_owned())?;
    // What it says goes above our line.
    let said_by_it = child.stderr.take().map(|from| {
        thread::spawn(|| {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                eprintln!("\r\x1b[K{}", String::from_utf8_lossy(&line));
            }
        })
    });
    for ending in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: There is no handler that could do wrong.
        unsafe { signal(ending, SigHandler::SigIgn) }?;
    }

    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(LOOK);
        let patience = if on_terminal { LOOK } else { LINE };
        if said.elapsed() < patience {
            continue;
        }
        said = Instant::now();
        let done = options
            .of
            .is_some()
            .then(|| amount().saturating_sub(before));
        let line = Estimate {
            expected,
            done,
            elapsed: began.elapsed(),
        };
        match on_terminal {
            true => eprint!("\r    {line}\x1b[K"),
            false => eprintln!("    {line}"),
        }
        let _ = stderr().flush();
    };
    if let Some(thread) = said_by_it {
        let _ = thread.join();
        eprint!("\r\x1b[K");
    }
    // A command that took a small part of the time found most of its work done.
    let time = began.elapsed();
    if status.success() && time >= expected.time / 4 {
        let units = amount().saturating_sub(before);
        remember(&options.name, Work { units, time });
    }
    let signal = status.signal().map(|signal| 128 + signal);
    Ok(status.code().or(signal).unwrap_or(1) as u8)
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(127)
        }
    }
}
