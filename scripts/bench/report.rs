// SPDX-License-Identifier: GPL-2.0

//! Compares the measurements of three kernels: table, JSON, picture, and bounds to keep.

use crate::chart;
use std::{fs, path::Path};

/// What the measurements are for.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// Counted instructions, which repeat: where they do not, the run is invalid.
    Count,
    /// The same, held against the bounds in a file.
    Guard(&'a str),
    /// Nanoseconds of a real processor, which scatter: the scatter is shown.
    Time,
}

/// How far the repetitions of a count may lie apart, of the smallest.
const AGREEMENT: f64 = 0.005;

/// The repetitions of one path on one kernel.
pub struct Samples {
    pub path: String,
    pub values: Vec<f64>,
}

impl Samples {
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        }
    }

    pub fn extremes(&self) -> (f64, f64) {
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.values.iter().copied().fold(0.0, f64::max);
        (low, high)
    }

    /// From the lowest to the highest, of the lowest.
    pub fn spread(&self) -> f64 {
        let (low, high) = self.extremes();
        (high - low) / low
    }

    pub fn disagreement(&self, kernel: &str) -> Option<String> {
        let (low, high) = self.extremes();
        if self.values.len() < 2 {
            Some(format!("{} on {kernel} was measured once", self.path))
        } else if self.spread() > AGREEMENT {
            let percent = 100.0 * self.spread();
            let path = &self.path;
            Some(format!(
                "{path} on {kernel}: {low} and {high} are {percent:.1} % apart"
            ))
        } else {
            None
        }
    }
}

/// What `bench measure` printed, once or several times.
struct Measurement {
    kernel: String,
    samples: Vec<Samples>,
}

impl Measurement {
    fn read(file: &str) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let mut measurement = Self {
            kernel: String::new(),
            samples: Vec::new(),
        };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(release) = line.strip_prefix("# kernel ") {
                // Behind it comes what tells the three apart.
                let version = release.split('-').next().unwrap_or(release);
                measurement.kernel = version.to_owned();
                continue;
            }
            let (path, value) = line
                .split_once(' ')
                .and_then(|(path, value)| Some((path, value.parse::<f64>().ok()?)))
                .filter(|(_, value)| value.is_finite() && *value > 0.0)
                .ok_or_else(|| format!("{file}: not a measurement: {line}"))?;
            let samples = &mut measurement.samples;
            match samples.iter_mut().find(|samples| samples.path == path) {
                Some(samples) => samples.values.push(value),
                None => samples.push(Samples {
                    path: path.to_owned(),
                    values: vec![value],
                }),
            }
        }
        if measurement.kernel.is_empty() || measurement.samples.is_empty() {
            return Err(format!("{file}: the measurement is not complete"));
        }
        Ok(measurement)
    }

    fn of(&self, path: &str, kernel: &str) -> Result<&Samples, String> {
        let found = self.samples.iter().find(|samples| samples.path == path);
        found.ok_or_else(|| format!("{path} was not measured on {kernel}"))
    }
}

/// The kernels, in the order in which they are shown.
pub const KERNELS: [&str; 3] = ["upstream", "patched C", "ours"];
pub const UPSTREAM: usize = 0;
pub const PATCHED_C: usize = 1;
pub const OURS: usize = 2;

/// One path, compared. Its figures are those of the kernels; not a number on one that lacks it.
pub struct Row {
    pub path: String,
    pub cost: [f64; 3],
    /// Over the same syscall with dispatch off, on the same kernel.
    pub added: [f64; 3],
    /// The largest of the three.
    pub spread: f64,
}

impl Row {
    /// Ours to upstream, of what is added; None where upstream adds nothing to compare with.
    fn ratio(&self) -> Option<f64> {
        let comparable = !self.is_free() && self.added[UPSTREAM] >= 1.0;
        comparable.then(|| self.added[OURS] / self.added[UPSTREAM])
    }

    /// Whether ours takes so many more than another kernel, for the whole syscall, and the words
    /// for it.
    fn exceeds(&self, kernel: usize, most: f64) -> Option<String> {
        let more = self.cost[OURS] - self.cost[kernel];
        let (kernel, unit) = (KERNELS[kernel], "instructions");
        let why = || format!("{more:.1} {unit} more than {kernel}, of at most {most}");
        (more - most >= 0.5).then(why)
    }

    /// The path of a thread that is not armed.
    fn is_free(&self) -> bool {
        ["off", "never"].contains(&self.path.trim_end_matches("-int80"))
    }

    /// The same emulation by another mechanism.
    pub fn is_other_mechanism(&self) -> bool {
        self.path.starts_with("seccomp-") || self.path.starts_with("ptrace-")
    }
}

pub struct Report {
    pub kernel: String,
    pub unit: &'static str,
    pub rows: Vec<Row>,
}

/// Reads the file of each kernel. False if the run is invalid or a bound is exceeded.
pub fn run(files: [&str; 3], out: &str, purpose: Purpose) -> Result<bool, String> {
    let bounds = match purpose {
        Purpose::Guard(file) => read_bounds(file)?,
        _ => Vec::new(),
    };
    let [upstream, patched_c, ours] = files.map(Measurement::read);
    let measurements = [upstream?, patched_c?, ours?];
    let report = compare(&measurements, purpose)?;

    write(out, "report.json", report.json(purpose))?;
    write(out, "report.svg", chart::draw(&report))?;

    let mut disagreements = Vec::new();
    if !matches!(purpose, Purpose::Time) {
        for (kernel, measurement) in KERNELS.iter().zip(&measurements) {
            let all = measurement.samples.iter();
            disagreements.extend(all.filter_map(|samples| samples.disagreement(kernel)));
        }
    }

    let table = report.table(purpose);
    if matches!(purpose, Purpose::Guard(_)) {
        return Ok(guard(&report, &bounds, &disagreements, &table));
    }
    print!("{table}");
    for disagreement in &disagreements {
        println!("invalid: {disagreement}");
    }
    Ok(disagreements.is_empty())
}

pub fn write(directory: &str, name: &str, text: String) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| format!("{directory}: {error}"))?;
    let file = Path::new(directory).join(name);
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn compare(measurements: &[Measurement; 3], purpose: Purpose) -> Result<Report, String> {
    let [upstream, others @ ..] = measurements;
    if let Some(other) = others.iter().find(|m| m.kernel != upstream.kernel) {
        return Err(format!(
            "not the same version: {} and {}",
            upstream.kernel, other.kernel
        ));
    }
    let mut paths: Vec<&str> = Vec::new();
    for samples in measurements.iter().flat_map(|m| &m.samples) {
        if !paths.contains(&&*samples.path) {
            paths.push(&samples.path);
        }
    }
    let mut rows = Vec::new();
    for path in paths {
        let off = match path.ends_with("-int80") {
            true => "off-int80",
            false => "off",
        };
        let mut row = Row {
            path: path.to_owned(),
            cost: [0.0; 3],
            added: [0.0; 3],
            spread: 0.0,
        };
        for (index, measurement) in measurements.iter().enumerate() {
            // Of what is measured, only this is not everywhere.
            if index == UPSTREAM && path.starts_with("upcall") {
                row.cost[index] = f64::NAN;
                row.added[index] = f64::NAN;
                continue;
            }
            let samples = measurement.of(path, KERNELS[index])?;
            row.cost[index] = samples.median();
            row.added[index] = samples.median() - measurement.of(off, KERNELS[index])?.median();
            row.spread = row.spread.max(samples.spread());
        }
        rows.push(row);
    }
    let unit = match purpose {
        Purpose::Time => "nanoseconds",
        _ => "instructions",
    };
    Ok(Report {
        kernel: upstream.kernel.clone(),
        unit,
        rows,
    })
}

impl Report {
    fn rows_of(&self, other_mechanism: bool) -> impl Iterator<Item = &Row> {
        let wanted = move |row: &&Row| row.is_other_mechanism() == other_mechanism;
        self.rows.iter().filter(wanted)
    }

    fn table(&self, purpose: Purpose) -> String {
        let scatter = |text: String| match purpose {
            Purpose::Time => format!("{text:>9}"),
            _ => String::new(),
        };
        let mut table = format!(
            "Linux {}: {} for a getppid, and those added (+) to it with dispatch off;\n\
             the ratio is that of what ours and upstream add\n\n",
            self.kernel, self.unit
        );
        for other in [false, true] {
            let title = if other { "other mechanism" } else { "path" };
            table += &format!("{title:<18}");
            for prefix in ["", "+"] {
                for kernel in KERNELS {
                    table += &format!("{:>12}", format!("{prefix}{kernel}"));
                }
            }
            table += &format!("{:>8}{}\n", "ratio", scatter("spread".to_owned()));
            for row in self.rows_of(other) {
                table += &format!("{:<18}", row.path);
                for value in row.cost.iter().chain(&row.added) {
                    table += &format!("{:>12}", decimal(*value, 1));
                }
                let ratio = row.ratio().map_or("-".to_owned(), |r| decimal(r, 3));
                let spread = scatter(format!("{:.1} %", 100.0 * row.spread));
                table += &format!("{ratio:>8}{spread}\n");
            }
            if !other {
                table.push('\n');
            }
        }
        table
    }

    fn json(&self, purpose: Purpose) -> String {
        let rows = |other| {
            let rows: Vec<String> = self.rows_of(other).map(|row| row.json(purpose)).collect();
            rows.join(",\n    ")
        };
        // A kernel release is plain ASCII, which Rust quotes as JSON does.
        format!(
            "{{\n  \"unit\": \"{}\",\n  \"kernel\": {:?},\n  \"paths\": [\n    {}\n  ],\n  \
             \"mechanisms\": [\n    {}\n  ]\n}}\n",
            self.unit,
            self.kernel,
            rows(false),
            rows(true)
        )
    }
}

impl Row {
    fn json(&self, purpose: Purpose) -> String {
        let spread = match purpose {
            Purpose::Time => format!(", \"spread\": {}", decimal(self.spread, 4)),
            _ => String::new(),
        };
        let figures: String = (KERNELS.iter().zip(self.cost.iter().zip(&self.added)))
            .map(|(kernel, (cost, added))| {
                let key = kernel.to_lowercase().replace(' ', "_");
                let number = |value: &f64| match value.is_nan() {
                    true => "null".to_owned(),
                    false => decimal(*value, 2),
                };
                let (cost, added) = (number(cost), number(added));
                format!("\"{key}\": {cost}, \"{key}_added\": {added}, ")
            })
            .collect();
        format!(
            "{{\"path\": \"{}\", {figures}\"ratio\": {}{spread}}}",
            self.path,
            self.ratio().map_or("null".to_owned(), |r| decimal(r, 3)),
        )
    }
}

/// Fixed decimals, without the sign of a negative number that rounds to nothing.
fn decimal(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "-".to_owned();
    }
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        _ => text,
    }
}

pub struct Bound {
    path: String,
    most: f64,
    /// The path whose cost on our kernel `most` is a multiple of, in place of what upstream adds.
    of: Option<String>,
}

pub fn read_bounds(file: &str) -> Result<Vec<Bound>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let mut bounds = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let bound = match words[..] {
            [] => continue,
            [path, most] => Some((path, most, None)),
            [path, most, "of", of] => Some((path, most, Some(of.to_owned()))),
            _ => None,
        };
        let bound = bound.and_then(|(path, most, of)| {
            let (path, most) = (path.to_owned(), most.parse().ok()?);
            Some(Bound { path, most, of })
        });
        bounds.push(bound.ok_or_else(|| format!("{file}: not a path and its bound: {line}"))?);
    }
    Ok(bounds)
}

impl Bound {
    pub fn name(&self) -> String {
        match &self.of {
            Some(of) => format!("{}, of {of}", self.path),
            None => self.path.clone(),
        }
    }

    /// Why it is not kept, if it is not. Counts repeat to the instruction, and so are held to it.
    pub fn exceeded(&self, rows: &[Row]) -> Option<String> {
        let most = self.most;
        let find = |path: &str| rows.iter().find(|row| row.path == path);
        let Some(row) = find(&self.path) else {
            return Some("was not measured".to_owned());
        };
        if let Some(path) = &self.of {
            let Some(other) = find(path) else {
                return Some(format!("{path} was not measured"));
            };
            let (cost, other) = (row.cost[OURS], other.cost[OURS]);
            let why = || format!("costs {cost:.1}, more than {most} of {path}'s {other:.1}");
            return (cost - most * other >= 0.5).then(why);
        }
        if row.is_free() {
            return row.exceeds(UPSTREAM, most);
        }
        let Some(ratio) = row.ratio() else {
            return Some("upstream adds nothing to compare with".to_owned());
        };
        let (ours, upstream) = (row.added[OURS], row.added[UPSTREAM]);
        let why =
            || format!("ratio {ratio:.3} exceeds {most}: adds {ours:.1}, upstream {upstream:.1}");
        (ours - most * upstream >= 0.5).then(why)
    }
}

/// Judges the run, and says whether all is good.
fn guard(report: &Report, bounds: &[Bound], disagreements: &[String], table: &str) -> bool {
    // The diagnostic of a result is one line; the first disagreement stands for all.
    let first = disagreements.first();
    let valid = first.map(|first| format!("the run is invalid: {first}"));
    let mut verdicts = vec![("repetitions".to_owned(), valid)];
    for bound in bounds {
        verdicts.push((bound.name(), bound.exceeded(&report.rows)));
    }
    for row in report.rows_of(false) {
        let name = format!("{}, no more than patched C", row.path);
        verdicts.push((name, row.exceeds(PATCHED_C, 0.0)));
    }
    print_verdicts(&verdicts, table)
}

/// What was judged, and why it is not good.
pub type Verdict = (String, Option<String>);

/// Prints them as KTAP.
pub fn print_verdicts(verdicts: &[Verdict], table: &str) -> bool {
    println!("KTAP version 1\n1..{}", verdicts.len());
    for line in table.lines() {
        println!("{}", format!("# {line}").trim_end());
    }
    for (number, (name, why)) in (1..).zip(verdicts) {
        match why {
            None => println!("ok {number} {name}"),
            Some(why) => println!("not ok {number} {name} # {why}"),
        }
    }
    verdicts.iter().all(|(_, why)| why.is_none())
}
