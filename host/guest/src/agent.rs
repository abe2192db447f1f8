// SPDX-License-Identifier: GPL-2.0

//! The agent: runs the command in the guest, for the host at the other end of the port.

use crate::{
    credit::Credit,
    pipe,
    wire::{self, Bytes, Frame, Size, Start, Stream},
};
use anyhow::{anyhow, bail, Context, Result};
use nix::{
    fcntl::{fcntl, FcntlArg, FdFlag},
    libc,
    mount::{mount, umount2, MntFlags, MsFlags},
    poll::{poll, PollFd, PollFlags, PollTimeout},
    pty::{openpty, OpenptyResult, Winsize},
    sys::{
        reboot::{reboot, RebootMode},
        signal::{kill, Signal},
    },
    unistd::{chdir, pivot_root, setsid, sync, Pid},
};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::symlink, process::CommandExt, process::ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{mpsc, Arc, Mutex},
    thread,
    time::Duration,
};

nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, Winsize);

/// The sending side of the port.
type Port = Arc<Mutex<File>>;

fn send(port: &Port, frame: &Frame) {
    // A host that is gone wants nothing any more.
    if wire::write(&mut *port.lock().unwrap(), frame).is_err() {
        power_off();
    }
}

fn power_off() -> ! {
    sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
    unreachable!("the guest is switched off")
}

impl Bytes {
    fn os(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

fn open_port() -> Result<File> {
    for entry in fs::read_dir("/sys/class/virtio-ports").context("no virtio ports")? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == wire::PORT {
            let device = Path::new("/dev").join(entry.file_name());
            let port = File::options().read(true).write(true).open(&device);
            return port.with_context(|| device.display().to_string());
        }
    }
    bail!("no virtio port is called {}", wire::PORT)
}

/// A root directory where everything can be written, and nothing lasts but `lasting`: a layer in
/// memory over that of the host. By pivot_root() and for all of the guest: in a chroot() no user
/// namespace can be made, and programs that find init elsewhere take it for one.
fn enter_root(lasting: &[Bytes]) -> Result<()> {
    const NONE: Option<&str> = None;
    let base = Path::new("/run/sud-guest");
    let [upper, work, root] = ["upper", "work", "root"].map(|name| base.join(name));

    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    fs::create_dir_all(base)?;
    mount(
        Some("tmpfs"),
        base,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )?;
    for directory in [&upper, &work, &root] {
        fs::create_dir(directory)?;
    }
    let layers = format!(
        "lowerdir=/,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        &root,
        Some("overlay"),
        MsFlags::empty(),
        Some(&*layers),
    )
    .context("a writable layer over the root directory")?;

    // What the guest has of its own, /run without what is below it: that is where we are.
    let under = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    for (path, flags) in [
        ("/proc", MsFlags::MS_BIND | MsFlags::MS_REC),
        ("/sys", MsFlags::MS_BIND | MsFlags::MS_REC),
        ("/dev", MsFlags::MS_BIND | MsFlags::MS_REC),
        ("/run", MsFlags::MS_BIND),
    ] {
        mount(Some(path), &under(Path::new(path)), NONE, flags, NONE).context(path)?;
    }
    for (index, path) in lasting.iter().enumerate() {
        let path = Path::new(path.os());
        let tag = wire::lasting(index);
        let flags = MsFlags::empty();
        mount(
            Some(&*tag),
            &under(path),
            Some("9p"),
            flags,
            Some(wire::MOUNT),
        )
        .with_context(|| path.display().to_string())?;
    }
    chdir(&root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;

    // virtme-ng leads these to ports of its own.
    for (fd, name) in ["stdin", "stdout", "stderr"].iter().enumerate() {
        let path = Path::new("/dev").join(name);
        let _ = fs::remove_file(&path);
        symlink(format!("/proc/self/fd/{fd}"), path)?;
    }
    Ok(())
}

/// What a terminal holds at most, and more than that.
const ROOM: usize = 1 << 20;

/// The command as it runs: what can be written to it, and what it writes.
struct Running {
    child: Child,
    input: File,
    output: Vec<(Stream, OwnedFd)>,
    terminal: Option<File>,
}

fn winsize(size: Size) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// A terminal whose ends no command inherits by mistake.
fn terminal(size: Size) -> io::Result<OpenptyResult> {
    let pty = openpty(&winsize(size), None)?;
    for end in [&pty.master, &pty.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok(pty)
}

fn spawn(start: &Start) -> io::Result<Running> {
    let mut arguments = start.arguments.iter().map(Bytes::os);
    let mut command = Command::new(arguments.next().unwrap_or_default());
    command.args(arguments).env_clear();
    let environment = start.environment.iter();
    command.envs(environment.map(|(name, value)| (name.os(), value.os())));

    let (terminal, stdin, input, output, stdout) = match start.terminal {
        Some(size) => {
            let pty = terminal(size)?;
            let master = File::from(pty.master.try_clone()?);
            let (input, stdin) = (pty.master.try_clone()?, pty.slave.try_clone()?);
            (Some(master), stdin, input, pty.master, pty.slave)
        }
        None => {
            let ((stdin, input), (output, stdout)) = (pipe()?, pipe()?);
            (None, stdin, input, output, stdout)
        }
    };
    let mut outputs = vec![(Stream::Output, output)];
    let stderr = if start.has_error {
        let (error, stderr) = pipe()?;
        outputs.push((Stream::Error, error));
        stderr
    } else {
        stdout.try_clone()?
    };
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let has_terminal = terminal.is_some();
    // SAFETY: Both are single system calls; standard input is the terminal by then.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            if has_terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    Ok(Running {
        child: command.spawn()?,
        input: input.into(),
        output: outputs,
        terminal,
    })
}

/// Sends what comes from `source` until it ends or the host takes no more. Once `bell` is closed,
/// only what `source` holds by then is sent, which is no more than it can hold: others may go on
/// writing.
fn forward(port: &Port, stream: Stream, source: OwnedFd, credit: &Credit, bell: &OwnedFd) {
    let mut source = File::from(source);
    let mut buffer = [0; wire::CHUNK];
    let mut left = None;

    while let Some(room) = credit.wait() {
        let [from_source, from_bell] = [source.as_fd(), bell.as_fd()];
        let mut fds = [from_source, from_bell].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        if fds[1].any() == Some(true) {
            let holds = fcntl(&source, FcntlArg::F_GETPIPE_SZ).unwrap_or(ROOM as i32);
            left.get_or_insert(holds as usize);
        }
        let room = room.min(left.unwrap_or(room));
        if fds[0].any() != Some(true) || room == 0 {
            break;
        }
        // A terminal that nobody has open any more says EIO.
        let Ok(bytes @ 1..) = source.read(&mut buffer[..room]) else {
            break;
        };
        credit.spend(bytes);
        left = left.map(|left| left - bytes);
        send(port, &Frame::Data(stream, Bytes(buffer[..bytes].to_vec())));
    }
}

/// Writes to the command what the host sends.
fn feed(port: &Port, mut input: File, data: mpsc::Receiver<Vec<u8>>) {
    let mut takes = true;
    for bytes in data {
        if takes && input.write_all(&bytes).is_err() {
            takes = false;
            send(port, &Frame::Close(Stream::Input));
        }
        send(port, &Frame::Credit(Stream::Input, bytes.len() as u32));
    }
}

/// An error as everybody else words it.
fn reason(error: &io::Error) -> String {
    let errno = error.raw_os_error().map(nix::Error::from_raw);
    errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned())
}

fn exit_status(status: ExitStatus) -> u8 {
    let status = status.code().or(status.signal().map(|signal| 128 + signal));
    status.map_or(255, |status| status as u8)
}

/// To tell who forwards a stream that no more is to come.
type Bells = Arc<Mutex<[Option<OwnedFd>; 2]>>;

fn index(stream: Stream) -> usize {
    usize::from(stream == Stream::Error)
}

/// Runs the command. Returns its exit status.
fn run_command(port: &Port, mut frames: File, start: &Start) -> Result<u8, (anyhow::Error, u8)> {
    enter_root(&start.lasting).map_err(|error| (error, 125))?;
    if let Err(error) = chdir(start.directory.os()) {
        let directory = start.directory.os().to_string_lossy();
        let why = error.desc();
        return Err((
            anyhow!("the directory {directory} of the host cannot be entered in the guest ({why}); start from another"),
            125,
        ));
    }
    let running = spawn(start).map_err(|error| {
        let program = start.arguments[0].os().to_string_lossy();
        match error.kind() {
            // It may also be its interpreter that is not there.
            ErrorKind::NotFound if program.contains('/') => {
                (anyhow!("{program}: {}", reason(&error)), 127)
            }
            ErrorKind::NotFound => (anyhow!("{program}: command not found"), 127),
            _ => (anyhow!("{program}: {}", reason(&error)), 126),
        }
    })?;
    let Running {
        mut child,
        input,
        output,
        terminal,
    } = running;
    let group = Pid::from_raw(-(child.id() as i32));
    let (to_input, data) = mpsc::channel();
    let credits = [(); 2].map(|()| Arc::new(Credit::new()));
    let bells: Bells = Arc::default();

    let mut forwarders = Vec::new();
    for (stream, source) in output {
        let (bell, ringer) = pipe().map_err(|error| (error.into(), 125))?;
        bells.lock().unwrap()[index(stream)] = Some(ringer);
        let (port, credit) = (port.clone(), credits[index(stream)].clone());
        let forwarder = move || forward(&port, stream, source, &credit, &bell);
        forwarders.push(thread::spawn(forwarder));
    }
    let feeder = port.clone();
    thread::spawn(move || feed(&feeder, input, data));
    let ringers = bells.clone();
    thread::spawn(move || {
        let mut to_input = Some(to_input);
        loop {
            match wire::read(&mut frames) {
                Ok(Frame::Data(Stream::Input, Bytes(bytes))) => {
                    to_input.as_ref().map(|input| input.send(bytes));
                }
                // The terminal of the caller is gone, and so is that of the command.
                Ok(Frame::Close(Stream::Input | Stream::Output)) if terminal.is_some() => {
                    let _ = kill(group, Signal::SIGHUP);
                }
                Ok(Frame::Close(Stream::Input)) => to_input = None,
                Ok(Frame::Close(stream)) => {
                    credits[index(stream)].close();
                    ringers.lock().unwrap()[index(stream)] = None;
                }
                Ok(Frame::Credit(stream, bytes)) => credits[index(stream)].grant(bytes as usize),
                Ok(Frame::Signal(signal)) => {
                    let _ = Signal::try_from(signal).map(|signal| kill(group, signal));
                }
                Ok(Frame::Resize(size)) => {
                    let size = winsize(size);
                    // SAFETY: The terminal is open, and the size is what this request takes.
                    terminal
                        .as_ref()
                        .map(|file| unsafe { set_size(file.as_raw_fd(), &size) });
                }
                _ => power_off(),
            }
        }
    });

    let status = child.wait();
    *bells.lock().unwrap() = Default::default();
    for forwarder in forwarders {
        let _ = forwarder.join();
    }
    status.map(exit_status).map_err(|error| (error.into(), 125))
}

pub fn run() -> Result<()> {
    // SAFETY: Nothing is open yet that we know of. What virtme-ng left open is not for the command.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let mut frames = open_port()?;
    let port = Arc::new(Mutex::new(frames.try_clone()?));
    send(&port, &Frame::Ready);
    let Frame::Start(start) = wire::read(&mut frames)? else {
        bail!("the host does not say what to run");
    };
    let frame = match run_command(&port, frames, &start) {
        Ok(status) => Frame::Exit(status),
        Err((error, status)) => Frame::Failed(format!("{error:#}"), status),
    };
    // What lasts has to be on the host before it hears of the end.
    sync();
    send(&port, &frame);
    // The host ends the guest now; if it does not, we do.
    thread::sleep(Duration::from_secs(60));
    power_off()
}
