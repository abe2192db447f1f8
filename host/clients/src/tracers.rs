// SPDX-License-Identifier: GPL-2.0

//! perf, trace-cmd and bpftrace on the tracepoints, as the admin guide says it; and stress-ng.

use crate::{
    debuggers::dispatched,
    run::{command, has, output, shows, Place, ARMED},
    Case, Outcome,
};
use anyhow::{ensure, Context as _, Result};
use std::path::Path;

const EVENTS: &str = "/sys/kernel/tracing/events/syscall_user_dispatch";

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |name: &str, run: fn(&Place) -> Result<()>| {
        let client = name.split_once(' ').map_or(name, |it| it.0).to_owned();
        cases.push((
            name.to_owned(),
            Box::new(move |place| {
                if !has(&client) {
                    return Ok(Outcome::Skipped(format!("{client} is not installed")));
                }
                if client != "stress-ng" && !Path::new(EVENTS).exists() {
                    return Ok(Outcome::Skipped(
                        "the kernel has no tracepoints of it".into(),
                    ));
                }
                // perf says ENOSYS in many ways.
                if client == "bpftrace" && !Path::new("/sys/kernel/btf/vmlinux").exists() {
                    return Ok(Outcome::Skipped(
                        "the kernel has no BPF: see -k full".into(),
                    ));
                }
                run(place).map(|()| Outcome::Right)
            }),
        ));
    };
    add("perf counts the dispatches", counted);
    add("perf trace shows names that people can read", readable);
    add("perf records stacks that people can read", stacks);
    add("trace-cmd records the events", recorded);
    add("bpftrace counts the dispatches by number", by_number);
    add("stress-ng does not find fault", stressed);
    cases
}

fn counted(place: &Place) -> Result<()> {
    let personality = place.sample("personality");
    let event = "syscall_user_dispatch:sud_dispatch";
    let text = output(&mut command(&[
        "perf",
        "stat",
        "-x,",
        "-e",
        event,
        &personality,
    ]))?;
    let line = text
        .lines()
        .find(|it| it.contains(event))
        .context("no count")?;
    let count = line.split(',').next().unwrap_or_default();
    let wanted = dispatched(&text)?.to_string();
    ensure!(count == wanted, "{count} dispatches counted, of {wanted}");
    Ok(())
}

fn readable(place: &Place) -> Result<()> {
    let arguments = [
        "perf",
        "trace",
        "-e",
        "syscall_user_dispatch:*",
        &place.armed(),
    ];
    let text = output(&mut command(&arguments))?;
    shows(&text, &ARMED)?;
    shows(
        &text,
        &[
            "syscall_user_dispatch:sud_configure",
            "syscall_user_dispatch:sud_dispatch",
        ],
    )
}

/// The functions on the way to a dispatch. Debian's perf knows no names of Rust, and c++filt does.
fn stacks(place: &Place) -> Result<()> {
    let data = place.scratch("perf.data");
    let event = "syscall_user_dispatch:sud_dispatch";
    let armed = place.armed();
    output(&mut command(&[
        "perf", "record", "-q", "-g", "-e", event, "-o", &data, &armed,
    ]))?;
    let script = format!("perf script -i {data} | c++filt");
    let text = output(&mut command(&["sh", "-c", &script]))?;
    shows(&text, &["arch=x86_64"])?;
    shows(&text, &["do_syscall_64", "entry_SYSCALL_64"])?;
    ensure!(!text.contains("_RN"), "a mangled name:\n{text}");
    Ok(())
}

fn recorded(place: &Place) -> Result<()> {
    let data = place.scratch("trace.dat");
    let arguments = ["record", "-q", "-o", &data, "-e", "syscall_user_dispatch"];
    let mut all = vec!["trace-cmd"];
    all.extend(arguments);
    let armed = place.armed();
    all.push(&armed);
    shows(&output(&mut command(&all))?, &ARMED)?;
    let text = output(&mut command(&["trace-cmd", "report", "-i", &data]))?;
    shows(
        &text,
        &[
            "sud_configure:",
            "mode=inclusive",
            "sud_dispatch:",
            "nr=110 arch=x86_64",
        ],
    )?;
    ensure!(
        text.matches("sud_dispatch:").count() == 1,
        "more than one:\n{text}"
    );
    Ok(())
}

fn by_number(place: &Place) -> Result<()> {
    let program = "tracepoint:syscall_user_dispatch:sud_dispatch { @[args->nr] = count(); }";
    let text = output(&mut command(&[
        "bpftrace",
        "-e",
        program,
        "-c",
        &place.armed(),
    ]))?;
    shows(&text, &ARMED)?;
    shows(&text, &["@[110]: 1"])
}

/// Each of its stressors does something, and nothing goes wrong.
fn stressed(_: &Place) -> Result<()> {
    let stressors = [
        "usersyscall",
        "signal",
        "sigsuspend",
        "clone",
        "vfork",
        "ptrace",
    ];
    let mut all: Vec<String> = ["stress-ng", "--timeout", "10", "--verify", "--metrics"]
        .map(str::to_owned)
        .into();
    for it in stressors {
        all.extend([format!("--{it}"), "1".into()]);
    }
    // Those that are there at once; they count when they are gone.
    all.extend(["--clone-max".into(), "16".into()]);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let text = output(command(&all).current_dir(std::env::temp_dir()))?;
    for stressor in stressors {
        let words = text
            .lines()
            .map(|it| it.split_whitespace().collect::<Vec<_>>());
        let operations = words
            .filter(|it| it.get(3) == Some(&stressor))
            .find_map(|it| it.get(4)?.parse::<u64>().ok());
        ensure!(
            operations.is_some_and(|it| it > 0),
            "{stressor} did nothing:\n{text}"
        );
    }
    Ok(())
}
