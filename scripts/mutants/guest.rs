// SPDX-License-Identifier: GPL-2.0

//! The guest that tests a mutant.

use crate::{record::Outcome, Place};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// After how many seconds a guest hangs, on a machine that is busy with other things too.
const PATIENCE: &str = "900";

/// The exit status of `guest` where not the command ended, but the guest.
const GUEST_ENDED: i32 = 125;

/// Boots `image` in a guest called `name` and has it tested until the first failure.
pub fn test(place: &Place, image: &Path, name: &str) -> Result<Outcome, String> {
    let script = place.top.join("scripts/mutants/in-guest.sh");
    let console = place.build.join(format!("log/console-{name}.log"));
    let output = Command::new("guest")
        .arg("-k")
        .arg(image)
        // One processor, as in 'make test'.
        .args(["-c", "1", "-t", PATIENCE])
        // The timer check panics where the host is too busy to let the guest tick.
        .arg("-a=kunit.enable=1 kunit.filter_glob=syscall_user_dispatch no_timer_check")
        .arg("--console")
        .arg(&console)
        .arg("--")
        .arg(script)
        .arg(place.build.join("kselftest"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("guest: {error}"))?;

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
    let console = fs::read(console).unwrap_or_default();
    let reached = String::from_utf8_lossy(&console).contains("Subtest: syscall_user_dispatch");
    if reached && output.status.code() == Some(GUEST_ENDED) {
        let hung = errors.contains("did not end within");
        let how = if hung { "hung" } else { "crashed" };
        return Ok(Outcome::Broke(format!("{how} {last}")));
    }
    Err(format!("the guest could not be run:\n{errors}{said}"))
}
