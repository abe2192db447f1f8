// SPDX-License-Identifier: GPL-2.0

//! `shrink`: makes a program whose transcripts differ shorter, as long as they differ.
//!
//! To boot a kernel takes longer than to execute a thousand programs: each round tries all ways to
//! leave something out at once, on each kernel, and goes on from the shortest that still differs.

use crate::{compare, program::Program};
use std::{
    env, fs,
    process::{Command, Stdio},
};

/// How to run a command on a kernel: a shell command that takes one more argument.
struct Kernel<'a>(&'a str);

impl Kernel<'_> {
    fn run(&self, command: &str) -> Result<String, String> {
        let script = format!("{} '{command}'", self.0);
        let output = Command::new("sh")
            .args(["-c", &script])
            .stderr(Stdio::inherit())
            .output();
        let output = output.map_err(|error| format!("sh: {error}"))?;
        if !output.status.success() {
            return Err(format!("{script}: {}", output.status));
        }
        // A console may say something first.
        let text = String::from_utf8_lossy(&output.stdout);
        let start = text
            .find("program ")
            .ok_or_else(|| format!("{script}: no transcript"))?;
        Ok(text[start..].replace('\r', ""))
    }
}

/// All ways to leave out a part of `kept`: halves, quarters, and so on down to single operations.
fn candidates(kept: &[usize]) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        for start in (0..kept.len()).step_by(size) {
            let end = (start + size).min(kept.len());
            all.push([&kept[..start], &kept[end..]].concat());
        }
        size /= 2;
    }
    all.retain(|candidate| !candidate.is_empty());
    all
}

fn text(kept: &[usize]) -> String {
    kept.iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

pub fn shrink(seed: &str, program: u64, ours: &str, upstream: &str) -> Result<(), String> {
    let myself = env::current_exe().map_err(|error| error.to_string())?;
    let batch = myself.with_extension("batch");
    let differing = |candidates: &[Vec<usize>]| -> Result<Vec<Option<usize>>, String> {
        let lines = candidates
            .iter()
            .map(|kept| format!("{program} {}\n", text(kept)));
        fs::write(&batch, lines.collect::<String>()).map_err(|error| error.to_string())?;
        let command = format!(
            "{} run {seed} 0 --batch {}",
            myself.display(),
            batch.display()
        );
        let [ours, upstream] = [Kernel(ours).run(&command)?, Kernel(upstream).run(&command)?];
        compare::first_differences(&ours, &upstream)
    };

    let whole: Vec<usize> = (0..Program::OPERATIONS as usize).collect();
    let mut kept = match differing(&[whole.clone()])?[..] {
        [Some(last)] => whole[..=last.min(whole.len() - 1)].to_vec(),
        _ => return Err(format!("program {program} of seed {seed} does not differ")),
    };
    loop {
        println!("# {} operations: {}", kept.len(), text(&kept));
        let candidates = candidates(&kept);
        let results = differing(&candidates)?;
        let shorter = candidates
            .iter()
            .zip(results)
            .filter_map(|(candidate, last)| Some(&candidate[..=last?.min(candidate.len() - 1)]))
            .min_by_key(|candidate| candidate.len());
        match shorter {
            Some(shorter) => kept = shorter.to_vec(),
            None => break,
        }
    }
    // It is only in the way.
    let _ = fs::remove_file(&batch);
    println!(
        "differential run {seed} 0 --program {program} --keep {}",
        text(&kept)
    );
    Ok(())
}
