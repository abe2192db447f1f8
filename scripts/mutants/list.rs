// SPDX-License-Identifier: GPL-2.0

//! The mutants: what cargo-mutants makes of the sources, which are operators, comparisons, match
//! arms and whole functions, and what it leaves alone: constants, early returns, statements.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A source file that is changed in one place.
pub struct Mutant {
    /// The file, what was changed, and the function: without a line, so that it stays the same.
    pub name: String,
    pub file: String,
    pub text: String,
}

/// A source file.
pub struct Source {
    /// Its name, which no other has.
    pub file: String,
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    /// The sources of the crate: the files below `tree` that `names` has, by themselves or by
    /// their directory.
    pub fn all(tree: &Path, names: &str) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        for name in names.split_whitespace() {
            let path = tree.join(name);
            let error = |error| format!("{}: {error}", path.display());
            let paths: Vec<PathBuf> = match path.is_dir() {
                true => fs::read_dir(&path)
                    .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
                    .map_err(error)?,
                false => vec![path.clone()],
            };
            for path in paths {
                if path.extension().is_some_and(|extension| extension == "rs") {
                    all.push(Self {
                        file: path
                            .file_name()
                            .unwrap_or_default()
                            .to_string_lossy()
                            .into(),
                        text: fs::read_to_string(&path).map_err(error)?,
                        path,
                    });
                }
            }
        }
        all.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(all)
    }

    /// What comes before the tests, and the tests.
    fn split(&self) -> (&str, &str) {
        let tests = "#[cfg(CONFIG_SYSCALL_USER_DISPATCH_KUNIT_TEST)]";
        self.text
            .split_at(self.text.find(tests).unwrap_or(self.text.len()))
    }

    pub fn tests(&self) -> &str {
        self.split().1
    }

    /// The code proper: the tests are left away, and comments and strings are blank. Every byte
    /// has the place that it has in the source.
    pub fn code(&self) -> String {
        let text = self.split().0;
        let mut code = text.as_bytes().to_vec();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let end = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with('"') {
                rest[1..].find('"').map_or(rest.len(), |end| end + 2)
            } else {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            };
            code[at..at + end].fill(b' ');
            at += end;
        }
        String::from_utf8(code).expect("what is not ASCII lies in comments")
    }

    /// The mutant that has `replacement` at `start..end`.
    fn replaced(&self, code: &str, what: String, start: usize, end: usize, by: &str) -> Mutant {
        Mutant {
            name: format!("{}: {what} in {}", self.file, function(code, start)),
            file: self.file.clone(),
            text: [&self.text[..start], by, &self.text[end..]].concat(),
        }
    }
}

/// All mutants of the sources; `tool` is cargo-mutants, which wants a package, made in `package`.
pub fn all(sources: &[Source], tool: &str, package: &Path) -> Result<Vec<Mutant>, String> {
    let mut mutants = by_the_tool(sources, tool, package)?;
    for source in sources {
        mutants.extend(words(source));
        mutants.extend(statements(source));
    }

    // The same change at another place of a function has a number.
    let mut seen = HashMap::new();
    for Mutant { name, .. } in &mut mutants {
        let times = seen.entry(name.clone()).or_insert(0);
        *times += 1;
        if *times > 1 {
            *name = format!("{name} #{times}");
        }
    }
    mutants.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(mutants)
}

/// The root of the crate.
const ROOT: &str = "user_dispatch.rs";

/// Declarations of what is included, which cargo-mutants looks at only as a module.
fn included(sources: &[Source], root: &str) -> Vec<String> {
    let files = sources.iter().map(|source| source.file.as_str());
    files
        .filter(|file| *file != ROOT)
        .map(|file| format!("mod {};\n", file.trim_end_matches(".rs")))
        .filter(|declaration| !root.contains(declaration.as_str()))
        .collect()
}

/// What cargo-mutants lists. It needs not be able to build the package. It leaves functions alone
/// that are `unsafe`, as our entry points are by their signatures, so it does not get to see that.
fn by_the_tool(sources: &[Source], tool: &str, package: &Path) -> Result<Vec<Mutant>, String> {
    let write = |file: &str, text: &str| {
        fs::write(package.join(file), text).map_err(|error| format!("{file}: {error}"))
    };
    fs::create_dir_all(package).map_err(|error| format!("{}: {error}", package.display()))?;
    write(
        "Cargo.toml",
        &format!(
            "[package]\nname = \"mutants\"\nedition = \"2021\"\n\
             [lib]\npath = \"{ROOT}\"\n[workspace]\n"
        ),
    )?;
    for source in sources {
        let mut text = source
            .split()
            .0
            .replace("unsafe fn", "       fn")
            .replace("unsafe extern", "       extern");
        if source.file == ROOT {
            text.extend(included(sources, &text));
        }
        write(&source.file, &text)?;
    }

    let output = Command::new(tool)
        .args(["mutants", "--list", "--diff", "--line-col=false"])
        .args(["--colors=never", "--error=EPERM", "--dir"])
        .arg(package)
        .output()
        .map_err(|error| format!("{tool}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo-mutants cannot list the mutants:\n{said}"));
    }

    // A name, and below it a unified diff, each line of which has its mark in front.
    const MARKS: [char; 5] = [' ', '+', '-', '@', '\\'];
    let list = String::from_utf8_lossy(&output.stdout);
    let mut lines = list.lines().peekable();
    let mut mutants = Vec::new();
    while let Some(name) = lines.next() {
        let mut diff = Vec::new();
        while let Some(line) = lines.next_if(|line| line.is_empty() || line.starts_with(MARKS)) {
            diff.push(line);
        }
        let file = name.split(':').next().unwrap_or_default();
        let Some(source) = sources.iter().find(|source| source.file == file) else {
            return Err(format!("cargo-mutants lists what is no mutant: {name}"));
        };
        mutants.push(Mutant {
            name: name.to_owned(),
            file: file.to_owned(),
            text: patched(&source.text, &diff),
        });
    }
    Ok(mutants)
}

/// `text` with the hunks of `diff` applied, whose context is not compared.
fn patched(text: &str, diff: &[&str]) -> String {
    let mut old = text.split_inclusive('\n');
    let mut new = String::new();
    let mut taken = 0;
    let hunks = diff.iter().skip_while(|line| !line.starts_with("@@"));
    for line in hunks {
        match line.chars().next() {
            Some('@') => {
                let first = line.split([' ', ',', '-']).nth(2);
                let first = first.and_then(|n| n.parse().ok()).unwrap_or(1);
                new.extend(old.by_ref().take(first - 1 - taken));
                taken = first - 1;
            }
            Some(' ') => {
                new.extend(old.next());
                taken += 1;
            }
            Some('-') => {
                old.next();
                taken += 1;
            }
            Some('+') => new += &format!("{}\n", &line[1..]),
            _ => {}
        }
    }
    new.extend(old);
    new
}

/// The functions of `code`: where they begin, and their names.
fn functions(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices("fn ").filter_map(|(at, _)| {
        let name = code[at + 3..].split(|c| !is_word(c)).next()?;
        (!name.is_empty() && !code[..at].ends_with(is_word)).then_some((at, name))
    })
}

/// The name of the function that `at` is in, or of the last one before.
fn function(code: &str, at: usize) -> &str {
    functions(&code[..at]).last().map_or("", |(_, name)| name)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What stands for another word of its kind: constants, and operators that are written as words.
/// (`to_le()` does nothing here, so it takes a negation away.)
const INSTEAD: [(&str, &str); 22] = [
    ("true", "false"),
    ("false", "true"),
    ("EINVAL", "EPERM"),
    ("EPERM", "EFAULT"),
    ("EFAULT", "EINVAL"),
    ("OFF", "EXCLUSIVE_ON"),
    ("EXCLUSIVE_ON", "INCLUSIVE_ON"),
    ("INCLUSIVE_ON", "EXCLUSIVE_ON"),
    ("Bits32", "Bits64"),
    ("Bits64", "Bits32"),
    ("Run", "Dispatch"),
    ("Dispatch", "Run"),
    ("BadSelector", "NoSelector"),
    ("NoSelector", "BadSelector"),
    ("SIGSYS", "SIGSEGV"),
    ("SIGSEGV", "SIGSYS"),
    ("wrapping_add", "wrapping_sub"),
    ("wrapping_sub", "wrapping_add"),
    ("wrapping_neg", "to_le"),
    ("checked_add", "checked_sub"),
    ("set_bit", "clear_bit"),
    ("clear_bit", "set_bit"),
];

/// Words within functions: numbers more and less by one, others exchanged. What lies before the
/// first function is names of what the interface has, which are compared when it is built.
fn words(source: &Source) -> Vec<Mutant> {
    let code = source.code();
    let mut mutants = Vec::new();
    let mut at = functions(&code).next().map_or(code.len(), |(at, _)| at);
    while at < code.len() {
        let length = code[at..].find(|c| !is_word(c)).unwrap_or(code.len() - at);
        if length == 0 {
            at += 1;
            continue;
        }
        let (before, word) = (&code[..at], &code[at..at + length]);
        for other in others(before, word) {
            let what = format!("replace {word} with {other}");
            mutants.push(source.replaced(&code, what, at, at + length, &other));
        }
        at += length;
    }
    mutants
}

fn others(before: &str, word: &str) -> Vec<String> {
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        // What follows a dot is the number of a field.
        let digits = word.replace('_', "");
        let number = match digits.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        let Some(number) = number.ok().filter(|_| !before.ends_with('.')) else {
            return Vec::new();
        };
        let near = [number.checked_add(1), number.checked_sub(1)];
        let write = |number| match digits.starts_with("0x") {
            true => format!("{number:#x}"),
            false => format!("{number}"),
        };
        return near.into_iter().flatten().map(write).collect();
    }
    // A variant by its bare name is being declared.
    let declared = word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.contains(|c: char| c.is_ascii_lowercase())
        && !before.ends_with("::");
    match INSTEAD.iter().find(|(name, _)| *name == word) {
        Some((_, other)) if !declared => return vec![other.to_string()],
        _ => {}
    }
    let upper = |c: char| c.is_ascii_uppercase() || c == '_';
    match word {
        "MAX" => vec!["MAX.wrapping_sub(1)".into()],
        _ if before.ends_with("bindings::") && word.chars().all(upper) => {
            vec![format!("{word}.wrapping_add(1)")]
        }
        _ => Vec::new(),
    }
}

/// Statements that can be left away: all but those that declare something.
fn statements(source: &Source) -> Vec<Mutant> {
    const DECLARATIONS: [&str; 7] = [
        "let ",
        "const ",
        "use ",
        "type ",
        "pub",
        "struct ",
        "unsafe fn ",
    ];

    let code = source.code();
    let mut mutants = Vec::new();
    let mut start = functions(&code).next().map_or(code.len(), |(at, _)| at);
    while start < code.len() {
        let line = code[start..].split('\n').next().unwrap_or_default();
        let (next, first) = (start + line.len() + 1, line.trim());
        let before = code[..start].trim_end().chars().last();
        if line.starts_with("    ")
            && !first.is_empty()
            && before.is_some_and(|c| "{};".contains(c))
            && !DECLARATIONS.iter().any(|d| first.starts_with(d))
        {
            if let Some(length) = statement(&code[start..]) {
                let what = format!("delete `{first}`");
                mutants.push(source.replaced(&code, what, start, start + length, ""));
            }
        }
        start = next;
    }
    mutants
}

/// How long the statement is that `code` begins with, if it is one that ends with a semicolon.
fn statement(code: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return None,
            ')' | ']' | '}' => depth -= 1,
            ';' if depth == 0 => return Some(at + 1),
            _ => {}
        }
        // A block without a semicolon ends a statement of the other kind.
        if c == '}' && depth == 0 && !code[at + 1..].trim_start().starts_with([';', '.', '?']) {
            return None;
        }
    }
    None
}
