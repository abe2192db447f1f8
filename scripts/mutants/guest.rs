// SPDX-License-Identifier: GPL-2.0

//! The guest that tests a mutant.

use crate::{record::Outcome, Place};
use std::{path::Path, process::Command};

/// Boots `image` and has it tested until the first failure, for at most `patience` seconds.
pub fn test(place: &Place, image: &Path, patience: u64) -> Result<Outcome, String> {
    let script = place.top.join("scripts/mutants/in-guest.sh");
    let tests = place.build.join("kselftest");
    let output = Command::new(place.top.join("scripts/guest.sh"))
        .arg(image)
        .arg(format!("{} {}", script.display(), tests.display()))
        // One processor, as in 'make test'.
        .envs([
            ("GUEST_CPUS", "1"),
            ("GUEST_LOG", "mutants"),
            ("GUEST_QUIET", "1"),
        ])
        .env("GUEST_TIMEOUT", patience.to_string())
        .env(
            "GUEST_APPEND",
            "kunit.enable=1 kunit.filter_glob=syscall_user_dispatch",
        )
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;

    let said = String::from_utf8_lossy(&output.stdout);
    let mut lines = said.lines().map(str::trim).rev();
    let (last, errors) = (
        lines.find(|line| !line.is_empty()).unwrap_or("in its boot"),
        String::from_utf8_lossy(&output.stderr),
    );
    if last == "survived" {
        return Ok(Outcome::Survived);
    }
    if let Some(by) = last.strip_prefix("caught ") {
        return Ok(Outcome::Caught(by.to_owned()));
    }
    // The words of guest.sh.
    for (sign, how) in [
        ("did not end within", "hung"),
        ("ended without an exit", "crashed"),
    ] {
        if errors.contains(sign) {
            return Ok(Outcome::Broke(format!("{how} {last}")));
        }
    }
    Err(format!("the guest could not be run:\n{errors}{said}"))
}
