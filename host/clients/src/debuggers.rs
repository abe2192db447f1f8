// SPDX-License-Identifier: GPL-2.0

//! gdb and strace.

use crate::{
    run::{command, has, output, shows, Place, ARMED},
    Case, Outcome,
};
use anyhow::{bail, ensure, Context as _, Result};
use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How armed waits in a native syscall, and the numbers that it is in then.
const WAITS: [(&str, &[&str]); 3] = [
    ("read", &["0"]),
    // Who waits with a timeout may be restarted by restart_syscall.
    ("futex", &["202", "219"]),
    ("nanosleep", &["230", "219"]),
];

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |name: &str, run: fn(&Place) -> Result<()>| {
        let client = name.split_once(' ').map_or(name, |it| it.0).to_owned();
        cases.push((
            name.to_owned(),
            Box::new(move |place| {
                if !has(&client) {
                    return Ok(Outcome::Skipped(format!("{client} is not installed")));
                }
                run(place).map(|()| Outcome::Right)
            }),
        ));
    };
    add("gdb catches the signal of a dispatch", catches);
    add("gdb steps over a dispatched and a permitted syscall", steps);
    add("strace shows each dispatch", traced);
    for (how, numbers) in WAITS {
        for (does, commands) in [
            ("detaches from", &[][..]),
            ("calls functions of", &CALLS[..]),
        ] {
            cases.push((
                format!("gdb {does} a program in {how}"),
                Box::new(move |place| {
                    if !has("gdb") {
                        return Ok(Outcome::Skipped("gdb is not installed".into()));
                    }
                    attaches(place, how, numbers, commands).map(|()| Outcome::Right)
                }),
            ));
        }
    }
    cases
}

fn gdb(commands: &[&str], rest: &[&str]) -> Command {
    let mut arguments = vec!["gdb", "-nx", "-q", "-batch"];
    for it in commands {
        arguments.extend(["-ex", it]);
    }
    arguments.extend(rest);
    command(&arguments)
}

fn catches(place: &Place) -> Result<()> {
    let commands = [
        "catch signal SIGSYS",
        "run",
        "p $_siginfo.si_code",
        "info symbol $pc",
        "continue",
    ];
    let text = output(&mut gdb(&commands, &[&place.armed()]))?;
    shows(
        &text,
        &["Catchpoint 1 (signal SIGSYS)", "$1 = 2", "foreign + 5 in"],
    )?;
    shows(&text, &ARMED)?;
    shows(&text, &["exited normally"])
}

/// A temporary breakpoint is gone when it is stepped from. gdb steps from others in a copy of the
/// instruction elsewhere, which is not in the region.
fn steps(place: &Place) -> Result<()> {
    let symbol = "info symbol $pc";
    let commands = [
        "tbreak foreign_call",
        "run",
        "stepi",
        symbol,
        "stepi",
        symbol,
        "tbreak permitted_call",
        "continue",
        "stepi",
        symbol,
        "continue",
    ];
    let text = output(&mut gdb(&commands, &[&place.armed()]))?;
    shows(
        &text,
        &[
            "Program received signal SIGSYS",
            "foreign + 5 in",
            "emulate in",
            "Temporary breakpoint 2, ",
            "permitted + 5 in",
        ],
    )?;
    shows(&text, &ARMED)?;
    shows(&text, &["exited normally"])
}

/// The demonstration: 17 foreign calls, one that is trapped, and what its measurement makes.
fn traced(place: &Place) -> Result<()> {
    let log = place.scratch("strace");
    let personality = place.sample("personality");
    let alone = output(&mut command(&[&personality]))?;
    let text = output(&mut command(&[
        "strace",
        "-f",
        "-o",
        &log,
        "--seccomp-bpf",
        "-e",
        "trace=prctl,exit_group",
        &personality,
    ]))?;
    // But for what it measured.
    let counts = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|it| !it.ends_with(" ns"));
        lines.map(str::to_owned).collect()
    };
    ensure!(
        counts(&alone) == counts(&text),
        "it prints without strace:\n{alone}and with it:\n{text}"
    );
    let log = fs::read_to_string(log)?;
    let dispatches = log
        .matches("--- SIGSYS {si_signo=SIGSYS, si_code=SYS_USER_DISPATCH")
        .count();
    let counted = dispatched(&text)?;
    ensure!(
        dispatches == counted,
        "{dispatches} dispatches in the log, of {counted}"
    );
    shows(
        &log,
        &[
            "prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0x",
            "exit_group(0)",
        ],
    )
}

/// How often the demonstration says that it had a syscall dispatched.
pub fn dispatched(text: &str) -> Result<usize> {
    let mut sum = 0;
    for what in [
        "foreign: dispatched and emulated  ",
        "native: trapped, selector left at BLOCK  ",
        "calls dispatched meanwhile  ",
    ] {
        let line = text
            .lines()
            .find(|it| it.contains(what) && !it.ends_with(" ns"));
        let number = line.and_then(|it| it.split_whitespace().last());
        sum += number
            .with_context(|| format!("no '{what}' in:\n{text}"))?
            .parse::<usize>()?;
    }
    Ok(sum)
}

/// Function calls whose syscalls are dispatched, and permitted ones.
const CALLS: [&str; 4] = [
    "set unwindonsignal on",
    "p ((long (*)(long))foreign)(39)",
    "p ((long (*)(long))permitted)(39) == $_inferior_pid_of_armed",
    "p ((long (*)(long))foreign)(39)",
];

/// gdb comes while the program waits, and leaves again; the wait goes on.
fn attaches(place: &Place, how: &str, numbers: &[&str], commands: &[&str]) -> Result<()> {
    let mut waiting = Waiting::start(place, how)?;
    waiting.until_in(numbers)?;
    let pid = waiting.child.id().to_string();
    let named = format!("set $_inferior_pid_of_armed = {pid}");
    let mut all = vec![named.as_str()];
    all.extend(commands);
    all.push("detach");
    let text = output(&mut gdb(&all, &["-p", &pid]))?;
    if !commands.is_empty() {
        let unwound = "GDB has restored the context to what it was before the call.";
        shows(&text, &[unwound, "$1 = 1", unwound])?;
    }
    shows(&text, &["detached"])?;
    waiting.until_in(numbers)?;
    let (text, ret, errno) = match how {
        "read" => (waiting.end(true)?, 1, 0),
        "futex" => (waiting.end(true)?, 0, 0),
        _ => (waiting.end(false)?, -1, 4),
    };
    shows(&text, &[&format!("{how} returned {ret}, errno {errno}")])?;
    shows(&text, &ARMED)
}

/// armed, in a wait.
struct Waiting {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Waiting {
    fn start(place: &Place, how: &str) -> Result<Self> {
        let mut child = Command::new(&place.armed)
            .arg(how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        ensure!(line.starts_with("waits "), "it says {line}");
        Ok(Self {
            child,
            stdin,
            stdout,
        })
    }

    /// Waits until it sleeps in one of these syscalls.
    fn until_in(&mut self, numbers: &[&str]) -> Result<()> {
        let file = format!("/proc/{}/syscall", self.child.id());
        let from = Instant::now();
        let mut seen = String::new();
        while from.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.child.try_wait()? {
                bail!("it is gone: {status}");
            }
            // It says "running" of a task that does not sleep.
            seen = fs::read_to_string(&file)?;
            if seen
                .split(' ')
                .next()
                .is_some_and(|it| numbers.contains(&it))
            {
                return Ok(());
            }
            sleep(Duration::from_millis(10));
        }
        bail!("it sleeps in none of {numbers:?}, but in {seen}")
    }

    /// Ends the wait, by a byte or by a signal. Returns what the program prints.
    fn end(mut self, byte: bool) -> Result<String> {
        if byte {
            self.stdin.write_all(b"x")?;
        } else {
            kill(Pid::from_raw(self.child.id() as i32), Signal::SIGUSR1)?;
        }
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{status}, having said:\n{text}");
        Ok(text)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
