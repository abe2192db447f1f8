// SPDX-License-Identifier: GPL-2.0

//! Memory: what was stored, over what was there before.
//!
//! An address is a base, such as the stack pointer at entry or the current task, and an offset.
//! Each base is a region of its own: that they do not overlap is an assumption of the proof. What
//! was there before is an input; both programs share it.

use crate::term::{var, Term};
use anyhow::{bail, ensure, Result};
use std::collections::{BTreeMap, HashMap};

/// A region of memory by name: what is behind a base, or a variable of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(pub u32);

/// A byte: its region, and its offset there.
pub type Place = (Region, i64);

pub const STACK: Region = Region(0);

/// What both programs run in.
#[derive(Default)]
pub struct World {
    names: Vec<String>,
    index: HashMap<String, Region>,
    bases: HashMap<Term, Region>,
    /// Words that are known when the program starts, such as where the current task is.
    known: HashMap<Place, Term>,
    /// What only the current task itself changes: first and last offset.
    steady: Vec<(Region, i64, i64)>,
    /// What may be written.
    writable: Vec<Region>,
    /// Whether all may be.
    pub all_writable: bool,
}

impl World {
    pub fn new() -> Self {
        let mut world = Self::default();
        assert_eq!(world.region("stack"), STACK);
        world.writable(STACK);
        world
    }

    pub fn region(&mut self, name: &str) -> Region {
        if let Some(&region) = self.index.get(name) {
            return region;
        }
        let region = Region(self.names.len() as u32);
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), region);
        region
    }

    /// The region of a name, if there is one.
    pub fn find(&self, name: &str) -> Option<Region> {
        self.index.get(name).copied()
    }

    pub fn name(&self, region: Region) -> &str {
        &self.names[region.0 as usize]
    }

    pub fn show(&self, (region, offset): Place) -> String {
        format!("{}{offset:+#x}", self.name(region)).replace("+-", "-")
    }

    /// Lets `base` be the address of a region.
    pub fn base(&mut self, base: Term, region: Region) {
        self.bases.insert(base, region);
    }

    pub fn region_of(&self, base: Term) -> Option<Region> {
        self.bases.get(&base).copied()
    }

    pub fn know(&mut self, place: Place, value: Term) {
        self.known.insert(place, value);
    }

    pub fn steady(&mut self, region: Region, first: i64, last: i64) {
        self.steady.push((region, first, last));
    }

    pub fn writable(&mut self, region: Region) {
        self.writable.push(region);
    }

    pub fn is_writable(&self, region: Region) -> bool {
        self.all_writable || self.writable.contains(&region)
    }

    fn is_steady(&self, (region, offset): Place) -> bool {
        region == STACK
            || self
                .steady
                .iter()
                .any(|&(it, first, last)| it == region && (first..=last).contains(&offset))
    }
}

/// What a program knows of memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    stored: BTreeMap<Place, Term>,
    /// How often what is not steady may have changed, and how often everything else.
    epoch: u32,
    era: u32,
}

impl Memory {
    pub fn store(&mut self, (region, offset): Place, value: Term) {
        for at in 0..value.width() / 8 {
            self.stored
                .insert((region, offset + i64::from(at)), value.extract(at * 8, 8));
        }
    }

    /// A byte, of the stack one that was stored.
    pub fn byte(&self, world: &World, place: Place) -> Result<Term> {
        if let Some(&byte) = self.stored.get(&place) {
            return Ok(byte);
        }
        let (region, offset) = place;
        ensure!(
            region != STACK,
            "a byte of the stack that was never written is read"
        );
        let (whole, at) = (offset & !7, (offset & 7) as u8 * 8);
        let before = match world.known.get(&(region, whole)) {
            Some(&value) => value,
            None => {
                let mut name = world.show((region, whole));
                if !world.is_steady(place) && self.epoch > 0 {
                    name += &format!("@{}", self.epoch);
                }
                if self.era > 0 {
                    name += &format!("@@{}", self.era);
                }
                var(&name, 64)
            }
        };
        Ok(before.extract(at, 8))
    }

    pub fn load(&self, world: &World, (region, offset): Place, width: u8) -> Result<Term> {
        let mut value: Option<Term> = None;
        for at in (0..width / 8).rev() {
            let byte = self.byte(world, (region, offset + i64::from(at)))?;
            value = Some(value.map_or(byte, |high| high.concat(byte)));
        }
        match value {
            Some(value) => Ok(value),
            None => bail!("no byte is {width} bits wide"),
        }
    }

    /// Forgets what is below the stack pointer.
    pub fn drop_below(&mut self, offset: i64) {
        self.stored
            .retain(|&(region, at), _| region != STACK || at >= offset);
    }

    /// Others had the processor: what is not steady may be anything.
    pub fn others_ran(&mut self, world: &World) {
        self.epoch += 1;
        self.stored.retain(|&place, _| world.is_steady(place));
    }

    /// So may all but the stack.
    pub fn all_changed(&mut self) {
        self.era += 1;
        self.stored.retain(|&(region, _), _| region == STACK);
    }

    /// What was stored outside the stack.
    pub fn changes(&self) -> impl Iterator<Item = Place> + '_ {
        self.stored.keys().copied().filter(|it| it.0 != STACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::{constant, word};

    /// A region at an address, in a world of its own.
    fn world() -> (World, Region) {
        let mut world = World::new();
        let region = world.region("region");
        (world, region)
    }

    #[test]
    fn a_pointer_comes_back_from_memory_as_itself() {
        let (world, _) = world();
        let pointer = var("base", 64) + word(0x718);
        let mut memory = Memory::default();
        memory.store((STACK, -16), pointer);
        assert_eq!(memory.load(&world, (STACK, -16), 64).unwrap(), pointer);
        assert_eq!(
            memory.load(&world, (STACK, -12), 32).unwrap(),
            pointer.extract(32, 32)
        );
    }

    #[test]
    fn a_byte_in_a_word_changes_that_byte() {
        let (world, region) = world();
        let mut memory = Memory::default();
        let before = memory.load(&world, (region, 8), 64).unwrap();
        memory.store((region, 9), constant(0xab, 8));
        let after = memory.load(&world, (region, 8), 64).unwrap();
        let input = [(before, 0x1122_3344_5566_7788)].into();
        assert_eq!(after.eval(&input), 0x1122_3344_5566_ab88);
    }

    #[test]
    fn what_others_may_change_is_another_input() {
        let (mut world, region) = world();
        world.steady(region, 0, 7);
        let mut memory = Memory::default();
        let read = |memory: &Memory, at| memory.load(&world, (region, at), 64).unwrap();
        let before = [read(&memory, 0), read(&memory, 8)];
        memory.store((region, 8), word(1));
        memory.others_ran(&world);
        assert_eq!(read(&memory, 0), before[0]);
        assert_ne!(read(&memory, 8), before[1]);
        assert_ne!(read(&memory, 8), word(1));
    }

    #[test]
    fn the_stack_is_not_read_before_it_is_written() {
        let (world, _) = world();
        let mut memory = Memory::default();
        memory.store((STACK, -8), word(1));
        assert!(memory.load(&world, (STACK, -16), 64).is_err());
        memory.drop_below(0);
        assert!(memory.load(&world, (STACK, -8), 64).is_err());
    }
}
