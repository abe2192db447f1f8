// SPDX-License-Identifier: GPL-2.0

//! Compares what `bench programs` printed on two kernels: table, JSON, and bounds to keep.

use crate::report::{self, Purpose, Row, Samples, Verdict, KERNELS, OURS, PATCHED_C};
use std::fs;

/// As they are named in what was measured and in bounds, and for readers.
const MECHANISMS: [(&str, &str); 5] = [
    ("bare", "bare"),
    ("upcall", "upcall"),
    ("sigsys", "SIGSYS"),
    ("seccomp", "seccomp's trap"),
    ("ptrace", "ptrace"),
];

/// One program on one kernel.
struct Program {
    name: String,
    /// How many syscalls a tracer counts, and how many of the loader before them.
    calls: u64,
    loader: u64,
    /// What each mechanism costs.
    costs: Vec<Samples>,
    /// Of which run it was not shown that nothing but the cost was different.
    wrong: Vec<String>,
}

struct Measurement {
    release: String,
    programs: Vec<Program>,
}

impl Measurement {
    fn read(file: &str) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let mut measurement = Self {
            release: String::new(),
            programs: Vec::new(),
        };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let known = measurement.line(line);
            known.ok_or_else(|| format!("{file}: not a measurement: {line}"))?;
        }
        let complete = |program: &Program| program.costs.len() == MECHANISMS.len();
        if measurement.programs.is_empty() || !measurement.programs.iter().all(complete) {
            return Err(format!("{file}: the measurement is not complete"));
        }
        Ok(measurement)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["#", "kernel", release] => {
                self.release = release.split('-').next()?.to_owned();
            }
            [name, "calls", calls, loader] => self.programs.push(Program {
                name: name.to_owned(),
                calls: calls.parse().ok()?,
                loader: loader.parse().ok()?,
                costs: Vec::new(),
                wrong: Vec::new(),
            }),
            ["wrong", name, ..] => {
                let program = self.program(name)?;
                program.wrong.push(line.strip_prefix("wrong ")?.to_owned());
            }
            [name, mechanism, cost, interposed] => {
                let program = self.program(name)?;
                let (cost, interposed): (f64, u64) = (cost.parse().ok()?, interposed.parse().ok()?);
                let right = if mechanism == "bare" {
                    0
                } else {
                    program.calls
                };
                if interposed != right {
                    let why = format!("{name} {mechanism}: {interposed} calls, of {right}");
                    program.wrong.push(why);
                }
                let path = path(name, mechanism);
                match program.costs.iter_mut().find(|costs| costs.path == path) {
                    Some(costs) => costs.values.push(cost),
                    None => program.costs.push(Samples {
                        path,
                        values: vec![cost],
                    }),
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn program(&mut self, name: &str) -> Option<&mut Program> {
        self.programs
            .iter_mut()
            .find(|program| program.name == name)
    }
}

/// What bounds call it.
fn path(program: &str, mechanism: &str) -> String {
    match mechanism {
        "bare" => program.to_owned(),
        _ => format!("{program}-{mechanism}"),
    }
}

impl Program {
    fn costs(&self, mechanism: &str) -> Option<&Samples> {
        let path = path(&self.name, mechanism);
        self.costs.iter().find(|costs| costs.path == path)
    }

    /// Whatever else the machine does only adds to a time, so that is the fastest.
    fn cost(&self, mechanism: &str, purpose: Purpose) -> f64 {
        let of = |costs: &Samples| match purpose {
            Purpose::Time => costs.extremes().0,
            _ => costs.median(),
        };
        self.costs(mechanism).map_or(f64::NAN, of)
    }

    fn cells(&self, purpose: Purpose) -> String {
        let bare = self.cost("bare", purpose);
        let cells = MECHANISMS.map(|(mechanism, _)| {
            let cost = self.cost(mechanism, purpose);
            match mechanism {
                "bare" => format!(" {:.2} |", cost / 1e6),
                _ => format!(" {:.2} ({:.2}) |", cost / 1e6, cost / bare),
            }
        });
        cells.concat()
    }

    fn json(&self, kernel: &str, purpose: Purpose) -> String {
        let costs = MECHANISMS.map(|(mechanism, _)| {
            let cost = self.cost(mechanism, purpose);
            let spread = self.costs(mechanism).map_or(0.0, Samples::spread);
            let spread = format!(", \"{mechanism}_spread\": {spread:.4}");
            format!(", \"{mechanism}\": {cost:.0}{spread}")
        });
        let key = kernel.to_lowercase().replace(' ', "_");
        // Its name is plain ASCII.
        format!(
            "{{\"program\": \"{}\", \"on\": \"{key}\", \"calls\": {}, \"loader\": {}, \
             \"exhaustive\": {}{}}}",
            self.name,
            self.calls,
            self.loader,
            self.wrong.is_empty(),
            costs.concat(),
        )
    }
}

/// Reads the files of the patched kernels, C and ours. False if the run is invalid, an interposer
/// was passed by, or a bound is exceeded.
pub fn run(files: [&str; 2], out: &str, purpose: Purpose) -> Result<bool, String> {
    let bounds = match purpose {
        Purpose::Guard(file) => report::read_bounds(file)?,
        _ => Vec::new(),
    };
    let [patched_c, ours] = files.map(Measurement::read);
    let kernels = [(PATCHED_C, patched_c?), (OURS, ours?)];

    let mut verdicts: Vec<Verdict> = Vec::new();
    if !matches!(purpose, Purpose::Time) {
        let mut all = kernels.iter().flat_map(|(kernel, measurement)| {
            let costs = measurement.programs.iter().flat_map(|p| &p.costs);
            costs.map(|costs| costs.disagreement(KERNELS[*kernel]))
        });
        let first = all.find_map(|disagreement| disagreement);
        let why = first.map(|first| format!("the run is invalid: {first}"));
        verdicts.push(("repetitions".to_owned(), why));
    }
    for (kernel, measurement) in &kernels {
        for program in &measurement.programs {
            let name = format!("{}, every call, on {}", program.name, KERNELS[*kernel]);
            verdicts.push((name, program.wrong.first().cloned()));
        }
    }
    let rows = rows(&kernels);
    for bound in &bounds {
        verdicts.push((bound.name(), bound.exceeded(&rows)));
    }

    report::write(out, "programs.json", json(&kernels, purpose))?;
    let table = table(&kernels, purpose);
    report::write(out, "programs.md", table.clone())?;
    if matches!(purpose, Purpose::Guard(_)) {
        return Ok(report::print_verdicts(&verdicts, &table));
    }
    print!("{table}");
    let mut good = true;
    for (name, why) in &verdicts {
        if let Some(why) = why {
            println!("invalid: {name}: {why}");
            good = false;
        }
    }
    Ok(good)
}

/// For the bounds, which know no programs.
fn rows(kernels: &[(usize, Measurement)]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (kernel, measurement) in kernels {
        for costs in measurement.programs.iter().flat_map(|p| &p.costs) {
            let index = rows.iter().position(|row| row.path == costs.path);
            let index = index.unwrap_or_else(|| {
                rows.push(Row {
                    path: costs.path.clone(),
                    cost: [f64::NAN; 3],
                    added: [f64::NAN; 3],
                    spread: 0.0,
                });
                rows.len() - 1
            });
            rows[index].cost[*kernel] = costs.median();
        }
    }
    rows
}

fn unit(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Time => "milliseconds",
        _ => "millions of instructions",
    }
}

fn table(kernels: &[(usize, Measurement)], purpose: Purpose) -> String {
    let release = &kernels[0].1.release;
    let unit = unit(purpose);
    let noisy = match purpose {
        Purpose::Time => noise(kernels),
        _ => String::new(),
    };
    let mut text = format!("Linux {release}: {unit}, and the ratio to bare{noisy}\n\n");
    text += "| program | calls | kernel |";
    text += &MECHANISMS.map(|(_, name)| format!(" {name} |")).concat();
    text += "\n|---|---|---|---|---|---|---|---|\n";
    for index in 0..kernels[0].1.programs.len() {
        for (kernel, measurement) in kernels {
            let Some(program) = measurement.programs.get(index) else {
                continue;
            };
            let (name, calls, cells) = (&program.name, program.calls, program.cells(purpose));
            text += &format!("| {name} | {calls} | {} |{cells}\n", KERNELS[*kernel]);
        }
    }
    text
}

/// What is to be known of times.
fn noise(kernels: &[(usize, Measurement)]) -> String {
    let programs = kernels.iter().flat_map(|(_, m)| &m.programs);
    let costs = programs.flat_map(|program| &program.costs);
    let mut spreads: Vec<f64> = costs.map(Samples::spread).collect();
    spreads.sort_by(f64::total_cmp);
    let percent = 100.0 * spreads[spreads.len() / 2];
    format!(
        "; of the fastest repetition, and still noisy: for half of the figures the slowest took \
         at least {percent:.0} % more"
    )
}

fn json(kernels: &[(usize, Measurement)], purpose: Purpose) -> String {
    let all = kernels.iter().flat_map(|(kernel, measurement)| {
        let programs = measurement.programs.iter();
        programs.map(|program| program.json(KERNELS[*kernel], purpose))
    });
    let unit = match purpose {
        Purpose::Time => "nanoseconds",
        _ => "instructions",
    };
    format!(
        "{{\n  \"unit\": \"{unit}\",\n  \"kernel\": {:?},\n  \"programs\": [\n    {}\n  ]\n}}\n",
        kernels[0].1.release,
        all.collect::<Vec<_>>().join(",\n    ")
    )
}
