// SPDX-License-Identifier: GPL-2.0

//! What the host and the agent in the guest tell each other: frames over one virtio-serial port,
//! each as its length, in four bytes, and its content.
//!
//! A stream may have only so much on the way as its receiver has room for, [`WINDOW`] to begin with
//! and then what it gives back by [`Frame::Credit`]. So one that nobody reads stops neither another
//! one nor a signal.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    io::{self, Read, Write},
};

/// The name of the port.
pub const PORT: &str = "sud.guest";

/// How a directory of the host is mounted by its tag.
pub const MOUNT: &str = "version=9p2000.L,trans=virtio,access=any,msize=524288";

/// The tag of a directory where what is written lasts.
pub fn lasting(index: usize) -> String {
    format!("sud.lasting{index}")
}

/// How many bytes of a stream may be on the way.
pub const WINDOW: usize = 256 << 10;

/// How long a frame may be: as long as the arguments and the environment of a command.
const LONGEST: usize = 16 << 20;

/// How many of them one frame carries at most.
pub const CHUNK: usize = 32 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    Input,
    Output,
    Error,
}

impl fmt::Display for Stream {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Error => "error",
        })
    }
}

/// A terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// Any bytes: arguments and paths need not be text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub arguments: Vec<Bytes>,
    pub environment: Vec<(Bytes, Bytes)>,
    pub directory: Bytes,
    /// What lasts, of all that the command writes: mounted by [`lasting`].
    pub lasting: Vec<Bytes>,
    /// The command gets a terminal of this size, or else three pipes.
    pub terminal: Option<Size>,
    /// Standard error is a pipe even if there is a terminal.
    pub has_error: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// Agent: I am running.
    Ready,
    /// Host: run this, once.
    Start(Start),
    Data(Stream, Bytes),
    /// To the sender of a stream: so many more bytes.
    Credit(Stream, u32),
    /// A stream ends: its sender has no more, or its receiver takes no more.
    Close(Stream),
    /// Host: to the process group of the command.
    Signal(i32),
    /// Host: the terminal's.
    Resize(Size),
    /// Agent: the command cannot be started, why, and the exit status that says so.
    Failed(String, u8),
    /// Agent: the exit status of the command, 128 and the signal if one killed it.
    Exit(u8),
}

pub fn write(to: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let content = postcard::to_stdvec(frame).map_err(io::Error::other)?;
    let mut bytes = (content.len() as u32).to_le_bytes().to_vec();
    bytes.extend(content);
    to.write_all(&bytes)?;
    to.flush()
}

/// The next frame, or an error of kind `UnexpectedEof` where the other side is gone.
pub fn read(from: &mut impl Read) -> io::Result<Frame> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = vec![0; length];
    from.read_exact(&mut content)?;
    postcard::from_bytes(&content)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_as_they_went() {
        let start = Start {
            arguments: vec![
                Bytes(b"printf".to_vec()),
                Bytes(vec![0xff, b'\n', b'$', b'\'']),
            ],
            environment: vec![(Bytes(b"A".to_vec()), Bytes(b"".to_vec()))],
            directory: Bytes(b"/".to_vec()),
            lasting: Vec::new(),
            terminal: Some(Size {
                rows: 24,
                columns: 80,
            }),
            has_error: true,
        };
        let frames = [
            Frame::Ready,
            Frame::Start(start),
            Frame::Data(Stream::Error, Bytes((0..=255).collect())),
            Frame::Credit(Stream::Input, u32::MAX),
            Frame::Exit(255),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            write(&mut bytes, frame).unwrap();
        }
        let mut rest = &bytes[..];
        for frame in &frames {
            assert_eq!(read(&mut rest).unwrap(), *frame);
        }
        let end = read(&mut rest).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_frame_that_is_cut_off_is_none() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Frame::Signal(2)).unwrap();
        bytes.pop();
        let error = read(&mut &bytes[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
