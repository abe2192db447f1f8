// SPDX-License-Identifier: GPL-2.0

//! `shrink`: makes a program whose transcripts differ shorter, as long as they differ.
//!
//! To boot a kernel takes longer than to execute a thousand programs: each round tries all ways to
//! leave something out at once, on each kernel, and goes on from the shortest that still differs.

use crate::{
    compare::{self, Difference, Mode},
    draw::Random,
    program::{Program, Style},
};
use std::{
    env, fs,
    path::PathBuf,
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

/// Ways to leave out a part of `kept`: halves, quarters, and so on down to single operations, and
/// parts at random, but for the last operation, in which the difference shows.
fn candidates(kept: &[usize], random: &mut Random) -> Vec<Vec<usize>> {
    const AT_RANDOM: usize = 50;
    let mut all = Vec::new();
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        for start in (0..kept.len()).step_by(size) {
            let end = (start + size).min(kept.len());
            all.push([&kept[..start], &kept[end..]].concat());
        }
        size /= 2;
    }
    for share in [2, 4, 8].iter().flat_map(|share| [*share; AT_RANDOM]) {
        let last = kept.last().copied();
        let is_kept = |item: &usize| Some(*item) == last || random.below(share) == 0;
        all.push(kept.iter().copied().filter(is_kept).collect());
    }
    all.retain(|candidate| !candidate.is_empty() && candidate.len() < kept.len());
    all
}

fn text(kept: &[usize]) -> String {
    kept.iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Both kernels with a program to make shorter.
struct Experiment<'a> {
    seed: &'a str,
    program: u64,
    kernels: [Kernel<'a>; 2],
    style: Style,
    mode: Mode,
    myself: PathBuf,
}

impl Experiment<'_> {
    /// The shortest of some variants that still differs, up to where it does, and how.
    fn shortest(&self, variants: &[Vec<usize>]) -> Result<Option<(Vec<usize>, String)>, String> {
        let Self {
            seed,
            program,
            kernels,
            style,
            mode,
            myself,
        } = self;
        let batch = myself.with_extension("batch");
        let lines = variants
            .iter()
            .map(|kept| format!("{program} {}\n", text(kept)));
        fs::write(&batch, lines.collect::<String>()).map_err(|error| error.to_string())?;
        let command = format!(
            "{} run {seed} 0{} --batch {}",
            myself.display(),
            style.option(),
            batch.display()
        );
        let [ours, other] = [kernels[0].run(&command), kernels[1].run(&command)];
        // It is only in the way.
        let _ = fs::remove_file(&batch);

        let differences = compare::differences(&ours?, &other?, *mode)?;
        let differing = variants
            .iter()
            .zip(differences)
            .filter_map(|(kept, difference)| {
                let Difference { operation, report } = difference?;
                Some((kept[..kept.len().min(operation + 1)].to_vec(), report))
            });
        Ok(differing.min_by_key(|(kept, _)| kept.len()))
    }
}

pub fn shrink(
    seed: &str,
    program: u64,
    kernels: [&str; 2],
    style: Style,
    mode: Mode,
) -> Result<(), String> {
    let experiment = Experiment {
        seed,
        program,
        kernels: kernels.map(Kernel),
        style,
        mode,
        myself: env::current_exe().map_err(|error| error.to_string())?,
    };
    let mut random = Random::new(program, 0);
    let whole = (0..Program::OPERATIONS as usize).collect();
    let Some((mut kept, mut report)) = experiment.shortest(&[whole])? else {
        return Err(format!("program {program} of seed {seed} does not differ"));
    };
    while kept.len() > 1 {
        println!("# {} operations: {}", kept.len(), text(&kept));
        match experiment.shortest(&candidates(&kept, &mut random))? {
            Some(shorter) => (kept, report) = shorter,
            None => break,
        }
    }
    print!("{report}");
    println!(
        "differential run {seed} 0{} --program {program} --keep {}",
        style.option(),
        text(&kept)
    );
    Ok(())
}
