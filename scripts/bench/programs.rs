// SPDX-License-Identifier: GPL-2.0

//! Real programs, each of whose syscalls is interposed and passed on.
//!
//! A line is `PROGRAM calls N LOADER`, what a tracer counts of the program and of the loader before
//! it begins; or `PROGRAM MECHANISM NANOSECONDS N`, a run and how many calls were interposed. Where
//! these are not those that the tracer counted, number by number, or where the program said
//! something else than without an interposer, a line `wrong PROGRAM MECHANISM: WHY` says so.

use crate::{
    measure,
    stage::{Stage, BRANCH, TREE},
    sys,
    trace::{self, Counts, Seen},
};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{fs as unix, net::UnixStream, process::CommandExt},
    process::{Child, Command},
    thread,
    time::Duration,
};

struct Program {
    name: &'static str,
    arguments: &'static [&'static str],
    input: fn() -> String,
}

const PROGRAMS: [Program; 3] = [
    // The size is not in the directory: a call for each file.
    Program {
        name: "find",
        arguments: &[TREE, "-type", "f", "-size", "+2"],
        input: String::new,
    },
    // Names of owners are not in there.
    Program {
        name: "tar",
        arguments: &["-cf", "-", "--numeric-owner", BRANCH],
        input: String::new,
    },
    Program {
        name: "sqlite3",
        arguments: &["-batch", DATABASE],
        input: statements,
    },
];

/// Each is a transaction: a journal that is made, written and removed again.
fn statements() -> String {
    let mut text = "create table numbers(n integer primary key, square integer);\n".to_owned();
    for n in 1..=150 {
        text += &format!("insert into numbers values({n}, {});\n", n * n);
    }
    text += "select count(*), sum(square) from numbers;\n";
    text += "select n, square from numbers where square % 7 = 1;\n";
    text
}

/// How the syscalls of a program come to somebody else.
#[derive(Clone, Copy, PartialEq)]
enum Mechanism {
    Bare,
    /// By the object that is preloaded, and told how.
    Preload(&'static str),
    /// To a tracer that does nothing.
    Trace,
}

const MECHANISMS: [(&str, Mechanism); 5] = [
    ("bare", Mechanism::Bare),
    ("upcall", Mechanism::Preload("upcall")),
    ("sigsys", Mechanism::Preload("sigsys")),
    ("seccomp", Mechanism::Preload("seccomp")),
    ("ptrace", Mechanism::Trace),
];

/// What a run leaves.
#[derive(PartialEq)]
struct Outcome {
    status: i32,
    output: Vec<u8>,
    errors: Vec<u8>,
    database: Vec<u8>,
}

pub fn run(preload: &str, repetitions: usize) {
    measure::print_kernel();
    sys::stay_on_this_cpu();
    sys::schedule_simply();
    match all(preload, repetitions) {
        // Not before: whoever takes it from here would be at work when the next program runs.
        Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
        Err(error) => sys::fail(&error.to_string()),
    }
}

fn all(preload: &str, repetitions: usize) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let names = PROGRAMS.map(|program| program.name);
    let stage = Stage::new(&names, preload)?;
    let mut right = Vec::new();
    for program in &PROGRAMS {
        let (outcome, seen) = program.count(&stage)?;
        if outcome.status != 0 || outcome.output.is_empty() {
            let why = String::from_utf8_lossy(&outcome.errors);
            return Err(io::Error::other(format!("{}: {why}", program.name)));
        }
        let calls: u64 = seen.counts.iter().sum();
        lines.push(format!("{} calls {calls} {}", program.name, seen.loader));
        right.push((outcome, seen));
    }
    // The first time files are read and pages allocated that then are there.
    for repetition in 0..=repetitions {
        for (program, (outcome, seen)) in PROGRAMS.iter().zip(&right) {
            for (name, mechanism) in MECHANISMS {
                let said = program.measure(&stage, name, mechanism, (outcome, seen))?;
                let keep = |line: &String| repetition > 0 || line.starts_with("wrong");
                lines.extend(said.into_iter().filter(keep));
            }
        }
    }
    Ok(lines)
}

impl Program {
    /// The program, about to be run from the beginning: nothing is left of an earlier run.
    fn command(&self, stage: &Stage) -> io::Result<Command> {
        for rest in [COUNTS, DATABASE] {
            match fs::remove_file(stage.inside(rest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => (),
            }
        }
        fs::write(stage.inside(INPUT), (self.input)())?;
        let mut command = Command::new(Stage::path(self.name));
        command
            .args(self.arguments)
            .env_clear()
            .envs([("HOME", "/"), ("LC_ALL", "C"), ("TZ", "UTC")])
            .stdin(File::open(stage.inside(INPUT))?)
            .stdout(File::create(stage.inside(OUTPUT))?)
            .stderr(File::create(stage.inside(ERRORS))?);
        Ok(command)
    }

    fn outcome(&self, stage: &Stage, status: i32) -> io::Result<Outcome> {
        Ok(Outcome {
            status,
            output: fs::read(stage.inside(OUTPUT))?,
            errors: fs::read(stage.inside(ERRORS))?,
            // Only one of the programs leaves one.
            database: fs::read(stage.inside(DATABASE)).unwrap_or_default(),
        })
    }

    /// What it does when nothing is interposed.
    fn count(&self, stage: &Stage) -> io::Result<(Outcome, Seen)> {
        let (child, _) = begin(self.command(stage)?, stage, Mechanism::Trace)?;
        let (status, seen) = trace::count(child.id() as i32);
        Ok((self.outcome(stage, status)?, seen))
    }

    fn measure(
        &self,
        stage: &Stage,
        name: &str,
        mechanism: Mechanism,
        (right, seen): (&Outcome, &Seen),
    ) -> io::Result<Vec<String>> {
        // What the kernel has put off is done meanwhile, and not while the program runs.
        thread::sleep(Duration::from_millis(20));
        let mut command = self.command(stage)?;
        if let Mechanism::Preload(by) = mechanism {
            command.envs([
                ("LD_PRELOAD", "/preload.so"),
                ("INTERPOSE", COUNTS),
                ("INTERPOSE_BY", by),
            ]);
        }
        let (child, mut clock) = begin(command, stage, mechanism)?;
        let pid = child.id() as i32;
        let (status, stops) = match mechanism {
            Mechanism::Trace => trace::stop(pid),
            _ => (sys::wait(pid), 0),
        };
        let end = sys::now();
        let mut start = [0; 8];
        clock.read_exact(&mut start)?;
        let time = end - u64::from_ne_bytes(start);

        let all: u64 = seen.counts.iter().sum();
        let (interposed, missed) = match mechanism {
            Mechanism::Bare => (0, None),
            Mechanism::Preload(_) => {
                let counts = counts(&fs::read(stage.inside(COUNTS)).unwrap_or_default());
                (counts.iter().sum(), difference(&counts, &seen.counts))
            }
            // Two stops for a call, but for the last, which does not return. A tracer is there
            // before the program has begun.
            Mechanism::Trace => {
                let right = 2 * (seen.loader + all) - 1;
                let missed = (stops != right).then(|| format!("{stops} stops, of {right}"));
                (stops.div_ceil(2).saturating_sub(seen.loader), missed)
            }
        };
        let mut wrong = Vec::from_iter(missed);
        if self.outcome(stage, status)? != *right {
            wrong.push("it does something else".to_owned());
        }
        let run = format!("{} {name}", self.name);
        let mut lines = vec![format!("{run} {time} {interposed}")];
        lines.extend(wrong.iter().map(|why| format!("wrong {run}: {why}")));
        Ok(lines)
    }
}

// Files of a run, as seen from inside.
const DATABASE: &str = "/work/database";
const COUNTS: &str = "/counts";
const INPUT: &str = "/input";
const OUTPUT: &str = "/output";
const ERRORS: &str = "/errors";

/// Starts a program inside. It tells when it did so: what is measured begins with the exec.
fn begin(
    mut command: Command,
    stage: &Stage,
    mechanism: Mechanism,
) -> io::Result<(Child, UnixStream)> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let root = stage.root.clone();
    let traced = mechanism == Mechanism::Trace;
    let prepare = move || {
        unix::chroot(&root)?;
        std::env::set_current_dir("/work")?;
        sys::lay_out_alike();
        if traced {
            trace::ask();
        }
        theirs.write_all(&sys::now().to_ne_bytes())
    };
    // SAFETY: This process has one thread, so its child may do what it may do.
    let child = unsafe { command.pre_exec(prepare) }.spawn()?;
    Ok((child, ours))
}

/// The file of the interposer.
fn counts(file: &[u8]) -> Counts {
    let mut counts = [0; 512];
    for (count, bytes) in counts.iter_mut().zip(file.chunks_exact(8)) {
        *count = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    }
    counts
}

/// The first number that was not interposed as often as it was called.
fn difference(counts: &Counts, calls: &Counts) -> Option<String> {
    let mut pairs = counts.iter().zip(calls).enumerate();
    let (number, (count, call)) = pairs.find(|(_, (count, call))| count != call)?;
    Some(format!(
        "syscall {number} was interposed {count} times, of {call}"
    ))
}
