// SPDX-License-Identifier: GPL-2.0

//! The terminal of the caller.

use crate::wire::Size;
use nix::{
    libc::{self, winsize},
    sys::termios::{cfmakeraw, tcgetattr, tcsetattr, SetArg, Termios},
    unistd::{getpgrp, tcgetpgrp},
};
use std::io::{stdin, stdout, IsTerminal};

nix::ioctl_read_bad!(get_size, libc::TIOCGWINSZ, winsize);

/// Whether the command gets a terminal: it reads and writes one, and is not in its background.
pub fn is_ours() -> bool {
    let in_foreground = || tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp());
    stdin().is_terminal() && stdout().is_terminal() && in_foreground()
}

pub fn size() -> Size {
    let mut size = winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: That is what the request writes. If it fails, the size is that of old terminals.
    let _ = unsafe { get_size(libc::STDIN_FILENO, &mut size) };
    Size {
        rows: size.ws_row,
        columns: size.ws_col,
    }
}

/// The terminal hands on each key, as long as this lives.
pub struct Raw(Termios);

impl Raw {
    pub fn new() -> nix::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Not once all is written: that may be never.
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.0);
    }
}
