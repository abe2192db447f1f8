// SPDX-License-Identifier: GPL-2.0

//! How configurations are drawn: regions and selectors at and around every boundary there is.

use crate::{
    arena::{self, *},
    draw::Random,
    program::*,
    sys::*,
};

pub fn is_narrow(site: Site, syscall: &Syscall) -> bool {
    matches!(syscall, Syscall::Arm { config, .. } if site.is_i386() && narrow_error(config).is_some())
}

/// Addresses at and around every boundary there is.
fn edge(random: &mut Random) -> u64 {
    let near = random.of(&[0u64, 0, 0, 1, 2, u64::MAX, u64::MAX - 1]);
    let edge = match random.below(12) {
        0 => 0,
        1 => FOUR_GIB,
        2 => random.of(&[1 << 47, (1 << 47) - PAGE, 1 << 56, 1 << 63]),
        3 => u64::MAX,
        4 => random.of(&[CODE, arena::gate().0, arena::gate().1, arena::foreign().1]),
        5 => arena::restorer_after(random.percent(50)),
        6 => Site::VsyscallTime.entry(),
        _ => random
            .of(&[
                Site::Gate,
                Site::F0,
                Site::F1,
                Site::Border,
                Site::Int,
                Site::Compat,
            ])
            .after(),
    };
    edge.wrapping_add(near)
}

fn region(random: &mut Random, mode: u64) -> (u64, u64) {
    if random.percent(60) {
        // One with which a program can live: the gate runs directly.
        let (start, end) = match (mode, random.percent(80)) {
            (2, true) => arena::foreign(),
            (2, false) => (Site::F0.after(), Site::Int.after()),
            _ => arena::gate(),
        };
        return (start, end - start);
    }
    let start = edge(random);
    let len = match random.below(4) {
        0 => random.of(&[0, 1, 2, FOUR_GIB, 1 << 47, 1 << 63, u64::MAX, u64::MAX - 1]),
        1 => random.next() >> random.below(64),
        _ => edge(random).wrapping_sub(start),
    };
    (start, len)
}

fn selector(random: &mut Random) -> u64 {
    match random.below(100) {
        0..=54 => SELECTOR_RW + random.below(4),
        55..=66 => 0,
        67..=69 => SELECTOR_LAST,
        70..=71 => random.of(&[SELECTOR_NONE, SELECTOR_HOLE, SELECTOR_PAST_END]),
        72 => SELECTOR_KEY + random.below(2),
        73..=79 => SELECTOR_RO + random.of(&[0, 0, 0, 1, 1, 1, 2, 3, 127, 128, 254, 255]),
        80..=85 => SELECTOR_DYNAMIC + random.of(&[0, 1, PAGE - 1]),
        86..=87 => SELECTOR_FRESH + random.below(PAGE),
        88..=89 => SELECTOR_FILE,
        90..=92 => random.of(&[0xffff_dfff, 0xffff_e000, 0xffff_efff, 0xffff_ffff]),
        93..=94 => random.of(&[
            1 << 47,
            (1 << 47) - 1,
            (1 << 47) - PAGE,
            (1 << 47) - PAGE - 1,
            (1 << 56) - PAGE,
            (1 << 56) - PAGE - 1,
        ]),
        _ => random.of(&[
            1 << 48,
            1 << 56,
            1 << 63,
            (1 << 63) | SELECTOR_RW,
            u64::MAX,
            u64::MAX - 1,
        ]),
    }
}

pub fn config(random: &mut Random) -> SudConfig {
    let mode = random.weighted(&[(46, 1), (34, 2), (10, 0), (10, 3)]);
    if mode == 0 && random.percent(70) {
        return SudConfig::default();
    }
    let (offset, len) = region(random, mode);
    let mode = match mode {
        3 => random.of(&[3, 4, 255, 1 << 32, (1 << 32) | 1, (1 << 63) | 2, u64::MAX]),
        mode => mode,
    };
    let selector = selector(random);
    if mode == 0 {
        // Off with one argument too many.
        return match random.below(3) {
            0 => SudConfig {
                offset,
                ..Default::default()
            },
            1 => SudConfig {
                len,
                ..Default::default()
            },
            _ => SudConfig {
                selector,
                ..Default::default()
            },
        };
    }
    SudConfig {
        mode,
        selector,
        offset,
        len,
    }
}

pub fn stored(random: &mut Random) -> (u64, u8) {
    let at = random.weighted(&[
        (30, SELECTOR_RW),
        (20, SELECTOR_RW + 1),
        (10, SELECTOR_RW + 2),
        (10, SELECTOR_RW + 3),
        (6, SELECTOR_LAST),
        (4, SELECTOR_FILE),
        (4, SELECTOR_FRESH),
    ]);
    (
        at,
        random.weighted(&[
            (36, 0),
            (54, 1),
            (2, 2),
            (1, 3),
            (1, 127),
            (1, 128),
            (1, 254),
            (2, 255),
        ]),
    )
}
