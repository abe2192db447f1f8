// SPDX-License-Identifier: GPL-2.0

//! Programs all of whose syscalls are handed over: they have to print what they print without.

use crate::{
    run::{command, has, output, Place},
    Case, Outcome,
};
use anyhow::{ensure, Result};
use std::fs;

/// What is run, by the shell. It may depend on nothing that changes from run to run.
const PROGRAMS: [(&str, &str); 5] = [
    (
        "sqlite3",
        "sqlite3 :memory: 'create table t(a); with recursive c(n) as (values(1) union all
         select n+1 from c where n<2000) insert into t select n*n from c; select sum(a), count(*) from t;'",
    ),
    (
        "python3",
        "python3 -c 'import os, subprocess, threading
t = [threading.Thread(target=lambda: os.listdir(\"/etc\")) for _ in range(4)]
[it.start() for it in t]; [it.join() for it in t]
print(subprocess.run([\"echo\", \"of a child\"], capture_output=True).stdout, sum(range(1000)))'",
    ),
    ("bash", "bash -c 'for i in 1 2 3; do echo $i | (read a; echo $((a * a))); done; ls -d /[a-e]*; false || exit 3'"),
    ("tar", "tar cf - --sort=name /etc/default | tar tvf - | head -n 50"),
    ("find", "find /etc -maxdepth 2 -name '*.conf' | sort"),
];

pub fn cases() -> Vec<Case> {
    PROGRAMS
        .map(|(name, script)| -> Case {
            (
                format!("{name} prints under the interposer what it prints without"),
                Box::new(move |place| {
                    if !has(name) {
                        return Ok(Outcome::Skipped(format!("{name} is not installed")));
                    }
                    // By SIGSYS it would end a program that blocks all signals for a moment.
                    if !place.upcalls {
                        return Ok(Outcome::Skipped("the kernel has no upcalls".into()));
                    }
                    same(place, script).map(|()| Outcome::Right)
                }),
            )
        })
        .into()
}

/// Also how it ends; and that its syscalls were handed over is seen by their count.
fn same(place: &Place, script: &str) -> Result<()> {
    let script = format!("{{ {script}; }} 2>&1; echo ended with $?");
    let right = output(&mut command(&["sh", "-c", &script]))?;
    let counts = place.scratch("counts");
    // What is left from before is counted on.
    let _ = fs::remove_file(&counts);
    let seen = output(
        command(&["sh", "-c", &script])
            .env("LD_PRELOAD", place.sample("interpose.so"))
            .env("INTERPOSE", &counts),
    )?;
    ensure!(seen == right, "it prints:\n{right}and under it:\n{seen}");
    let calls: u64 = fs::read(&counts)?
        .chunks_exact(8)
        .filter_map(|it| it.try_into().ok().map(u64::from_le_bytes))
        .sum();
    ensure!(calls > 100, "{calls} syscalls were handed over");
    Ok(())
}
