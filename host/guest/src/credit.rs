// SPDX-License-Identifier: GPL-2.0

//! How much of a stream its sender may still send.

use crate::wire::{CHUNK, WINDOW};
use std::sync::{Condvar, Mutex};

pub struct Credit {
    /// In bytes; nothing once the receiver takes no more.
    left: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Credit {
    pub fn new() -> Self {
        Self {
            left: Mutex::new(Some(WINDOW)),
            changed: Condvar::new(),
        }
    }

    /// Waits until something may be sent, and says how much, or nothing if it never will be.
    pub fn wait(&self) -> Option<usize> {
        let left = self.left.lock().unwrap();
        let left = self.changed.wait_while(left, |left| *left == Some(0));
        left.unwrap().map(|left| left.min(CHUNK))
    }

    pub fn spend(&self, bytes: usize) {
        if let Some(left) = &mut *self.left.lock().unwrap() {
            *left -= bytes;
        }
    }

    pub fn grant(&self, bytes: usize) {
        if let Some(left) = &mut *self.left.lock().unwrap() {
            *left += bytes;
        }
        self.changed.notify_all();
    }

    pub fn close(&self) {
        *self.left.lock().unwrap() = None;
        self.changed.notify_all();
    }
}
