// SPDX-License-Identifier: GPL-2.0

//! Shows that the tests would find a mistake: makes one after the other, and sees what they say.
//!
//! `mutants TOOL` lists the mutants by cargo-mutants, the program TOOL, builds a kernel of each and
//! tests it in one of two guests, the next being built meanwhile. What is known of the same code is
//! not tried again.
//! Those that survive have to be argued in `scripts/mutants.survivors`. MUTANT= in the environment
//! names a part of the names of those to try.
//!
//! It must be called where a build may be spoiled, see `scripts/mutants.sh`.

mod guest;
mod list;
mod record;

use list::{Mutant, Source};
use record::{Outcome, Record};
use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::{
        mpsc::{self, Receiver, Sender, SyncSender},
        Arc, Mutex,
    },
    thread,
};

/// How many guests test at a time: a test takes up to twice as long as the build of what it tests.
const TESTERS: usize = 2;

/// The directories of a run.
pub struct Place {
    top: PathBuf,
    build: PathBuf,
    /// What is changed, below the kernel tree: files, and directories of such.
    sources: String,
}

impl Place {
    fn from_environment() -> Result<Self, String> {
        let variable = |name| {
            env::var(name).map_err(|_| format!("{name} is not set: run it by 'make mutants'"))
        };
        Ok(Self {
            top: variable("TOP")?.into(),
            build: variable("BUILD")?.into(),
            sources: variable("SOURCES")?,
        })
    }

    fn linux(&self) -> PathBuf {
        self.build.join("linux")
    }

    fn kernel(&self) -> PathBuf {
        self.build.join("kernel/ours")
    }

    /// Where the results lie.
    fn own(&self, name: &str) -> PathBuf {
        self.build.join("mutants").join(name)
    }
}

/// What the build makes of a mutant.
enum Built {
    /// Belongs to who tests it, and is removed then.
    Image(PathBuf),
    /// What the compiler or a check of ours said.
    Refused(String),
}

/// A mutant, and what became of it so far, or why that cannot be told.
type Progress<'a, T> = (&'a Mutant, Result<T, String>);

/// Builds the kernel as the sources are now, and puts the image where nothing overwrites it.
fn build(place: &Place, number: usize) -> Result<Built, String> {
    let run = |command: &mut Command| {
        let name = command.get_program().to_string_lossy().into_owned();
        command.output().map_err(|error| format!("{name}: {error}"))
    };
    let jobs = env::var("J").unwrap_or_default();
    let output = run(Command::new("make")
        .arg("-C")
        .arg(place.linux())
        .arg(format!("O={}", place.kernel().display()))
        .arg(format!("-j{}", if jobs.is_empty() { "2" } else { &jobs }))
        .arg("bzImage"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        // Anything else, as a full disk, says nothing about the mutant.
        let about_ours = said.contains("user_dispatch");
        return match said.lines().find(|line| line.starts_with("error")) {
            Some(error) if about_ours => Ok(Built::Refused(error.to_owned())),
            _ => Err(format!("the kernel could not be built:\n{said}")),
        };
    }

    let object = place
        .kernel()
        .join("kernel/entry/user_dispatch/user_dispatch.o");
    let symbols = run(Command::new("llvm-nm").arg("--undefined-only").arg(object))?;
    if String::from_utf8_lossy(&symbols.stdout).contains("panicking") {
        return Ok(Built::Refused("refers to core::panicking".into()));
    }
    if let Some(warning) = said
        .lines()
        .find(|l| l.contains("objtool:") && l.contains("dispatch"))
    {
        return Ok(Built::Refused(warning.to_owned()));
    }

    let image = place.own(&format!("bzImage.{number}"));
    fs::copy(place.kernel().join("arch/x86/boot/bzImage"), &image)
        .map_err(|error| format!("{}: {error}", image.display()))?;
    Ok(Built::Image(image))
}

/// Builds one mutant after the other, at most one ahead of those that take them, until nobody
/// does.
fn build_all<'a>(
    place: &Place,
    sources: &[Source],
    mutants: &[&'a Mutant],
    done: &SyncSender<Progress<'a, Built>>,
) {
    for (number, mutant) in mutants.iter().copied().enumerate() {
        let built = sources
            .iter()
            .try_for_each(|source| {
                let text = match source.file == mutant.file {
                    true => &mutant.text,
                    false => &source.text,
                };
                let path = &source.path;
                // Kbuild goes by the time of a file, so what is the same is not written.
                match fs::read_to_string(path) {
                    Ok(old) if old == *text => Ok(()),
                    _ => fs::write(path, text).map_err(|e| format!("{}: {e}", path.display())),
                }
            })
            .and_then(|()| build(place, number));
        if done.send((mutant, built)).is_err() {
            return;
        }
    }
}

/// Tests what was built, in the guest called `name`.
fn test(place: &Place, built: Built, name: &str) -> Result<Outcome, String> {
    match built {
        Built::Refused(why) => Ok(Outcome::Refused(why)),
        Built::Image(image) => {
            let outcome = guest::test(place, &image, name);
            let _ = fs::remove_file(&image);
            outcome
        }
    }
}

/// Tests one mutant after the other, until there is none or nobody wants to know.
fn test_all<'a>(
    place: &Place,
    images: &Mutex<Receiver<Progress<'a, Built>>>,
    name: &str,
    done: &Sender<Progress<'a, Outcome>>,
) {
    let next = || images.lock().ok()?.recv().ok();
    while let Some((mutant, built)) = next() {
        let outcome = built.and_then(|built| test(place, built, name));
        if done.send((mutant, outcome)).is_err() {
            return;
        }
    }
}

fn run(tool: &str) -> Result<bool, String> {
    let place = Place::from_environment()?;
    let wanted = env::var("MUTANT").unwrap_or_default();
    let sources = Source::all(&place.linux(), &place.sources)?;
    let all = list::all(&sources, tool, &place.own("package"))?;
    let mut record = Record::open(&place, &sources)?;
    let argued = record::argued(&place.top.join("scripts/mutants.survivors"))?;

    let mutants: Vec<&Mutant> = all.iter().filter(|m| m.name.contains(&wanted)).collect();
    if mutants.is_empty() {
        return Err(format!("no mutant has '{wanted}' in its name"));
    }
    let unknown = |mutant: &&Mutant| record.get(mutant).is_none();
    let mut open: Vec<&Mutant> = mutants.iter().copied().filter(unknown).collect();
    let known = mutants.len() - open.len();
    println!(
        "{} mutants, {known} of which are known already",
        mutants.len()
    );

    // What is no mutant has to survive, or the tests say nothing about the others.
    let original = Mutant {
        name: "no change".into(),
        file: String::new(),
        text: String::new(),
    };
    let first = !open.is_empty() && unknown(&&original);
    if first {
        open.insert(0, &original);
    }

    thread::scope(|scope| {
        let (done, images) = mpsc::sync_channel(0);
        let (place, sources, queue) = (&place, &sources, &open);
        scope.spawn(move || build_all(place, sources, queue, &done));

        let mut tell = |number, mutant: &Mutant, outcome: Outcome| {
            println!("[{number}/{}] {}: {outcome}", queue.len(), mutant.name);
            record.add(mutant, outcome)
        };
        if first {
            let (original, built) = images.recv().map_err(|_| "the build ended early")?;
            let outcome = test(place, built?, "mutants")?;
            if !matches!(outcome, Outcome::Survived) {
                return Err(format!(
                    "the tests fail without any change ({outcome}); mend that first"
                ));
            }
            tell(1, original, outcome)?;
        }

        // Whoever comes to an end, by an error or because all is done, takes the others along:
        // their channel is closed then.
        let (done, outcomes) = mpsc::channel();
        let images = Arc::new(Mutex::new(images));
        for number in 1..=TESTERS {
            let (images, done) = (images.clone(), done.clone());
            scope.spawn(move || test_all(place, &images, &format!("mutants-{number}"), &done));
        }
        drop((images, done));
        for (number, (mutant, outcome)) in (1 + usize::from(first)..).zip(outcomes) {
            tell(number, mutant, outcome?)?;
        }
        Ok(())
    })?;

    Ok(summary(&mutants, &all, &record, &argued, wanted.is_empty()))
}

/// Sums up, and tells whether all survivors are argued and all that are argued survive.
fn summary(
    mutants: &[&Mutant],
    all: &[Mutant],
    record: &Record,
    argued: &[String],
    complete: bool,
) -> bool {
    let (mut by_kunit, mut by_selftest, mut by_crash, mut refused) = (0, 0, 0, 0);
    let mut survivors = Vec::new();
    for mutant in mutants {
        match record.get(mutant) {
            Some(Outcome::Caught(by)) if by.starts_with("KUnit") => by_kunit += 1,
            Some(Outcome::Caught(_)) => by_selftest += 1,
            Some(Outcome::Broke(_)) => by_crash += 1,
            Some(Outcome::Refused(_)) => refused += 1,
            Some(Outcome::Survived) | None => survivors.push(mutant.name.as_str()),
        }
    }

    let mut good = true;
    for name in &survivors {
        if !argued.iter().any(|argued| argued == name) {
            println!("SURVIVED: {name}");
            good = false;
        }
    }
    for name in argued {
        let known = all.iter().any(|mutant| mutant.name == *name);
        let tried = mutants.iter().any(|mutant| mutant.name == *name);
        if (complete && !known) || (tried && !survivors.contains(&name.as_str())) {
            println!("ARGUED, but does not survive: {name}");
            good = false;
        }
    }
    println!(
        "{} of {} mutants caught: {by_kunit} by KUnit, {by_selftest} by a selftest, {by_crash} by a \
         crash or hang; {} survived; {refused} more do not build",
        by_kunit + by_selftest + by_crash,
        mutants.len() - refused,
        survivors.len()
    );
    good
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [tool] => run(tool),
        _ => Err("usage: mutants TOOL".into()),
    };
    match outcome {
        Ok(good) => ExitCode::from(u8::from(!good)),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
