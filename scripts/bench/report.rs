// SPDX-License-Identifier: GPL-2.0

//! Compares two measurements: table, JSON, picture, and bounds to keep.

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
struct Samples {
    path: String,
    values: Vec<f64>,
}

impl Samples {
    fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        }
    }

    fn extremes(&self) -> (f64, f64) {
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.values.iter().copied().fold(0.0, f64::max);
        (low, high)
    }

    /// From the lowest to the highest, of the lowest.
    fn spread(&self) -> f64 {
        let (low, high) = self.extremes();
        (high - low) / low
    }

    fn disagreement(&self, kernel: &str) -> Option<String> {
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
                measurement.kernel = release.to_owned();
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

    fn of(&self, path: &str) -> Result<&Samples, String> {
        let found = self.samples.iter().find(|samples| samples.path == path);
        found.ok_or_else(|| format!("{path} was not measured on {}", self.kernel))
    }
}

/// One path, compared.
pub struct Row {
    pub path: String,
    pub upstream: f64,
    pub ours: f64,
    /// Over the same syscall with dispatch off, on the same kernel.
    pub upstream_added: f64,
    pub ours_added: f64,
    /// The larger of the two.
    spread: f64,
}

impl Row {
    /// Ours to upstream, of what is added; None where upstream adds nothing to compare with.
    fn ratio(&self) -> Option<f64> {
        let comparable = !self.is_free() && self.upstream_added >= 1.0;
        comparable.then(|| self.ours_added / self.upstream_added)
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

/// Both kernels.
pub struct Report {
    pub kernel: String,
    pub unit: &'static str,
    pub rows: Vec<Row>,
}

/// False if the run is invalid or a bound is exceeded.
pub fn run(ours: &str, upstream: &str, out: &str, purpose: Purpose) -> Result<bool, String> {
    let bounds = match purpose {
        Purpose::Guard(file) => read_bounds(file)?,
        _ => Vec::new(),
    };
    let (ours, upstream) = (Measurement::read(ours)?, Measurement::read(upstream)?);
    let report = compare(&ours, &upstream, purpose)?;

    let write = |name: &str, text: String| {
        let file = Path::new(out).join(name);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
    };
    fs::create_dir_all(out).map_err(|error| format!("{out}: {error}"))?;
    write("report.json", report.json(purpose))?;
    write("report.svg", chart::draw(&report))?;

    let mut disagreements = Vec::new();
    if !matches!(purpose, Purpose::Time) {
        for (kernel, measurement) in [("ours", &ours), ("upstream", &upstream)] {
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

fn compare(ours: &Measurement, upstream: &Measurement, purpose: Purpose) -> Result<Report, String> {
    if ours.kernel != upstream.kernel {
        return Err(format!(
            "not the same version: {} and {}",
            ours.kernel, upstream.kernel
        ));
    }
    for samples in &upstream.samples {
        ours.of(&samples.path)?;
    }
    let mut rows = Vec::new();
    for samples in &ours.samples {
        let path = samples.path.clone();
        let off = match path.ends_with("-int80") {
            true => "off-int80",
            false => "off",
        };
        let theirs = upstream.of(&path)?;
        rows.push(Row {
            upstream: theirs.median(),
            ours: samples.median(),
            upstream_added: theirs.median() - upstream.of(off)?.median(),
            ours_added: samples.median() - ours.of(off)?.median(),
            spread: samples.spread().max(theirs.spread()),
            path,
        });
    }
    let unit = match purpose {
        Purpose::Time => "nanoseconds",
        _ => "instructions",
    };
    Ok(Report {
        kernel: ours.kernel.clone(),
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
            "Linux {}: {} for a getppid, and those added to it with dispatch off\n\n",
            self.kernel, self.unit
        );
        for other in [false, true] {
            table += &format!(
                "{:<20}{:>10}{:>10}{:>16}{:>12}{:>8}{}\n",
                if other { "other mechanism" } else { "path" },
                "upstream",
                "ours",
                "upstream added",
                "ours added",
                "ratio",
                scatter("spread".to_owned()),
            );
            for row in self.rows_of(other) {
                table += &format!(
                    "{:<20}{:>10.1}{:>10.1}{:>16}{:>12}{:>8}{}\n",
                    row.path,
                    row.upstream,
                    row.ours,
                    decimal(row.upstream_added, 1),
                    decimal(row.ours_added, 1),
                    row.ratio().map_or("-".to_owned(), |r| decimal(r, 3)),
                    scatter(format!("{:.1} %", 100.0 * row.spread)),
                );
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
        format!(
            "{{\"path\": \"{}\", \"upstream\": {}, \"ours\": {}, \"upstream_added\": {}, \
             \"ours_added\": {}, \"ratio\": {}{spread}}}",
            self.path,
            decimal(self.upstream, 2),
            decimal(self.ours, 2),
            decimal(self.upstream_added, 2),
            decimal(self.ours_added, 2),
            self.ratio().map_or("null".to_owned(), |r| decimal(r, 3)),
        )
    }
}

/// Fixed decimals, without the sign of a negative number that rounds to nothing.
fn decimal(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        _ => text,
    }
}

struct Bound {
    path: String,
    most: f64,
}

fn read_bounds(file: &str) -> Result<Vec<Bound>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let mut bounds = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let bound = match words[..] {
            [] => continue,
            [path, most] => most.parse().ok().map(|most| (path.to_owned(), most)),
            _ => None,
        };
        let (path, most) =
            bound.ok_or_else(|| format!("{file}: not a path and its bound: {line}"))?;
        bounds.push(Bound { path, most });
    }
    Ok(bounds)
}

impl Bound {
    /// Why it is not kept, if it is not. Counts repeat to the instruction, and so are held to it.
    fn exceeded(&self, rows: &[Row]) -> Option<String> {
        let most = self.most;
        let Some(row) = rows.iter().find(|row| row.path == self.path) else {
            return Some("was not measured".to_owned());
        };
        let (ours, upstream) = (row.ours_added, row.upstream_added);
        if row.is_free() {
            let more = (row.ours - row.upstream).round();
            let why = || format!("instructions more than upstream: {more}, of at most {most}");
            return (more > most).then(why);
        }
        let Some(ratio) = row.ratio() else {
            return Some(format!(
                "upstream adds {upstream:.1}: nothing to compare with"
            ));
        };
        let why =
            || format!("ratio {ratio:.3} exceeds {most}: adds {ours:.1}, upstream {upstream:.1}");
        (ours - most * upstream >= 0.5).then(why)
    }
}

/// Prints the verdicts as KTAP, and says whether all are good.
fn guard(report: &Report, bounds: &[Bound], disagreements: &[String], table: &str) -> bool {
    println!("KTAP version 1\n1..{}", bounds.len() + 1);
    for line in table.lines() {
        println!("{}", format!("# {line}").trim_end());
    }

    // The diagnostic of a result is one line; the first disagreement stands for all.
    let valid = disagreements
        .first()
        .map(|first| format!("the run is invalid: {first}"));
    let verdicts = [("repetitions", valid)].into_iter();
    let verdicts = verdicts.chain(bounds.iter().map(|b| (&*b.path, b.exceeded(&report.rows))));
    let mut good = true;
    for (number, (name, why)) in verdicts.enumerate() {
        let number = number + 1;
        match why {
            None => println!("ok {number} {name}"),
            Some(why) => {
                println!("not ok {number} {name} # {why}");
                good = false;
            }
        }
    }
    good
}
