// SPDX-License-Identifier: GPL-2.0

//! The picture: what each path adds, on the three kernels side by side.

use crate::report::{Report, Row, UPSTREAM};

/// A path, and what it is called in the table of the README, in two lines.
type Named = (&'static str, [&'static str; 2]);

/// What is drawn, panel by panel: they differ by orders of magnitude, so each has its own axis.
/// The paths by int 0x80 tell nothing else and are left to the table that is printed.
const PANELS: [(&str, &[Named]); 2] = [
    (
        "Syscalls that run natively",
        &[
            ("never", ["thread that never armed it", ""]),
            ("region", ["in the region", ""]),
            ("null-region", ["in the region", "without a selector"]),
            (
                "inclusive",
                ["outside of the region", "of an inclusive thread"],
            ),
            ("allow", ["selector says allow", ""]),
        ],
    ),
    (
        "Syscalls that are emulated",
        &[
            ("emulated", ["dispatched, emulated,", "exempt restorer"]),
            (
                "dispatch",
                ["dispatched, emulated,", "restorer allowed by selector"],
            ),
            ("upcall", ["dispatched by an upcall,", "the least handler"]),
            (
                "upcall-c",
                ["dispatched by an upcall,", "handler calls a C function"],
            ),
            ("seccomp-trap", ["seccomp's trap", "SIGSYS by a filter"]),
            (
                "seccomp-notify",
                ["seccomp's user notification", "another thread answers"],
            ),
            ("ptrace-sysemu", ["ptrace", "a tracer answers"]),
        ],
    ),
];

/// The kernels in the order of the figures, each with its colour, and what is the same code on all.
const KERNELS: [(&str, &str); 3] = [
    ("upstream, in C", "#59636e"),
    ("patched C", "#2f6fb3"),
    ("ours, in Rust", "#c2410c"),
];
const OTHERS: (&str, &str) = ("other mechanisms, the same code on each", "#c3c9d0");
const INK: &str = "#1f2328";
const PALE: &str = "#59636e";
const GRID: &str = "#d9dee3";

const WIDTH: f64 = 880.0;
/// Where bars begin, and the length of an axis.
const LEFT: f64 = 250.0;
const AXIS: f64 = 560.0;
const BAR: f64 = 12.0;
const ROW: f64 = 52.0;

pub fn draw(report: &Report) -> String {
    let mut body = String::new();
    let mut y = 36.0;

    let off = report.rows.iter().find(|row| row.path == "off");
    let off = off.map_or(0.0, |row| row.cost[UPSTREAM]);
    text(
        &mut body,
        24.0,
        y,
        "title",
        "What Syscall User Dispatch adds to a syscall",
    );
    y += 22.0;
    let subtitle = format!(
        "{} added to a getppid of {} with dispatch off; Linux {}, x86-64",
        report.unit,
        number(off),
        report.kernel
    );
    text(&mut body, 24.0, y, "pale", &subtitle);
    y += 26.0;
    let mut x = 24.0;
    for (name, colour) in KERNELS.into_iter().chain([OTHERS]) {
        body += &rectangle(x, y - 11.0, 13.0, 13.0, colour);
        text(&mut body, x + 19.0, y, "", name);
        x += 140.0;
    }

    for (title, paths) in PANELS {
        let rows: Vec<(&Row, [&str; 2])> = paths
            .iter()
            .filter_map(|(path, name)| {
                Some((report.rows.iter().find(|row| row.path == *path)?, *name))
            })
            .collect();
        y += 44.0;
        text(&mut body, 24.0, y, "panel", title);
        y += 12.0;
        y = panel(&mut body, y, &rows, report.unit);
    }
    let height = y + 24.0;

    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"13\">\n\
         <!-- SPDX-License-Identifier: GPL-2.0 -->\n\
         <title>What Syscall User Dispatch adds to a syscall: upstream, patched C and ours</title>\n\
         <style>text {{ fill: {INK} }} .title {{ font-size: 20px; font-weight: 600 }} \
         .panel {{ font-size: 15px; font-weight: 600 }} .path {{ font-weight: 600 }} \
         .pale {{ fill: {PALE} }} .small {{ fill: {PALE}; font-size: 11.5px }} \
         .value {{ font-size: 12px }} .right {{ text-anchor: end }} \
         .middle {{ text-anchor: middle }}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Draws the rows from `top` on, and returns where it ends.
fn panel(body: &mut String, top: f64, rows: &[(&Row, [&str; 2])], unit: &str) -> f64 {
    let bottom = top + ROW * rows.len() as f64;
    let added = rows.iter().flat_map(|(row, _)| row.added);
    let largest = added.fold(1.0, f64::max);
    let step = step(largest);
    let scale = AXIS / ((largest / step).ceil() * step);

    let mut tick = 0.0;
    while tick * scale <= AXIS + 0.5 {
        let x = LEFT + tick * scale;
        *body += &format!("<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"{GRID}\"/>\n");
        text(body, x, bottom + 16.0, "small middle", &number(tick));
        tick += step;
    }
    let label = format!("{unit} added");
    text(
        body,
        LEFT + AXIS / 2.0,
        bottom + 33.0,
        "small middle",
        &label,
    );

    for (index, (row, [name, detail])) in rows.iter().enumerate() {
        let middle = top + ROW * (index as f64 + 0.5);
        let raise = if detail.is_empty() { -4.0 } else { 4.0 };
        text(body, LEFT - 12.0, middle - raise, "path right", name);
        text(body, LEFT - 12.0, middle + 12.0, "small right", detail);

        let bars: Vec<(f64, &str)> = match row.is_other_mechanism() {
            true => vec![(row.added[UPSTREAM], OTHERS.1)],
            false => (row.added.into_iter().zip(KERNELS.map(|k| k.1)))
                .filter(|(added, _)| !added.is_nan())
                .collect(),
        };
        let pitch = BAR + 2.0;
        let mut y = middle - (pitch * bars.len() as f64 - 2.0) / 2.0;
        for (added, colour) in bars {
            let length = added.max(0.0) * scale;
            *body += &rectangle(LEFT, y, length, BAR, colour);
            text(
                body,
                LEFT + length + 6.0,
                y + BAR - 1.5,
                "value",
                &number(added),
            );
            y += pitch;
        }
    }
    *body += &format!("<path d=\"M{LEFT} {top:.1}V{bottom:.1}\" stroke=\"{PALE}\"/>\n");
    bottom + 33.0
}

/// A round distance between ticks that makes four to eight of them.
fn step(largest: f64) -> f64 {
    let magnitude = 10f64.powf((largest / 4.0).log10().floor());
    let fitting = [5.0, 2.0, 1.0]
        .into_iter()
        .find(|n| n * magnitude * 4.0 <= largest);
    fitting.unwrap_or(1.0) * magnitude
}

fn rectangle(x: f64, y: f64, width: f64, height: f64, colour: &str) -> String {
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
         fill=\"{colour}\"/>\n"
    )
}

/// `content` is a number or a text of this program or a kernel release: nothing to be escaped.
fn text(body: &mut String, x: f64, y: f64, class: &str, content: &str) {
    *body += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{content}</text>\n");
}

/// Whole, with the thousands set apart.
fn number(value: f64) -> String {
    let digits = format!("{:.0}", value.abs().round());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value.round() < 0.0 {
        text.insert(0, '-');
    }
    text
}
