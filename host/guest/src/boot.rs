// SPDX-License-Identifier: GPL-2.0

//! The guest as processes of the host: virtme-ng's, and QEMU below it.

use crate::{pipe, wire};
use anyhow::{bail, Context, Result};
use nix::{
    sys::signal::{killpg, Signal},
    unistd::Pid,
};
use std::{
    env,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    os::fd::OwnedFd,
    os::unix::{ffi::OsStrExt, net::UnixListener, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::mpsc,
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
    /// Arguments of the kernel.
    pub append: &'a [String],
    /// Options of QEMU, a word each.
    pub qemu: &'a [String],
    pub lasting: &'a [PathBuf],
    /// Emulate where KVM works, too.
    pub emulate: bool,
}

/// Runs a command. When standard input closes, as it does however this program ends, its processes
/// are killed and its temporary files removed; one that still starts may make some meanwhile, but
/// not in a directory that is gone.
const KEEPER: &str = r#"
exec 3<&0 </dev/null
{ read -r _ <&3; rm -rf "$TMPDIR" || rm -rf "$TMPDIR"; kill -KILL 0; } &
exec "$@" 3<&-"#;

pub struct Guest {
    keeper: Child,
    /// As long as it is open, the guest may live.
    _alive: OwnedFd,
    listener: UnixListener,
    /// What virtme-ng and QEMU say, once they and all that they started are gone.
    to_say: mpsc::Receiver<String>,
    said: Option<String>,
    /// Where the socket and the console are.
    directory: TempDir,
}

/// A /dev/kvm alone proves nothing.
pub fn has_kvm() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut words = flags.split_whitespace();
    words.any(|word| word == "vmx" || word == "svm")
        && File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok()
}

/// A path as it is written in an option of QEMU.
fn in_option(path: &Path) -> Result<String> {
    let path = path.to_str();
    let path = path.context("a path that is not UTF-8 cannot be handed to QEMU")?;
    Ok(path.replace(',', ",,"))
}

/// QEMU's options for a directory that the guest can mount by its tag.
fn share(tag: &str, directory: &Path, access: &str) -> Result<[String; 4]> {
    let path = in_option(directory)?;
    Ok([
        "-fsdev".into(),
        format!("local,id={tag},path={path},security_model=none,multidevs=remap{access}"),
        "-device".into(),
        format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    ])
}

impl Guest {
    pub fn boot(machine: &Machine) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("sud-guest-").tempdir();
        let directory =
            directory.context("no directory for temporary files; name one by TMPDIR=")?;
        if directory.path().as_os_str().as_bytes().contains(&b',') {
            bail!("TMPDIR= has a comma, which virtme-ng cannot handle; name another directory");
        }
        let port = directory.path().join("port");
        let listener = UnixListener::bind(&port).with_context(|| {
            let path = port.display();
            format!(
                "no socket can be made at {path}; TMPDIR= names a directory with a shorter path"
            )
        })?;
        listener.set_nonblocking(true)?;

        let emulated = machine.emulate || !has_kvm();
        // The console is on the second serial port, which is a file. Who gives arguments has the
        // last word.
        let mut append =
            vec!["earlycon=uart8250,io,0x2f8 console=ttyS1 ignore_loglevel oops=panic".to_owned()];
        let console = in_option(&directory.path().join("console"))?;
        let mut qemu = vec![
            "-chardev".into(),
            format!("file,id=sud.console,path={console}"),
            "-serial".into(),
            "chardev:sud.console".into(),
            "-chardev".into(),
            format!("socket,id=sud.port,path={},server=off", in_option(&port)?),
            "-device".into(),
            "virtio-serial-pci".into(),
            "-device".into(),
            format!("virtserialport,chardev=sud.port,name={}", wire::PORT),
        ];
        let mut vng = Command::new("sh");
        vng.args(["-c", KEEPER, "sh", "vng"]);
        // virtme-ng hands its own arguments to a shell.
        let image = machine
            .image
            .to_str()
            .context("the path of the kernel is not UTF-8")?;
        vng.args(["--run", &shell_words::quote(image)]);
        vng.args(["--memory", &shell_words::quote(machine.memory)]);
        vng.args(["--force-9p", "--disable-monitor", "--user", "root"]);
        if emulated {
            vng.arg("--disable-kvm");
            // On a busy host the guest would miss the interrupts by which it checks its timer.
            append.push("no_timer_check".into());
            // QEMU 7.2 takes a return to user mode by IRET for an access of the kernel's.
            qemu.extend(["-cpu".into(), "max,smap=off".into()]);
        }
        // Where the kernel patches its own text, as to switch a tracepoint, an emulated processor
        // may run into a breakpoint that is gone already: there one has to do.
        let cpus = machine.cpus.unwrap_or(if emulated { 1 } else { 2 });
        vng.args(["--cpus", &cpus.to_string()]);
        append.extend_from_slice(machine.append);
        vng.arg(format!("--append={}", append.join(" ")));

        for (index, path) in machine.lasting.iter().enumerate() {
            let share = share(&wire::lasting(index), path, "");
            qemu.extend(share.with_context(|| path.display().to_string())?);
        }
        // The guest mounts directories of its own, such as /var/tmp, that may hide this program.
        let agent = env::current_exe()?;
        let place = agent.parent().zip(agent.file_name());
        let (place, name) = place.context("this program has no path")?;
        let agent = share("sud.agent", place, ",readonly=on");
        qemu.extend(agent.with_context(|| place.display().to_string())?);
        qemu.extend_from_slice(machine.qemu);
        vng.arg(format!("--qemu-opts={}", shell_words::join(qemu)));
        let name = name
            .to_str()
            .context("the name of this program is not UTF-8")?;
        vng.arg("--exec").arg(format!(
            "mkdir /run/sud-agent && mount -t 9p -o {},ro sud.agent /run/sud-agent && exec /run/sud-agent/{} {AGENT}",
            wire::MOUNT,
            shell_words::quote(name),
        ));

        let (input, alive) = pipe()?;
        let (output, error) = pipe()?;
        vng.current_dir("/").env("TMPDIR", directory.path());
        vng.env_remove("PYTHONHOME").env_remove("PYTHONPATH");
        vng.stdin(input).stdout(error.try_clone()?).stderr(error);
        // Ctrl-C is for us.
        vng.process_group(0);
        let keeper = vng.spawn().context("sh")?;
        // It holds the ends of the pipes that are not ours.
        drop(vng);
        let (sender, to_say) = mpsc::channel();
        thread::spawn(move || {
            let mut said = Vec::new();
            let _ = File::from(output).read_to_end(&mut said);
            let _ = sender.send(String::from_utf8_lossy(&said).into_owned());
        });
        Ok(Self {
            keeper,
            _alive: alive,
            listener,
            to_say,
            said: None,
            directory,
        })
    }

    /// The port, once QEMU has connected it.
    pub fn port(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((port, _)) => {
                port.set_nonblocking(false)?;
                Ok(Some(port))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether virtme-ng has exited.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.keeper.try_wait()?.is_some())
    }

    /// Ends it, if it has not ended, and returns what virtme-ng and QEMU said.
    pub fn end(&mut self) -> &str {
        self.said.get_or_insert_with(|| {
            // The group has a member as long as it was not killed, so its number is still its own.
            let group = Pid::from_raw(self.keeper.id() as i32);
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.keeper.wait();
            // They hold the pipe as long as they live; who left the group is not waited for.
            const PATIENCE: Duration = Duration::from_secs(10);
            self.to_say.recv_timeout(PATIENCE).unwrap_or_default()
        })
    }

    pub fn console(&self) -> String {
        let bytes = fs::read(self.directory.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}
