// SPDX-License-Identifier: GPL-2.0

//! A root directory in memory, with nothing in it but a few programs and what they work on.
//!
//! The files of the host are far away for a guest, and what configuration they hold differs from
//! host to host. In here a program neither waits nor finds a locale, users or a history, so it does
//! the same wherever it is measured.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// A tree of files in the working directory, and one of its branches.
pub const TREE: &str = "tree";
pub const BRANCH: &str = "tree/0";
const BRANCHES: usize = 5;
const DIRECTORIES: usize = 25;
const FILES: usize = 30;

pub struct Stage {
    pub root: PathBuf,
}

impl Stage {
    /// Of programs that PATH finds and of an object to preload, which is `/preload.so` in there.
    pub fn new(programs: &[&str], preload: &str) -> io::Result<Self> {
        let root = PathBuf::from(format!("/tmp/stage-{}", std::process::id()));
        let stage = Self { root };
        fs::create_dir_all(stage.inside("/work"))?;
        for program in programs {
            let file = found(program)
                .ok_or_else(|| io::Error::other(format!("{program} is not installed")))?;
            stage.copy(&file, &Self::path(program))?;
            for library in libraries(&file)? {
                stage.copy(Path::new(&library), &library)?;
            }
        }
        stage.copy(Path::new(preload), "/preload.so")?;
        stage.grow()?;
        Ok(stage)
    }

    /// Where a program is, for those inside.
    pub fn path(program: &str) -> String {
        format!("/bin/{program}")
    }

    /// Where a file of theirs is for us.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn copy(&self, from: &Path, to: &str) -> io::Result<()> {
        let to = self.inside(to);
        if to.exists() {
            return Ok(());
        }
        fs::create_dir_all(to.parent().unwrap_or(&to))?;
        fs::copy(from, to)
            .map_err(|error| io::Error::other(format!("{}: {error}", from.display())))?;
        Ok(())
    }

    /// Plants the tree: small files, as those of a source tree are.
    fn grow(&self) -> io::Result<()> {
        for directory in 0..BRANCHES * DIRECTORIES {
            let (branch, directory) = (directory / DIRECTORIES, directory % DIRECTORIES);
            let path = self.inside(&format!("/work/{TREE}/{branch}/{directory}"));
            fs::create_dir_all(&path)?;
            for file in 0..FILES {
                let lines = (directory * FILES + file) * 7 % 100;
                let text = "All lines of the files of this tree are alike.\n".repeat(lines);
                fs::write(path.join(format!("{file}.txt")), text)?;
            }
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn found(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut files = env::split_paths(&path).map(|directory| directory.join(program));
    files.find(|file| file.is_file())
}

/// What ldd prints: `NAME => PATH (ADDRESS)`, and the path alone of the loader. The vDSO has none.
fn libraries(program: &Path) -> io::Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect())
}
