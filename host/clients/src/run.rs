// SPDX-License-Identifier: GPL-2.0

//! How a program is run, and what is said of its output.

use anyhow::{bail, ensure, Context as _, Result};
use nix::libc;
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// After how many seconds a program hangs. Emulation is slow, and the machine may be busy.
const PATIENCE: &str = "600";

/// Where things are.
pub struct Place {
    pub samples: PathBuf,
    pub armed: PathBuf,
    /// A directory that can be written.
    pub scratch: PathBuf,
    /// Whether the kernel has upcalls.
    pub upcalls: bool,
}

impl Place {
    pub fn new(samples: PathBuf, armed: PathBuf) -> Self {
        Self {
            samples,
            armed,
            scratch: std::env::temp_dir(),
            // SAFETY: Address 0 changes nothing of a thread that is not armed.
            upcalls: unsafe { libc::prctl(59, 3, 0, 0, 0) } == 0,
        }
    }

    pub fn sample(&self, name: &str) -> String {
        self.samples.join(name).display().to_string()
    }

    pub fn armed(&self) -> String {
        self.armed.display().to_string()
    }

    pub fn scratch(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|it| it.join(program).exists())
}

/// A command that is ended when it hangs, in C's language, and on one stream what it says.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "exec timeout --kill-after=5 \"$0\" \"$@\" 2>&1",
            PATIENCE,
        ])
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// What `command` prints, if it ends with 0.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let done = command.output().with_context(|| shown.clone())?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success(),
        "{shown}: {}, having said:\n{text}",
        done.status
    );
    Ok(text)
}

/// Whether `text` has all of these, in this order.
pub fn shows(text: &str, wanted: &[&str]) -> Result<()> {
    let mut rest = text;
    for line in wanted {
        match rest.find(line) {
            Some(at) => rest = &rest[at + line.len()..],
            None => bail!("no '{line}' where it belongs in:\n{text}"),
        }
    }
    Ok(())
}

/// What armed has to print at its end.
pub const ARMED: [&str; 3] = ["foreign 0x5ad", "permitted 1", "dispatches 1"];
