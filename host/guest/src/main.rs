// SPDX-License-Identifier: GPL-2.0

//! `guest`: runs a command in a kernel of the project, as `env` or `ssh` run one, with the files of
//! the host. The same program is the agent that does it in the guest.
//!
//! [`boot`] has virtme-ng boot the kernel, [`host`] connects the caller with the [`agent`] over the
//! [`wire`].

/// Prints to standard error, if that takes it: it must not cost the exit status.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("{}\n", format_args!($($text)*)),
        );
    }};
}

mod agent;
mod boot;
mod credit;
mod host;
mod terminal;
mod wire;

use anyhow::{bail, Context, Result};
use boot::{Guest, Machine};
use clap::Parser;
use host::{Caller, End, Events};
use nix::{
    fcntl::OFlag,
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::pipe2,
};
use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, fs,
    io::{stderr, IsTerminal},
    os::fd::OwnedFd,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    str::FromStr,
    time::Duration,
};
use wire::{Bytes, Start};

/// The exit status when the guest failed rather than the command: as of env, timeout and docker.
const OURS: u8 = 125;

/// A kernel of the project by its name, or any other by its image.
#[derive(Clone, PartialEq, Eq)]
enum Kernel {
    Named(&'static str),
    Image(PathBuf),
}

/// The names, and what they mean: the two series, in Rust; the same with the implementation in C;
/// without the series; ours that watches itself; ours with what the programs of people need.
const KERNELS: [&str; 5] = ["ours", "c", "upstream", "debug", "full"];

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Image(text.into()));
        }
        let named = KERNELS.into_iter().find(|name| *name == text);
        let why = || {
            format!(
                "none of {}, nor a path to an image such as ./bzImage",
                KERNELS.join(", ")
            )
        };
        named.map(Self::Named).ok_or_else(why)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Named(name) => to.write_str(name),
            Self::Image(path) => path.display().fmt(to),
        }
    }
}

impl Kernel {
    /// Its image. One of the project is built where it is not there, which says what it does where
    /// that takes long.
    fn image(&self, top: &Path, build: &Path) -> Result<PathBuf> {
        let name = match self {
            Self::Named(name) => name,
            Self::Image(path) => {
                let full = fs::canonicalize(path);
                return full.with_context(|| format!("the kernel {}", path.display()));
            }
        };
        let mut make = Command::new("make");
        make.args(["-s", "--no-print-directory", "-C"])
            .arg(top)
            .arg(format!("O={}", build.display()))
            .args([&format!("KERNEL={name}"), "image"])
            .stdin(Stdio::null())
            .stdout(stderr());
        // SAFETY: It is a single system call.
        unsafe { make.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?)) };
        let make = make.status().context("make")?;
        if !make.success() {
            bail!("the kernel '{name}' could not be built");
        }
        let suffix = if *name == "ours" {
            String::new()
        } else {
            format!(".{name}")
        };
        Ok(build.join(format!("bzImage{suffix}")))
    }
}

/// Run COMMAND, or a shell if none is given, on a kernel of the project.
///
/// The guest has the files of this machine. Everything is writable, but changes are lost except below
/// directories named by -w. Files of the host are accessed with your permissions, although you are
/// root in the guest. The command starts in the directory of its caller, with its HOME and
/// the usual PATH; -e passes on more of the environment.
///
/// The exit status is the command's: 128 and the signal if one killed it, 127 if it was not found,
/// 126 if it cannot be executed. It is 125, with a message, if the guest failed rather than the
/// command: it crashed, could not boot, or ran out of time.
///
/// Ctrl-C ends the command, a second one the guest. A command that has the terminal may want Ctrl-C
/// for itself: there the second has to come within one second of the first. The shell without a
/// COMMAND is only ended if the guest no longer answers. SIGTERM ends the command, and after 5
/// seconds the guest.
#[derive(Parser)]
#[command(
    name = "./guest",
    override_usage = "./guest [OPTIONS] [--] [COMMAND [ARGUMENT]...]"
)]
struct Options {
    /// Which kernel: ours, c (the implementation in C), upstream (without the series), debug
    /// (ours with the kernel's debugging checks), full (ours with networks, NTSYNC, BPF and the like), or the
    /// path of an image
    #[arg(short, long, value_name = "KERNEL", default_value = "ours")]
    kernel: Kernel,
    /// How many processors [default: 2, or 1 under emulation]
    #[arg(short, long, value_name = "CPUS", value_parser = clap::value_parser!(u32).range(1..256))]
    cpus: Option<u32>,
    /// How much memory, in M or G
    #[arg(short, long, value_name = "MEMORY", default_value = "1G", value_parser = memory)]
    memory: String,
    /// End the guest after so many seconds [default: never]
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// The standard input is empty, and left to others
    #[arg(short, long)]
    no_input: bool,
    /// What is written below DIRECTORY lasts
    #[arg(short, long, value_name = "DIRECTORY")]
    writable: Vec<PathBuf>,
    /// Set a variable, or pass it on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Arguments for the kernel
    #[arg(short, long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Options for QEMU
    #[arg(short, long, value_name = "OPTIONS", allow_hyphen_values = true)]
    qemu: Vec<String>,
    /// Emulate the processor even where KVM works
    #[arg(long)]
    emulate: bool,
    /// Keep what the kernel says on its console in FILE
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
    /// What to run
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// An amount of memory as virtme-ng takes it.
fn memory(text: &str) -> Result<String, String> {
    let (digits, unit) = text.split_at(text.len() - usize::from(text.ends_with(['M', 'G'])));
    match digits.parse::<u32>() {
        Ok(1..) if !unit.is_empty() => Ok(text.to_owned()),
        _ => Err("not a number followed by M or G".to_owned()),
    }
}

/// A pipe whose ends no program inherits by mistake.
fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC)
}

fn bytes(text: impl AsRef<OsStr>) -> Bytes {
    Bytes(text.as_ref().as_bytes().to_vec())
}

/// The environment of the command: little, and what -e adds or replaces.
fn environment(options: &Options, terminal: bool) -> Vec<(Bytes, Bytes)> {
    // In the guest, too, files are read with the rights of the caller.
    let home = env::var_os("HOME").filter(|home| fs::read_dir(home).is_ok());
    let other = ["/root", "/tmp"];
    let other = other.into_iter().find(|home| fs::read_dir(home).is_ok());
    let mut all = vec![
        (
            "PATH".into(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        ),
        (
            "HOME".into(),
            home.unwrap_or_else(|| other.unwrap_or("/").into()),
        ),
        ("USER".into(), "root".into()),
        ("LOGNAME".into(), "root".into()),
        ("SHELL".into(), OsString::from("/bin/bash")),
    ];
    let mut pass = |name: &OsStr| {
        if let Some(value) = env::var_os(name) {
            all.push((name.to_owned(), value));
        }
    };
    pass(OsStr::new("LANG"));
    if terminal {
        pass(OsStr::new("TERM"));
    }
    for given in &options.env {
        match given.as_bytes().iter().position(|byte| *byte == b'=') {
            Some(end) => {
                let (name, value) = given.as_bytes().split_at(end);
                let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
                all.push((owned(name), owned(&value[1..])));
            }
            None => {
                if let Some(value) = env::var_os(given) {
                    all.push((given.clone(), value));
                }
            }
        }
    }
    all.into_iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

/// What of the console tells why a guest ended: a report of the kernel's, or as many of the last
/// lines as may tell otherwise.
fn cause(console: &str, otherwise: usize) -> Vec<&str> {
    const MARKS: [&str; 6] = [
        "BUG: ",
        "Oops",
        "general protection fault",
        "kernel BUG at",
        "panicked at",
        "Kernel panic",
    ];
    let lines: Vec<&str> = console.lines().collect();
    let first = lines
        .iter()
        .position(|line| MARKS.iter().any(|mark| line.contains(mark)));
    let from = first.unwrap_or(lines.len().saturating_sub(otherwise));
    lines[from..].iter().take(20).copied().collect()
}

fn print_indented<'a>(lines: impl IntoIterator<Item = &'a str>) {
    for line in lines {
        say!("    {line}");
    }
}

/// Says on standard error how the guest ended, and returns the exit status.
fn report(end: End, guest: &mut Guest, options: &Options, build: &Path) -> Result<u8> {
    let said = guest.end().to_owned();
    let console = guest.console();
    if let Some(path) = &options.console {
        if let Err(error) = fs::write(path, &console) {
            say!(
                "error: the console cannot be kept in {}: {error}",
                path.display()
            );
        }
    }
    let (what, otherwise, has_said) = match end {
        End::Exit(status) => return Ok(status),
        End::Failed(why, status) => {
            say!("guest: {why}");
            return Ok(status);
        }
        End::Unwritten(stream, why) => bail!("the standard {stream} cannot be written: {why}"),
        End::Error(why) => return Err(why.into()),
        End::Stopped(signal) => return Ok(128 + signal as u8),
        End::TimeOut => {
            let seconds = options.timeout.unwrap_or_default();
            let what = format!("did not end within {seconds} s, the limit by -t");
            (what, 0, false)
        }
        End::NoBoot => ("could not boot".into(), 10, true),
        End::Gone if console.contains("Kernel panic") => ("crashed".into(), 1, false),
        End::Gone => ("ended before the command did".into(), 0, true),
    };
    say!("error: the guest {what}");
    if has_said {
        print_indented(said.lines());
    }
    if console.is_empty() {
        return Ok(OURS);
    }
    print_indented(cause(&console, otherwise));
    let log = match &options.console {
        Some(path) => path.clone(),
        None => {
            let logs = build.join("log");
            let log = logs.join(format!("console-guest-{}.log", std::process::id()));
            fs::create_dir_all(logs)
                .and_then(|()| fs::write(&log, &console))
                .with_context(|| {
                    format!(
                        "the console cannot be kept in {}; --console names another file",
                        log.display()
                    )
                })?;
            log
        }
    };
    say!("       The whole console: {}", log.display());
    if otherwise != 0 && options.kernel != Kernel::Named("upstream") {
        say!("       Is it the kernel? './guest -k upstream' runs the same on upstream's.");
    }
    Ok(OURS)
}

/// The directories in which what is written lasts, with their full paths, those around others first.
fn lasting(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in given {
        let full = fs::canonicalize(path);
        let full = full.with_context(|| format!("the directory {}", path.display()))?;
        if !full.is_dir() {
            bail!("{} is not a directory", path.display());
        }
        let its_own = ["/dev", "/proc", "/run", "/sys"];
        if full == Path::new("/") || its_own.iter().any(|own| full.starts_with(own)) {
            bail!(
                "-w {}: the guest has /dev, /proc, /run and /sys of its own; name another directory below /",
                path.display()
            );
        }
        all.push(full);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn run(options: &Options) -> Result<u8> {
    let directory = env::var_os("BUILD").context("BUILD, which ./guest sets, is not set")?;
    let directory = Path::new(&directory);
    let top = env::var_os("TOP").context("TOP, which ./guest sets, is not set")?;
    let lasting = lasting(&options.writable)?;
    let qemu = shell_words::split(&options.qemu.join(" ")).context("-q")?;
    shell_words::split(&options.append.join(" ")).context("-a")?;
    if let Some(path) = &options.console {
        let file = fs::File::create(path);
        file.with_context(|| format!("the console cannot be kept in {}", path.display()))?;
    }
    let image = options.kernel.image(Path::new(&top), directory)?;

    let is_terminal = !options.no_input && terminal::is_ours();
    if stderr().is_terminal() {
        let how = match boot::has_kvm() && !options.emulate {
            true => "by KVM",
            false => "in an emulated processor, which is slow",
        };
        say!("guest: booting the kernel '{}' {how}", options.kernel);
    }
    let shell = [OsString::from("/bin/bash"), "-i".into()];
    let is_interactive = options.command.is_empty() && is_terminal;
    let command = match options.command.is_empty() {
        true if is_interactive => &shell[..],
        true => &shell[..1],
        false => &options.command,
    };
    let start = Start {
        arguments: command.iter().map(bytes).collect(),
        environment: environment(options, is_terminal),
        directory: bytes(env::current_dir().context("the current directory")?),
        lasting: lasting.iter().map(bytes).collect(),
        terminal: is_terminal.then(terminal::size),
        has_error: !is_terminal || !stderr().is_terminal(),
    };
    let machine = Machine {
        image: &image,
        cpus: options.cpus,
        memory: &options.memory,
        append: &options.append,
        qemu: &qemu,
        lasting: &lasting,
        emulate: options.emulate,
    };
    let caller = Caller {
        has_input: !options.no_input,
        is_interactive,
    };
    let mut events = Events::new(options.timeout.map(Duration::from_secs))?;
    let mut guest = Guest::boot(&machine)?;
    let end = host::run(&mut guest, &mut events, start, caller);
    if is_terminal && matches!(end, End::Stopped(_)) {
        say!("");
    }
    report(end, &mut guest, options, directory)
}

fn main() -> ExitCode {
    if env::args_os()
        .nth(1)
        .is_some_and(|word| word == boot::AGENT)
    {
        return match agent::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say!("guest: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            let is_error = error.use_stderr();
            return ExitCode::from(if is_error { OURS } else { 0 });
        }
    };
    match run(&options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say!("error: {error:#}");
            ExitCode::from(OURS)
        }
    }
}
