// SPDX-License-Identifier: GPL-2.0

//! What is known of the mutants, in `build/mutants/results`, and what is argued of them.

use crate::{
    list::{Mutant, Source},
    Place,
};
use std::{
    collections::HashMap,
    fmt,
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::Path,
};

/// What became of a mutant.
#[derive(Clone)]
pub enum Outcome {
    /// By which test, and what that said.
    Caught(String),
    /// How the guest ended, and in which test.
    Broke(String),
    /// It could not be built, or must not.
    Refused(String),
    Survived,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught(by) => write!(f, "caught by {by}"),
            Self::Broke(how) => write!(f, "caught, as the guest {how}"),
            Self::Refused(why) => write!(f, "does not build: {why}"),
            Self::Survived => write!(f, "SURVIVED"),
        }
    }
}

/// The outcomes, each under a key that stands for all the code that it is about. A mutant that
/// survived may not survive other tests, so its key stands for them too.
pub struct Record {
    file: File,
    known: HashMap<String, Outcome>,
    code: u64,
    tests: u64,
}

impl Record {
    pub fn open(place: &Place, sources: &[Source]) -> Result<Self, String> {
        let path = place.own("results");
        let error = |error| format!("{}: {error}", path.display());
        let mut known = HashMap::new();
        for line in fs::read_to_string(&path).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [key, kind, said, _name] = fields[..] else {
                continue;
            };
            let outcome = match kind {
                "caught" => Outcome::Caught(said.to_owned()),
                "broke" => Outcome::Broke(said.to_owned()),
                "refused" => Outcome::Refused(said.to_owned()),
                _ => Outcome::Survived,
            };
            known.insert(key.to_owned(), outcome);
        }

        // Another comment or line break makes no other code.
        let words =
            |text: String| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let code: Vec<_> = sources.iter().map(|s| words(s.code())).collect();
        let mut tests: Vec<_> = sources.iter().map(|s| s.tests().to_owned()).collect();
        let selftests = "tools/testing/selftests/syscall_user_dispatch";
        tests.extend(contents(&place.build.join("linux").join(selftests))?);

        Ok(Self {
            file: OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(error)?,
            known,
            code: hash(&code),
            tests: hash(&tests),
        })
    }

    pub fn get(&self, mutant: &Mutant) -> Option<&Outcome> {
        let survived = hash(&(self.code, &mutant.name, self.tests));
        let ended = hash(&(self.code, &mutant.name));
        self.known
            .get(&format!("{survived:016x}"))
            .or_else(|| self.known.get(&format!("{ended:016x}")))
    }

    pub fn add(&mut self, mutant: &Mutant, outcome: Outcome) -> Result<(), String> {
        let (kind, said) = match &outcome {
            Outcome::Caught(by) => ("caught", by.as_str()),
            Outcome::Broke(how) => ("broke", how.as_str()),
            Outcome::Refused(why) => ("refused", why.as_str()),
            Outcome::Survived => ("survived", ""),
        };
        let key = match outcome {
            Outcome::Survived => hash(&(self.code, &mutant.name, self.tests)),
            _ => hash(&(self.code, &mutant.name)),
        };
        let said = said.replace(['\t', '\n'], " ");
        writeln!(self.file, "{key:016x}\t{kind}\t{said}\t{}", mutant.name)
            .map_err(|error| format!("the results cannot be written: {error}"))?;
        self.known.insert(format!("{key:016x}"), outcome);
        Ok(())
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The texts of the files of a directory, in the order of their names.
fn contents(directory: &Path) -> Result<Vec<String>, String> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut paths = fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        paths.retain(|path| path.is_file());
        paths.sort();
        paths.iter().map(fs::read_to_string).collect()
    };
    read().map_err(|error| format!("{}: {error}", directory.display()))
}

/// The names of the survivors that are argued: each in a line of its own, its reason indented
/// below.
pub fn argued(path: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut names = Vec::new();
    let mut lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut line = lines.next();
    while let Some(name) = line {
        line = lines.next();
        if name.starts_with(char::is_whitespace) || !line.is_some_and(|l| l.starts_with(' ')) {
            return Err(format!(
                "{}: '{name}' has no reason below it",
                path.display()
            ));
        }
        names.push(name.to_owned());
        while line.is_some_and(|l| l.starts_with(' ')) {
            line = lines.next();
        }
    }
    Ok(names)
}
