// SPDX-License-Identifier: GPL-2.0

//! The picture: what each path adds, upstream beside ours.

use crate::report::{Report, Row};

/// What is drawn, panel by panel: they differ by orders of magnitude, so each has its own axis.
/// The paths by int 0x80 tell nothing else and are left to the table.
const PANELS: [(&str, &[(&str, &str)]); 2] = [
    (
        "Syscalls that run natively",
        &[
            ("region", "made in the exempt region"),
            ("null-region", "the same, without a selector"),
            ("inclusive", "made outside of the included region"),
            ("allow", "the selector says allow"),
        ],
    ),
    (
        "Syscalls that are emulated",
        &[
            ("emulated", "handler returns by the exempt region"),
            ("dispatch", "handler returns by the selector"),
            ("seccomp-trap", "SIGSYS by a seccomp filter"),
            ("seccomp-notify", "another thread answers"),
            ("ptrace-sysemu", "a tracer answers"),
        ],
    ),
];

const UPSTREAM: &str = "#8a8f98";
const OURS: &str = "#c2410c";
const INK: &str = "#1f2328";
const PALE: &str = "#59636e";
const GRID: &str = "#d9dee3";

const WIDTH: f64 = 880.0;
/// Where bars begin, and the length of an axis.
const LEFT: f64 = 270.0;
const AXIS: f64 = 520.0;
const BAR: f64 = 15.0;
const ROW: f64 = 46.0;

pub fn draw(report: &Report) -> String {
    let mut body = String::new();
    let mut y = 36.0;

    let off = report.rows.iter().find(|row| row.path == "off");
    let off = off.map_or(0.0, |row| row.upstream);
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
    for (colour, name) in [(UPSTREAM, "upstream, in C"), (OURS, "ours, in Rust")] {
        body += &rectangle(x, y - 11.0, 13.0, 13.0, colour);
        text(&mut body, x + 19.0, y, "", name);
        x += 140.0;
    }

    for (title, paths) in PANELS {
        let rows: Vec<(&Row, &str)> = paths
            .iter()
            .filter_map(|(path, meaning)| {
                Some((report.rows.iter().find(|row| row.path == *path)?, *meaning))
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
         <title>What Syscall User Dispatch adds to a syscall, upstream and ours</title>\n\
         <style>text {{ fill: {INK} }} .title {{ font-size: 20px; font-weight: 600 }} \
         .panel {{ font-size: 15px; font-weight: 600 }} .path {{ font-weight: 600 }} \
         .pale {{ fill: {PALE} }} .small {{ fill: {PALE}; font-size: 11.5px }} \
         .right {{ text-anchor: end }} .middle {{ text-anchor: middle }}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Draws the rows from `top` on, and returns where it ends.
fn panel(body: &mut String, top: f64, rows: &[(&Row, &str)], unit: &str) -> f64 {
    let bottom = top + ROW * rows.len() as f64;
    let largest = rows.iter().fold(1.0, |most: f64, (row, _)| {
        most.max(row.upstream_added.max(row.ours_added))
    });
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

    for (index, (row, meaning)) in rows.iter().enumerate() {
        let y = top + ROW * index as f64 + 6.0;
        text(body, LEFT - 12.0, y + 13.0, "path right", &row.path);
        text(body, LEFT - 12.0, y + 29.0, "small right", meaning);
        for (y, added, colour) in [
            (y, row.upstream_added, UPSTREAM),
            (y + BAR + 2.0, row.ours_added, OURS),
        ] {
            let length = added.max(0.0) * scale;
            *body += &rectangle(LEFT, y, length, BAR, colour);
            text(body, LEFT + length + 6.0, y + BAR - 3.0, "", &number(added));
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
