// SPDX-License-Identifier: GPL-2.0

//! The host's side: what goes between the caller and the command, and how it ends.

use crate::{
    boot::Guest,
    credit::Credit,
    terminal,
    wire::{self, Bytes, Frame, Start, Stream},
};
use nix::libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::{mpsc, Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// How the guest ended.
pub enum End {
    /// The command did, with this exit status.
    Exit(u8),
    /// The command could not be started.
    Failed(String, u8),
    /// The caller ended the guest, by this signal.
    Stopped(i32),
    TimeOut,
    /// The guest was gone before the command was over.
    Gone,
    /// The guest was gone before there was a command.
    NoBoot,
}

enum Event {
    Frame(Frame),
    /// The port is closed.
    Gone,
    Signal(i32),
    /// Ctrl-C, on a terminal that hands on each key.
    Interrupt,
}

/// How soon a second Ctrl-C has to come to end the guest, where the command has the terminal.
const TWICE: Duration = Duration::from_secs(1);

type Port = Arc<Mutex<UnixStream>>;

fn send(port: &Port, frame: &Frame) {
    // Whether the guest is gone is for who reads to say.
    let _ = wire::write(&mut *port.lock().unwrap(), frame);
}

/// Writes what comes on a stream of the command to one of ours.
fn writer(
    port: Port,
    stream: Stream,
    mut to: impl Write + Send + 'static,
) -> (mpsc::Sender<Vec<u8>>, thread::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    let thread = thread::spawn(move || {
        let mut takes = true;
        for bytes in receiver {
            if takes && to.write_all(&bytes).and_then(|()| to.flush()).is_err() {
                takes = false;
                send(&port, &Frame::Close(stream));
            }
            send(&port, &Frame::Credit(stream, bytes.len() as u32));
        }
    });
    (sender, thread)
}

/// Sends our standard input.
fn reader(port: Port, credit: Arc<Credit>, events: mpsc::Sender<Event>, raw: bool) {
    const CTRL_C: u8 = 3;
    let mut buffer = [0; wire::CHUNK];
    while let Some(room) = credit.wait() {
        let Ok(bytes @ 1..) = io::stdin().read(&mut buffer[..room]) else {
            break;
        };
        if raw && buffer[..bytes].contains(&CTRL_C) {
            let _ = events.send(Event::Interrupt);
        }
        credit.spend(bytes);
        send(
            &port,
            &Frame::Data(Stream::Input, Bytes(buffer[..bytes].to_vec())),
        );
    }
    send(&port, &Frame::Close(Stream::Input));
}

/// Boots the guest and runs the command in it. `interactive` is a shell, which has Ctrl-C for
/// itself. What is found out about the guest can be asked of it afterwards.
pub fn run(
    guest: &mut Guest,
    start: Start,
    limit: Option<Duration>,
    interactive: bool,
) -> anyhow::Result<End> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let (to_main, events) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH])?;
    let sender = to_main.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            let _ = sender.send(Event::Signal(signal));
        }
    });
    let next = |patience: Option<Duration>| {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = left.into_iter().chain(patience).min();
        events.recv_timeout(wait.unwrap_or(Duration::MAX / 4)).ok()
    };
    let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);

    let Ok(port) = guest.connect(is_late) else {
        return Ok(if is_late() { End::TimeOut } else { End::NoBoot });
    };
    let mut frames = port.try_clone()?;
    let port = Arc::new(Mutex::new(port));
    let sender = to_main.clone();
    thread::spawn(move || {
        while let Ok(frame) = wire::read(&mut frames) {
            let _ = sender.send(Event::Frame(frame));
        }
        let _ = sender.send(Event::Gone);
    });

    // Until the agent is there, there is no command that a signal could be meant for.
    loop {
        match next(None) {
            Some(Event::Frame(Frame::Ready)) => break,
            Some(Event::Signal(SIGWINCH)) => {}
            Some(Event::Signal(signal)) => return Ok(End::Stopped(signal)),
            Some(_) => return Ok(End::NoBoot),
            None => return Ok(End::TimeOut),
        }
    }

    let raw = match start.terminal {
        Some(_) => Some(terminal::Raw::new()?),
        None => None,
    };
    let has_terminal = raw.is_some();
    send(&port, &Frame::Start(start));
    let credit = Arc::new(Credit::new());
    let (input, sender) = (port.clone(), to_main.clone());
    let input_credit = credit.clone();
    thread::spawn(move || reader(input, input_credit, sender, has_terminal));
    let (output, output_thread) = writer(port.clone(), Stream::Output, io::stdout());
    let (error, error_thread) = writer(port.clone(), Stream::Error, io::stderr());
    let mut asked: Option<(i32, Instant)> = None;

    let end = loop {
        // Who asks a command to end by SIGTERM does not wait for it for ever.
        const GRACE: Duration = Duration::from_secs(5);
        let patience = match asked {
            Some((SIGINT, _)) | None => None,
            Some((_, since)) => Some((since + GRACE).saturating_duration_since(Instant::now())),
        };
        match next(patience) {
            Some(Event::Frame(Frame::Data(Stream::Output, Bytes(bytes)))) => {
                drop(output.send(bytes))
            }
            Some(Event::Frame(Frame::Data(_, Bytes(bytes)))) => drop(error.send(bytes)),
            Some(Event::Frame(Frame::Credit(_, bytes))) => credit.grant(bytes as usize),
            Some(Event::Frame(Frame::Close(_))) => credit.close(),
            Some(Event::Frame(Frame::Exit(status))) => break End::Exit(status),
            Some(Event::Frame(Frame::Failed(why, status))) => break End::Failed(why, status),
            Some(Event::Frame(_)) => {}
            Some(Event::Gone) => break End::Gone,
            Some(Event::Signal(SIGWINCH)) => send(&port, &Frame::Resize(terminal::size())),
            Some(Event::Signal(signal)) => {
                if asked.is_some() {
                    break End::Stopped(signal);
                }
                asked = Some((signal, Instant::now()));
                send(&port, &Frame::Signal(signal));
            }
            Some(Event::Interrupt) if interactive => {}
            Some(Event::Interrupt) => {
                let now = Instant::now();
                if asked.is_some_and(|(_, before)| now - before < TWICE) {
                    break End::Stopped(SIGINT);
                }
                asked = Some((SIGINT, now));
            }
            None if is_late() => break End::TimeOut,
            None => break End::Stopped(asked.map_or(SIGTERM, |(signal, _)| signal)),
        }
    };
    // All that the command wrote comes before its end. A reader of it that is slow is waited for,
    // unless the caller does not want to.
    drop((output, error));
    if !matches!(end, End::Stopped(_)) {
        let _ = (output_thread.join(), error_thread.join());
    }
    if let (Some(raw), End::Stopped(_)) = (raw, &end) {
        drop(raw);
        eprintln!();
    }
    Ok(end)
}
