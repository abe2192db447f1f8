// SPDX-License-Identifier: GPL-2.0

//! The host's side: what goes between the caller and the command, and how it ends.

use crate::{
    boot::Guest,
    credit::Credit,
    terminal,
    wire::{self, Bytes, Frame, Start, Stream},
};
use nix::{
    libc::{self, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH},
    poll::{poll, PollFd, PollFlags, PollTimeout},
    sys::signal::{SigSet, Signal},
};
use signal_hook::iterator::Signals;
use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    mem::MaybeUninit,
    os::fd::AsFd,
    ptr,
    sync::{mpsc, Arc},
    thread,
    time::{Duration, Instant},
};

/// What the command is to the caller.
#[derive(Clone, Copy)]
pub struct Caller {
    /// It gets the standard input.
    pub has_input: bool,
    /// It is a shell, which has Ctrl-C for itself.
    pub is_interactive: bool,
}

/// How the guest ended.
pub enum End {
    /// The command did, with this exit status.
    Exit(u8),
    /// The command could not be started.
    Failed(String, u8),
    /// What the command wrote to this stream could not be written.
    Unwritten(Stream, io::Error),
    /// The caller ended the guest, by this signal.
    Stopped(i32),
    TimeOut,
    /// The guest was gone before the command was over.
    Gone,
    /// The guest was gone before there was a command.
    NoBoot,
    /// This side failed.
    Error(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Error(error)
    }
}

enum Event {
    Frame(Frame),
    /// The port is closed.
    Gone,
    Signal(i32),
    /// Ctrl-C, on a terminal that hands on each key.
    Interrupt,
    /// Our standard input cannot be read, and counts as ended.
    Unread(io::Error),
    /// All of a stream is written, or this is why it cannot be.
    Written(Stream, io::Result<()>),
    /// Nothing happened for as long as was asked for.
    Nothing,
    /// The time is over.
    Late,
}

/// How soon a second Ctrl-C has to come to end the guest, where the command has the terminal and may
/// want it for itself.
const TWICE: Duration = Duration::from_secs(1);

/// How long a command that is asked to end by another signal is waited for.
const GRACE: Duration = Duration::from_secs(5);

/// The sending side of the port. Whether the guest is gone is for who reads to say.
type Port = mpsc::Sender<Frame>;

/// A file that is waited for where another program has made it one that does not wait.
struct Patient(File);

impl Patient {
    fn new(file: impl AsFd) -> io::Result<Self> {
        Ok(Self(file.as_fd().try_clone_to_owned()?.into()))
    }

    fn until_ready<T>(
        &self,
        flags: PollFlags,
        mut go: impl FnMut(&mut &File) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match go(&mut &self.0) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(self.0.as_fd(), flags)];
                    // Whatever ends it, a signal too: it is tried again.
                    let _ = poll(&mut fds, PollTimeout::NONE);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_ready(PollFlags::POLLIN, |file| file.read(buffer))
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.until_ready(PollFlags::POLLOUT, |file| file.write(bytes))?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

/// Writes what comes on a stream of the command to one of ours.
fn writer(
    port: Port,
    events: mpsc::Sender<Event>,
    stream: Stream,
    to: Patient,
) -> mpsc::Sender<Vec<u8>> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        let mut result = Ok(());
        for bytes in receiver {
            if result.is_ok() {
                result = to.write(&bytes);
                if result.is_err() {
                    let _ = port.send(Frame::Close(stream));
                }
            }
            let _ = port.send(Frame::Credit(stream, bytes.len() as u32));
        }
        let _ = events.send(Event::Written(stream, result));
    });
    sender
}

/// Sends our standard input.
fn reader(port: Port, credit: Arc<Credit>, events: mpsc::Sender<Event>, from: Patient, raw: bool) {
    const CTRL_C: u8 = 3;
    // Who is in the background of a terminal has nothing to read there, and is not to stop for it.
    let _ = SigSet::from(Signal::SIGTTIN).thread_block();
    let mut buffer = [0; wire::CHUNK];
    while let Some(room) = credit.wait() {
        let bytes = match from.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(error) => {
                let _ = events.send(Event::Unread(error));
                break;
            }
        };
        let pressed = buffer[..bytes].iter().filter(|byte| **byte == CTRL_C);
        for _ in pressed.take_while(|_| raw) {
            let _ = events.send(Event::Interrupt);
        }
        credit.spend(bytes);
        let data = Bytes(buffer[..bytes].to_vec());
        let _ = port.send(Frame::Data(Stream::Input, data));
    }
    let _ = port.send(Frame::Close(Stream::Input));
}

/// Whether the caller wants a signal to be without effect, as nohup does.
fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: With no new action this only writes the one that there is; all zeros are one, too.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// All that happens, in the order in which it does.
pub struct Events {
    sender: mpsc::Sender<Event>,
    receiver: mpsc::Receiver<Event>,
    deadline: Option<Instant>,
}

impl Events {
    pub fn new(limit: Option<Duration>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let wanted = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH];
        let wanted = wanted.into_iter().filter(|signal| !is_ignored(*signal));
        let mut signals = Signals::new(wanted)?;
        let events = sender.clone();
        thread::spawn(move || {
            for signal in signals.forever() {
                let _ = events.send(Event::Signal(signal));
            }
        });
        Ok(Self {
            sender,
            receiver,
            // One that is too far away is none.
            deadline: limit.and_then(|limit| Instant::now().checked_add(limit)),
        })
    }

    /// The next one, which is waited for no longer than until `patience`. Where so much happens that
    /// there always is one, the time is looked at all the same.
    fn next(&self, patience: Option<Instant>) -> Event {
        let Some(until) = self.deadline.into_iter().chain(patience).min() else {
            return self.receiver.recv().unwrap_or(Event::Nothing);
        };
        let wait = until.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            if let Ok(event) = self.receiver.recv_timeout(wait) {
                return event;
            }
        }
        match self.deadline {
            Some(end) if end <= Instant::now() => Event::Late,
            _ => Event::Nothing,
        }
    }

    /// The next one before a command runs, when every signal is for us.
    fn next_of_boot(&self, patience: Option<Instant>) -> Result<Event, End> {
        match self.next(patience) {
            Event::Gone => Err(End::NoBoot),
            Event::Late => Err(End::TimeOut),
            Event::Signal(signal) if signal != SIGWINCH => Err(End::Stopped(signal)),
            event => Ok(event),
        }
    }
}

/// Waits for the agent to be there.
fn connect(guest: &mut Guest, events: &Events) -> Result<Port, End> {
    let connection = loop {
        if let Some(connection) = guest.port()? {
            break connection;
        }
        if guest.has_ended()? {
            return Err(End::NoBoot);
        }
        events.next_of_boot(Some(Instant::now() + Duration::from_millis(20)))?;
    };
    let mut from = connection.try_clone()?;
    let sender = events.sender.clone();
    thread::spawn(move || {
        while let Ok(frame) = wire::read(&mut from) {
            let _ = sender.send(Event::Frame(frame));
        }
        let _ = sender.send(Event::Gone);
    });
    let mut to = connection;
    let (port, frames) = mpsc::channel();
    thread::spawn(move || {
        for frame in frames {
            if wire::write(&mut to, &frame).is_err() {
                break;
            }
        }
    });
    while !matches!(events.next_of_boot(None)?, Event::Frame(Frame::Ready)) {}
    Ok(port)
}

/// Has the agent run the command.
fn command(port: &Port, events: &mut Events, mut start: Start, caller: Caller) -> Result<End, End> {
    let Caller {
        has_input,
        is_interactive,
    } = caller;
    let raw = match &mut start.terminal {
        Some(size) => {
            // It may be another one than before the guest booted.
            *size = terminal::size();
            Some(terminal::Raw::new().map_err(io::Error::from)?)
        }
        None => None,
    };
    let has_terminal = raw.is_some();
    let _ = port.send(Frame::Start(start));
    let credit = Arc::new(Credit::new());
    if has_input {
        let input = Patient::new(io::stdin())?;
        let (to, room, happens) = (port.clone(), credit.clone(), events.sender.clone());
        thread::spawn(move || reader(to, room, happens, input, has_terminal));
    } else {
        let _ = port.send(Frame::Close(Stream::Input));
    }
    let to = |stream, file| writer(port.clone(), events.sender.clone(), stream, file);
    let output = to(Stream::Output, Patient::new(io::stdout())?);
    let error = to(Stream::Error, Patient::new(io::stderr())?);
    let mut writers = Some((output, error));
    let mut unwritten = 2;

    let mut end = None;
    let mut heard = Instant::now();
    let mut interrupted: Option<Instant> = None;
    let mut ending: Option<(i32, Instant)> = None;
    // All that the command wrote comes before its end, and a reader of it that is slow is waited
    // for, unless the caller does not want to.
    while unwritten > 0 {
        let event = events.next(ending.map(|(_, since)| since + GRACE));
        if let Event::Frame(_) = event {
            heard = Instant::now();
        }
        match event {
            Event::Frame(Frame::Data(stream, Bytes(bytes))) => {
                if let Some((output, error)) = &writers {
                    let to = if stream == Stream::Error {
                        error
                    } else {
                        output
                    };
                    let _ = to.send(bytes);
                }
            }
            Event::Frame(Frame::Credit(_, bytes)) => credit.grant(bytes as usize),
            Event::Frame(Frame::Close(_)) => credit.close(),
            Event::Frame(Frame::Exit(status)) => end = Some(End::Exit(status)),
            Event::Frame(Frame::Failed(why, status)) => end = Some(End::Failed(why, status)),
            Event::Frame(_) => {}
            Event::Gone => end = end.or(Some(End::Gone)),
            Event::Signal(SIGWINCH) => drop(port.send(Frame::Resize(terminal::size()))),
            // What is only written still is nothing that a signal could reach.
            Event::Signal(signal) if end.is_some() => return Err(End::Stopped(signal)),
            Event::Signal(SIGINT) if interrupted.is_some() || ending.is_some() => {
                return Err(End::Stopped(SIGINT))
            }
            Event::Signal(signal) => {
                let now = Instant::now();
                match signal {
                    SIGINT => interrupted = Some(now),
                    _ => ending = ending.or(Some((signal, now))),
                }
                let _ = port.send(Frame::Signal(signal));
            }
            Event::Interrupt => {
                let before = interrupted.replace(Instant::now());
                let is_second = before.is_some_and(|before| before.elapsed() < TWICE);
                // A shell is to end by it only with a guest that does not even echo it.
                if is_second && !(is_interactive && before.is_some_and(|before| heard > before)) {
                    return Err(End::Stopped(SIGINT));
                }
            }
            Event::Unread(why) => say!("error: the standard input cannot be read: {why}"),
            Event::Written(stream, result) => {
                unwritten -= 1;
                // A reader that is gone wants no more, which is no error.
                let error = result.err();
                if let Some(why) = error.filter(|why| why.kind() != ErrorKind::BrokenPipe) {
                    end = Some(End::Unwritten(stream, why));
                }
            }
            Event::Late => return Err(End::TimeOut),
            Event::Nothing => {
                return Err(End::Stopped(ending.map_or(SIGTERM, |(signal, _)| signal)))
            }
        }
        if end.is_some() {
            writers = None;
            // The limit was for the command.
            events.deadline = None;
        }
    }
    Ok(end.unwrap_or(End::Gone))
}

/// Runs the command in the guest that boots.
pub fn run(guest: &mut Guest, events: &mut Events, start: Start, caller: Caller) -> End {
    let port = connect(guest, events);
    let end = port.and_then(|port| command(&port, events, start, caller));
    end.unwrap_or_else(|end| end)
}
