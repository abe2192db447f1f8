// SPDX-License-Identifier: GPL-2.0

//! The guest that tests a mutant.

use crate::{record::Outcome, Place};
use std::{fs, path::Path, process::Command};

/// After how many seconds a guest hangs, on a machine that is busy with other things too.
const PATIENCE: &str = "900";

/// Boots `image` in a guest called `name` and has it tested until the first failure.
pub fn test(place: &Place, image: &Path, name: &str) -> Result<Outcome, String> {
    let script = place.top.join("scripts/mutants/in-guest.sh");
    let tests = place.build.join("kselftest");
    let output = Command::new(place.top.join("scripts/guest.sh"))
        .arg(image)
        .arg(format!("{} {}", script.display(), tests.display()))
        // One processor, as in 'make test'.
        .envs([
            ("GUEST_CPUS", "1"),
            ("GUEST_LOG", name),
            ("GUEST_QUIET", "1"),
        ])
        .env("GUEST_TIMEOUT", PATIENCE)
        .env(
            "GUEST_APPEND",
            // The timer check panics where the host is too busy to let the guest tick.
            "kunit.enable=1 kunit.filter_glob=syscall_user_dispatch no_timer_check",
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
    // Until KUnit runs ours, nothing is armed: what breaks earlier, no mutant has done.
    let console = fs::read(place.build.join(format!("log/console-{name}.log"))).unwrap_or_default();
    let reached = String::from_utf8_lossy(&console).contains("Subtest: syscall_user_dispatch");
    // The words of guest.sh.
    for (sign, how) in [
        ("did not end within", "hung"),
        ("ended without an exit", "crashed"),
    ] {
        if reached && errors.contains(sign) {
            return Ok(Outcome::Broke(format!("{how} {last}")));
        }
    }
    Err(format!("the guest could not be run:\n{errors}{said}"))
}
