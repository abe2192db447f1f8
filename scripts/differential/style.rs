// SPDX-License-Identifier: GPL-2.0

//! What the style of a program adds to what was drawn, and what it leaves out.

use crate::{
    arena::*,
    draw::{self, Kind, Random},
    plan::{self, Act, Plan},
    program::*,
    sys::*,
};

impl Style {
    /// The option that asks for it.
    pub fn option(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Upcall => " --upcall",
            Style::Ours => " --ours",
        }
    }

    /// A call that is worth more in this style than by chance.
    pub fn syscall(self, random: &mut Random, kind: &Kind) -> Option<(Site, Syscall)> {
        if self == Style::Plain {
            return None;
        }
        match random.below(100) {
            0..=9 => {
                let mut config = plan::dispatching(random);
                if random.percent(8) {
                    // Not to be read in the handler of a signal.
                    config.selector = SELECTOR_KEY + 1;
                }
                Some((Site::Gate, Syscall::Arm { config, x32: false }))
            }
            10..=29 => {
                let site = random.of(&[Site::F0, Site::F1, Site::Border]);
                Some((site, draw::plain(random, false)))
            }
            30..=36 if self == Style::Ours => Some(upcall(random, kind)),
            _ => None,
        }
    }

    /// How often the protection keys change, in percent. Only a signal resets them.
    pub fn keys(self) -> u64 {
        match self {
            Style::Plain => 1,
            Style::Upcall | Style::Ours => 4,
        }
    }

    /// Makes of an operation that was drawn one of this style.
    pub fn adapt(self, random: &mut Random, what: &mut What) {
        let What::Enter(enter) = what else {
            return;
        };
        self.adapt_syscall(random, &mut enter.syscall);
        if self == Style::Upcall {
            // An upcall leaves the signal mask alone.
            let is_mask = |action: &Action| matches!(action, Action::Mask(_));
            enter.script.retain(|action| !is_mask(action));
        }
    }

    pub fn adapt_syscall(self, random: &mut Random, syscall: &mut Syscall) {
        match syscall {
            // What only some kernels know.
            Syscall::Arm { config, .. } if self != Style::Ours => {
                if config.mode == PR_SYS_DISPATCH_UPCALL {
                    config.mode = 4;
                }
            }
            Syscall::Clone { body, .. } => {
                let drawn = std::mem::take(body);
                for mut what in drawn {
                    self.adapt(random, &mut what);
                    let request = self.request(random, &what);
                    body.push(what);
                    body.extend(request);
                }
            }
            Syscall::Action {
                signal: SIGSYS,
                disposition,
                flags,
                mask,
                x32,
            } if self == Style::Upcall => {
                if matches!(disposition, Disposition::Far) {
                    *disposition = Disposition::Near;
                }
                (*flags, *mask, *x32) = (SA_NODEFER, 0, false);
            }
            Syscall::AltStack { hole, flags, .. } if self == Style::Upcall => {
                const SS_AUTODISARM: u32 = 1 << 31;
                // What SIGSYS could not be delivered on, and what its frame would change.
                (*hole, *flags) = (false, *flags & !SS_AUTODISARM);
            }
            _ => {}
        }
    }

    /// The same of what its tracer does.
    pub fn adapt_plan(self, random: &mut Random, plan: &mut Plan) {
        // They would last for as long as the handler of a signal runs.
        let lasts = |act: &Act| matches!(act, Act::Mask(_) | Act::Action(..));
        if self == Style::Upcall {
            plan.meddling.retain(|meddling| !lasts(&meddling.act));
        }
        if self == Style::Ours {
            for meddling in &mut plan.meddling {
                meddling.act = match meddling.act {
                    Act::Set(config) if random.percent(70) => {
                        Act::SetWide(config, random.of(&[Handler::Own, Handler::Land]))
                    }
                    Act::Keep | Act::Pass(_) if random.percent(25) => {
                        Act::Suspend(random.percent(60))
                    }
                    act => act,
                };
            }
        }
    }

    /// What asks for upcalls after an operation that arms, if it does.
    pub fn request(self, random: &mut Random, what: &What) -> Option<What> {
        let What::Enter(Enter {
            site,
            syscall: Syscall::Arm { config, .. },
            ..
        }) = what
        else {
            return None;
        };
        let is_wanted = match self {
            Style::Plain => false,
            Style::Upcall => is_free(config, *site),
            Style::Ours => random.percent(70),
        };
        is_wanted.then(|| {
            What::Enter(Enter {
                site: Site::Gate,
                syscall: Syscall::Upcall {
                    handler: Handler::Own,
                    rest: [0; 2],
                    x32: false,
                },
                pattern: random.next(),
                flags: 0x202,
                script: Vec::new(),
            })
        })
    }
}

/// Whether what a site arms with leaves alone both the call that asks for upcalls and the return of
/// a signal handler, whatever the selector says.
fn is_free(config: &SudConfig, site: Site) -> bool {
    let [mode, offset, len] = [config.mode, config.offset, config.len].map(|value| {
        if site.is_i386() {
            value as u32 as u64
        } else {
            value
        }
    });
    let is_inside = |address: u64| address.wrapping_sub(offset) < len;
    let is_exempt = |address| match mode {
        1 => is_inside(address),
        2 => !is_inside(address),
        _ => false,
    };
    is_exempt(Site::Gate.after()) && is_exempt(restorer_after(true))
}

/// Addresses for a handler at and around every boundary there is.
fn handler(random: &mut Random) -> Handler {
    const END: u64 = 1 << 47;
    match random.below(100) {
        0..=54 => Handler::Own,
        55..=64 => Handler::Land,
        65..=79 => Handler::At(0),
        80..=84 => Handler::At(random.of(&[1, SELECTOR_HOLE, SELECTOR_NONE, SCRATCH, STACK])),
        85..=94 => Handler::At(random.of(&[
            END - PAGE - 1,
            END - PAGE,
            END - 1,
            END,
            (1 << 56) - PAGE - 1,
            (1 << 56) - PAGE,
            1 << 56,
            1 << 63,
        ])),
        _ => Handler::At(random.of(&[
            (1 << 57) | CODE,
            (1 << 62) | land(),
            (1 << 63) | CODE,
            0xffff_8880_0000_0000,
            u64::MAX,
        ])),
    }
}

/// A call that asks for upcalls, or for something like it.
fn upcall(random: &mut Random, kind: &Kind) -> (Site, Syscall) {
    let site = random.weighted(&[
        (70, Site::Gate),
        (8, Site::F0),
        (4, Site::Border),
        (8, Site::Int),
        (5, Site::Compat),
        (if kind.vdso32 { 5 } else { 0 }, Site::Pad),
    ]);
    let rest = match random.percent(85) {
        true => [0; 2],
        false => random.of(&[[1, 0], [0, 1], [1 << 32, 0], [0, 1 << 32], [1 << 63; 2]]),
    };
    let syscall = Syscall::Upcall {
        handler: handler(random),
        rest,
        x32: !site.is_i386() && random.percent(10),
    };
    (site, syscall)
}

/// What a tracer asks for that not all kernels know.
pub fn trace(random: &mut Random, config: SudConfig, pointer: Pointer) -> Trace {
    let size = match random.percent(85) {
        true => 40,
        false => random.of(&[32, 39, 41, 48, 40 << 32, (1 << 32) | 40]),
    };
    match random.below(100) {
        0..=29 => Trace::GetWide { size, pointer },
        30..=64 => Trace::SetWide {
            config,
            upcall: handler(random),
            size,
            pointer,
        },
        65..=79 => Trace::SetGetWide,
        80..=89 => Trace::Suspend(true),
        _ => Trace::Suspend(false),
    }
}
