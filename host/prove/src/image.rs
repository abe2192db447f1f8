// SPDX-License-Identifier: GPL-2.0

//! A linked kernel: its bytes and symbols, and what the kernel does to its own text at boot.

use anyhow::{bail, ensure, Context as _, Result};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

/// A static branch: jumps, or not, by the state of a key.
#[derive(Clone, Debug)]
pub struct Branch {
    pub target: u64,
    /// The key, as a symbol.
    pub key: String,
    /// Whether the branch is taken while the key is off.
    pub inverted: bool,
}

/// An alternative: other instructions in place of some, by a feature of the processor.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// The feature, and whether the processor must lack it.
    pub feature: u32,
    pub len: u64,
    pub replacement: Vec<u8>,
}

/// What the exception table says of an instruction that may fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub resume: u64,
    /// A register, by its number in an instruction, and what it is set to.
    pub set: Option<(usize, i16)>,
}

struct Section {
    start: u64,
    bytes: Vec<u8>,
}

pub struct Symbol {
    pub start: u64,
    pub size: u64,
    pub name: String,
}

#[derive(Default)]
pub struct Image {
    sections: Vec<Section>,
    /// By address.
    symbols: Vec<Symbol>,
    by_name: HashMap<String, Vec<(u64, u64)>>,
    pub branches: HashMap<u64, Branch>,
    pub alternatives: BTreeMap<u64, Vec<Alternative>>,
    pub faults: HashMap<u64, Fault>,
    /// Constants that the kernel fills in at boot, by the address of their eight bytes.
    pub runtime: HashMap<u64, String>,
    /// Instructions that are changed on purpose.
    pub changed: HashMap<u64, Vec<u8>>,
}

impl Image {
    pub fn read(path: &Path) -> Result<Self> {
        let data = fs::read(path).with_context(|| path.display().to_string())?;
        let file = object::File::parse(&*data).with_context(|| path.display().to_string())?;
        let mut image = Self::default();
        let mut tables: HashMap<String, (u64, u64)> = HashMap::new();

        for section in file.sections().filter(|it| it.address() != 0) {
            let name = section.name()?.to_owned();
            tables.insert(name, (section.address(), section.size()));
            let bytes = section.data()?.to_vec();
            if !bytes.is_empty() {
                image.sections.push(Section {
                    start: section.address(),
                    bytes,
                });
            }
        }
        image.sections.sort_by_key(|it| it.start);
        for symbol in file.symbols().filter(|it| it.address() != 0) {
            let name = symbol.name()?;
            if matches!(symbol.kind(), SymbolKind::Section | SymbolKind::File) || name.is_empty() {
                continue;
            }
            let (start, size) = (symbol.address(), symbol.size());
            image
                .by_name
                .entry(name.to_owned())
                .or_default()
                .push((start, size));
            image.symbols.push(Symbol {
                start,
                size,
                name: name.to_owned(),
            });
        }
        // Of several names the one that says how long it is.
        image
            .symbols
            .sort_by(|a, b| (a.start, b.size, &a.name).cmp(&(b.start, a.size, &b.name)));

        image.read_branches()?;
        image.read_alternatives(tables.get(".altinstructions"))?;
        image.read_faults(tables.get("__ex_table"))?;
        for (name, &(start, size)) in &tables {
            if let Some(name) = name.strip_prefix("runtime_ptr_") {
                for at in (start..start + size).step_by(4) {
                    image.runtime.insert(image.relative(at)?, name.to_owned());
                }
            }
        }
        image.refuse_hooks()?;
        Ok(image)
    }

    /// Bytes as linked, or as changed on purpose.
    pub fn bytes(&self, at: u64, len: usize) -> Result<&[u8]> {
        let index = self.sections.partition_point(|it| it.start <= at);
        let section = index.checked_sub(1).map(|index| &self.sections[index]);
        section
            .and_then(|it| {
                let from = (at - it.start) as usize;
                it.bytes.get(from..from + len)
            })
            .with_context(|| format!("no byte of the image is at {at:#x}"))
    }

    /// The bytes of the instruction at an address, and more.
    pub fn code(&self, at: u64) -> Result<&[u8]> {
        if let Some(changed) = self.changed.get(&at) {
            return Ok(changed);
        }
        let longest = (1..=15).rev().find_map(|len| self.bytes(at, len).ok());
        longest.with_context(|| format!("no code is at {at:#x}"))
    }

    /// Address and size of the only symbol of a name.
    pub fn symbol(&self, name: &str) -> Result<(u64, u64)> {
        match self.by_name.get(name).map(Vec::as_slice) {
            Some(&[it]) => Ok(it),
            Some([first, rest @ ..]) if rest.iter().all(|it| it.0 == first.0) => Ok(*first),
            None => bail!("the image has no {name}"),
            Some(_) => bail!("the image has several {name}"),
        }
    }

    /// The symbol that an address is in.
    pub fn symbol_at(&self, at: u64) -> Option<&Symbol> {
        let index = self.symbols.partition_point(|it| it.start <= at);
        let start = self.symbols.get(index.checked_sub(1)?)?.start;
        let first = self.symbols.partition_point(|it| it.start < start);
        let symbol = &self.symbols[first];
        (at < symbol.start + symbol.size.max(1)).then_some(symbol)
    }

    /// An address as people write it.
    pub fn show(&self, at: u64) -> String {
        match self.symbol_at(at) {
            Some(it) if it.start == at => it.name.clone(),
            Some(it) => format!("{}+{:#x}", it.name, at - it.start),
            None => format!("{at:#x}"),
        }
    }

    fn int32(&self, at: u64) -> Result<i32> {
        Ok(i32::from_le_bytes(self.bytes(at, 4)?.try_into()?))
    }

    /// What a 32-bit field that is relative to itself points to.
    fn relative(&self, at: u64) -> Result<u64> {
        Ok(at.wrapping_add_signed(self.int32(at)?.into()))
    }

    /// `struct jump_entry`: code, target, key.
    fn read_branches(&mut self) -> Result<()> {
        let (start, end) = (
            self.symbol("__start___jump_table")?.0,
            self.symbol("__stop___jump_table")?.0,
        );
        ensure!((end - start) % 16 == 0, "the jump table has another form");
        for at in (start..end).step_by(16) {
            let key = i64::from_le_bytes(self.bytes(at + 8, 8)?.try_into()?);
            let branch = Branch {
                target: self.relative(at + 4)?,
                key: self.show((at + 8).wrapping_add_signed(key & !3)),
                inverted: key & 1 != 0,
            };
            self.branches.insert(self.relative(at)?, branch);
        }
        Ok(())
    }

    /// `struct alt_instr`: instruction, replacement, feature and flags, both lengths.
    fn read_alternatives(&mut self, table: Option<&(u64, u64)>) -> Result<()> {
        let &(start, size) = table.context("the image has no .altinstructions")?;
        ensure!(size % 14 == 0, "the alternatives have another form");
        for at in (start..start + size).step_by(14) {
            let lens = self.bytes(at + 12, 2)?;
            let (len, replaced) = (lens[0].into(), usize::from(lens[1]));
            let alternative = Alternative {
                feature: self.int32(at + 8)? as u32,
                len,
                replacement: match replaced {
                    0 => vec![],
                    len => self.bytes(self.relative(at + 4)?, len)?.to_vec(),
                },
            };
            let at = self.relative(at)?;
            self.alternatives.entry(at).or_default().push(alternative);
        }
        Ok(())
    }

    /// `struct exception_table_entry`: instruction, where it goes on, what is done there. The
    /// types that only go on, or set a register, are taken in; others are left out, so that an
    /// access by them is refused.
    fn read_faults(&mut self, table: Option<&(u64, u64)>) -> Result<()> {
        const DEFAULT: i32 = 1;
        const UACCESS: i32 = 3;
        const IMM_REG: i32 = 17;

        let &(start, size) = table.context("the image has no __ex_table")?;
        ensure!(size % 12 == 0, "the exception table has another form");
        for at in (start..start + size).step_by(12) {
            let data = self.int32(at + 8)?;
            if data & 0xf000 != 0 {
                continue; // clears registers besides
            }
            let set = match data & 0xff {
                DEFAULT | UACCESS => None,
                // The registers of the table are in the order of the encoding.
                IMM_REG => Some(((data >> 8 & 0xf) as usize, (data >> 16) as i16)),
                _ => continue,
            };
            let resume = self.relative(at + 4)?;
            self.faults
                .insert(self.relative(at)?, Fault { resume, set });
        }
        Ok(())
    }

    /// Hooks in the functions, which the kernel may patch at any time, are not known here.
    fn refuse_hooks(&self) -> Result<()> {
        let hooks = ["__start_mcount_loc", "__stop_mcount_loc"].map(|it| self.symbol(it).ok());
        if let [Some((start, _)), Some((end, _))] = hooks {
            ensure!(start == end, "the kernel is built with hooks for ftrace");
        }
        ensure!(
            self.symbol("kasan_report").is_err(),
            "the kernel is built with KASAN"
        );
        Ok(())
    }
}
