// SPDX-License-Identifier: GPL-2.0

//! The guest as a process of the host: virtme-ng's, and QEMU below it.

use crate::wire;
use anyhow::{bail, Context, Result};
use nix::{
    sys::signal::{killpg, Signal},
    unistd::Pid,
};
use std::{
    env, fs,
    os::unix::{net::UnixListener, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// The option by which this program is the agent.
pub const AGENT: &str = "--agent";

/// What the guest is made of.
pub struct Machine<'a> {
    pub image: &'a Path,
    pub cpus: Option<u32>,
    pub memory: &'a str,
    pub append: &'a [String],
    pub qemu: &'a [String],
    pub lasting: &'a [PathBuf],
    /// Emulate where KVM works, too.
    pub emulate: bool,
}

pub struct Guest {
    vng: Child,
    listener: UnixListener,
    /// Where the socket is, and what the guest and its makers say.
    directory: TempDir,
}

/// A /dev/kvm alone proves nothing.
pub fn has_kvm() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut words = flags.split_whitespace();
    words.any(|word| word == "vmx" || word == "svm")
        && fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok()
}

impl Guest {
    pub fn boot(machine: &Machine) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("sud-guest-").tempdir()?;
        let path = |name| directory.path().join(name).display().to_string();
        let listener = UnixListener::bind(path("port"))?;
        listener.set_nonblocking(true)?;

        let emulated = machine.emulate || !has_kvm();
        let mut append = machine.append.to_vec();
        // On the second serial port, which is a file.
        append.push("earlycon=uart8250,io,0x2f8 console=ttyS1 ignore_loglevel oops=panic".into());
        let mut qemu = vec![
            format!("-serial file:{}", path("console")),
            format!("-chardev socket,id=port,path={},server=off", path("port")),
            "-device virtio-serial-pci".into(),
            format!("-device virtserialport,chardev=port,name={}", wire::PORT),
        ];
        let mut vng = Command::new("vng");
        vng.arg("--run").arg(machine.image);
        vng.args(["--force-9p", "--disable-monitor", "--user", "root"]);
        vng.args(["--memory", machine.memory]);
        if emulated {
            vng.arg("--disable-kvm");
            // On a busy host the guest would miss the interrupts by which it checks its timer.
            append.push("no_timer_check".into());
            // QEMU 7.2 takes a return to user mode by IRET for an access of the kernel's.
            qemu.push("-cpu max,smap=off".into());
        }
        // Where the kernel patches its own text, as to switch a tracepoint, an emulated processor
        // may run into a breakpoint that is gone already: there one has to do.
        let cpus = machine.cpus.unwrap_or(if emulated { 1 } else { 2 });
        vng.args(["--cpus", &cpus.to_string()]);
        qemu.extend_from_slice(machine.qemu);
        vng.arg(format!("--qemu-opts={}", qemu.join(" ")));
        vng.arg("--append").arg(append.join(" "));
        for lasting in machine.lasting {
            vng.arg(format!("--rwdir={}", lasting.display()));
        }
        let agent = env::current_exe()?;
        vng.arg("--exec");
        vng.arg(format!(
            "{} {AGENT}",
            shell_words::quote(&agent.to_string_lossy())
        ));

        let said = fs::File::create(path("said"))?;
        vng.current_dir("/").stdin(Stdio::null());
        vng.stdout(said.try_clone()?).stderr(said);
        // Ctrl-C is for us.
        vng.process_group(0);
        let vng = vng.spawn().context("vng, of virtme-ng")?;
        Ok(Self {
            vng,
            listener,
            directory,
        })
    }

    /// Waits for QEMU to connect the port. `is_over` tells when to give up.
    pub fn connect(&mut self, is_over: impl Fn() -> bool) -> Result<UnixStream> {
        loop {
            if let Ok((port, _)) = self.listener.accept() {
                port.set_nonblocking(false)?;
                return Ok(port);
            }
            if self.vng.try_wait()?.is_some() || is_over() {
                bail!("QEMU could not be started");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What virtme-ng and QEMU said.
    pub fn said(&self) -> String {
        self.read("said")
    }

    pub fn console(&self) -> String {
        self.read("console")
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.directory.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // virtme-ng makes no group of its own, so this is for QEMU, too.
        let group = Pid::from_raw(self.vng.id() as i32);
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.vng.wait();
    }
}
