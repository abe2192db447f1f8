// SPDX-License-Identifier: GPL-2.0

//! The policy of Syscall User Dispatch, as plain values.
//!
//! Everything that can be right or wrong about an address, a mode or a selector value is decided
//! here, without a pointer, a binding or `unsafe`, and tested at the end of the file.
//!
//! All arithmetic on addresses wraps around on purpose: an address is a number modulo 2^64, and
//! where a sum that wraps has a meaning, it is said.

use kernel::prelude::*;

/// `PR_SYS_DISPATCH_OFF` of `include/uapi/linux/prctl.h`.
pub(crate) const OFF: usize = 0;
/// `PR_SYS_DISPATCH_EXCLUSIVE_ON`, alias `PR_SYS_DISPATCH_ON`.
pub(crate) const EXCLUSIVE_ON: usize = 1;
/// `PR_SYS_DISPATCH_INCLUSIVE_ON`.
pub(crate) const INCLUSIVE_ON: usize = 2;

/// The size of the words in which a request comes, and in which it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Bits32,
    Bits64,
}

impl Word {
    /// The greatest number.
    const fn max(self) -> usize {
        match self {
            Self::Bits32 => u32::MAX as usize,
            Self::Bits64 => usize::MAX,
        }
    }
}

/// What a thread or its tracer asks for: the arguments of `prctl()`, or the fields of a
/// `struct ptrace_sud_config`, as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) mode: usize,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) selector: usize,
}

impl Request {
    /// Turns the request into a configuration.
    ///
    /// `word` is that of the request; `allowed` is the value of the sysctl; `is_user` tells whether
    /// a selector may be at an address. Where more than one thing is wrong, the first of these is
    /// reported:
    ///
    /// - [`EINVAL`]: the mode is unknown, the region is not one, or [`OFF`] has an argument.
    /// - [`EPERM`]: arming is not allowed.
    /// - [`EFAULT`]: the selector is not in user space.
    pub(crate) fn validate(
        self,
        word: Word,
        allowed: bool,
        is_user: impl FnOnce(usize) -> bool,
    ) -> Result<Option<Settings>> {
        let exempt = match self.mode {
            OFF if self == Self::default() => return Ok(None),
            EXCLUSIVE_ON => Exempt::inside(self.offset, self.len, word)?,
            INCLUSIVE_ON => Exempt::outside(self.offset, self.len, word)?,
            _ => return Err(EINVAL),
        };

        if !allowed {
            return Err(EPERM);
        }

        if self.selector != 0 && !is_user(self.selector) {
            return Err(EFAULT);
        }

        Ok(Some(Settings {
            exempt,
            selector: self.selector,
        }))
    }
}

impl From<Option<Settings>> for Request {
    /// The request that leads to `settings`; for a thread that is not armed, all zeros.
    fn from(settings: Option<Settings>) -> Self {
        let Some(Settings { exempt, selector }) = settings else {
            return Self::default();
        };
        let (mode, offset, len) = exempt.origin();

        Self {
            mode,
            offset,
            len,
            selector,
        }
    }
}

/// The configuration of an armed thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The addresses whose syscalls run directly.
    pub(crate) exempt: Exempt,
    /// The address of the selector byte; 0 for none.
    pub(crate) selector: usize,
}

/// The addresses whose syscalls run directly: `len` addresses from `start` on, modulo 2^64.
///
/// Both modes come down to this one shape, so that the decision on every syscall is one
/// subtraction and one comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exempt {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Exempt {
    /// The half-open region `[offset, offset + len)`. At offset 0 any length will do, none
    /// included.
    const fn inside(offset: usize, len: usize, word: Word) -> Result<Self> {
        if offset != 0 && !is_region(offset, len, word) {
            return Err(EINVAL);
        }

        Ok(Self { start: offset, len })
    }

    /// All but the region `[offset, offset + len)`: what starts at its end, and wraps around up
    /// to its beginning.
    const fn outside(offset: usize, len: usize, word: Word) -> Result<Self> {
        if !is_region(offset, len, word) {
            return Err(EINVAL);
        }

        Ok(Self {
            start: offset.wrapping_add(len),
            len: len.wrapping_neg(),
        })
    }

    /// The mode and the region that it was made from.
    ///
    /// There is only one: what [`Self::outside()`] makes is no region itself, since it wraps
    /// around or ends at 2^64, and it does not start at 0, where [`Self::inside()`] would accept
    /// it all the same.
    const fn origin(self) -> (usize, usize, usize) {
        if self.start == 0 || is_region(self.start, self.len, Word::Bits64) {
            (EXCLUSIVE_ON, self.start, self.len)
        } else {
            (
                INCLUSIVE_ON,
                self.start.wrapping_add(self.len),
                self.len.wrapping_neg(),
            )
        }
    }

    /// Whether the syscall that returns to `address` runs directly.
    #[inline(always)]
    pub(crate) const fn contains(self, address: usize) -> bool {
        address.wrapping_sub(self.start) < self.len
    }
}

/// Whether `[offset, offset + len)` holds an address, and its end is a number that a word can hold.
const fn is_region(offset: usize, len: usize, word: Word) -> bool {
    match offset.checked_add(len) {
        Some(end) => len != 0 && end <= word.max(),
        None => false,
    }
}

/// What becomes of a syscall that its address does not exempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The selector allows it: it runs.
    Run,
    /// It is handed back to the thread as SIGSYS.
    Dispatch,
    /// The selector holds neither of its two values: the task dies of SIGSYS.
    BadSelector,
    /// The selector cannot be read: the task dies of SIGSEGV.
    NoSelector,
}

impl Verdict {
    /// The verdict of a selector, from what reading it gave: the value of its byte, or a negative
    /// errno.
    #[inline(always)]
    pub(crate) const fn of(reading: i32) -> Self {
        match reading {
            // SYSCALL_DISPATCH_FILTER_ALLOW
            0 => Self::Run,
            // SYSCALL_DISPATCH_FILTER_BLOCK
            1 => Self::Dispatch,
            2.. => Self::BadSelector,
            _ => Self::NoSelector,
        }
    }
}

#[cfg(CONFIG_SYSCALL_USER_DISPATCH_KUNIT_TEST)]
#[kunit_tests(syscall_user_dispatch)]
mod tests {
    use super::*;

    const MAX: usize = usize::MAX;

    /// Where the user half ends, for the tests.
    const USER_END: usize = 1 << 47;

    /// Numbers at and around every boundary there is.
    const EDGES: [usize; 19] = [
        0,
        1,
        2,
        3,
        0xfff,
        0x1000,
        0x1001,
        u32::MAX as usize - 1,
        u32::MAX as usize,
        1 << 32,
        (1 << 32) + 1,
        USER_END - 1,
        USER_END,
        (1 << 63) - 1,
        1 << 63,
        (1 << 63) + 1,
        MAX - 2,
        MAX - 1,
        MAX,
    ];

    fn request(mode: usize, offset: usize, len: usize, selector: usize) -> Request {
        Request {
            mode,
            offset,
            len,
            selector,
        }
    }

    fn validate(request: Request) -> Result<Option<Settings>> {
        request.validate(Word::Bits64, true, |address| address < USER_END)
    }

    fn exempt(mode: usize, offset: usize, len: usize) -> Result<Exempt> {
        Ok(validate(request(mode, offset, len, 0))?
            .ok_or(ENOENT)?
            .exempt)
    }

    /// Whether `address` is in `[offset, offset + len)`, computed without wrapping.
    fn in_region(address: usize, offset: usize, len: usize) -> bool {
        address >= offset && (address as u128) < offset as u128 + len as u128
    }

    #[test]
    fn unknown_modes_are_invalid() {
        for mode in EDGES {
            assert_eq!(
                validate(request(mode, 0x1000, 0x1000, 0)).is_ok(),
                mode == EXCLUSIVE_ON || mode == INCLUSIVE_ON
            );
            // All 64 bits of the mode count.
            assert_eq!(validate(request(mode | 1 << 32, 0, 0, 0)), Err(EINVAL));
        }
    }

    #[test]
    fn off_takes_no_argument() {
        assert_eq!(validate(request(OFF, 0, 0, 0)), Ok(None));
        assert_eq!(validate(request(OFF, 1, 0, 0)), Err(EINVAL));
        assert_eq!(validate(request(OFF, 0, 1, 0)), Err(EINVAL));
        assert_eq!(validate(request(OFF, 0, 0, 1)), Err(EINVAL));
    }

    #[test]
    fn exclusive_region_at_zero_may_have_any_length() {
        for len in EDGES {
            assert_eq!(exempt(EXCLUSIVE_ON, 0, len), Ok(Exempt { start: 0, len }));
        }
    }

    #[test]
    fn other_regions_are_not_empty_and_end_below_2_to_the_64() {
        for offset in EDGES {
            for len in EDGES {
                let good = len != 0 && offset as u128 + len as u128 <= MAX as u128;

                assert_eq!(exempt(INCLUSIVE_ON, offset, len).is_ok(), good);
                if offset != 0 {
                    assert_eq!(exempt(EXCLUSIVE_ON, offset, len).is_ok(), good);
                }
            }
        }
    }

    #[test]
    fn exclusive_exempts_the_region_and_inclusive_the_rest() {
        for offset in EDGES {
            for len in EDGES {
                for address in EDGES {
                    let inside = in_region(address, offset, len);

                    if let Ok(exempt) = exempt(EXCLUSIVE_ON, offset, len) {
                        assert_eq!(exempt.contains(address), inside);
                    }
                    if let Ok(exempt) = exempt(INCLUSIVE_ON, offset, len) {
                        assert_eq!(exempt.contains(address), !inside);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_reported_leads_to_what_it_reports() {
        for mode in [OFF, EXCLUSIVE_ON, INCLUSIVE_ON] {
            for offset in EDGES {
                for len in EDGES {
                    for selector in [0, 1, USER_END - 1] {
                        let request = request(mode, offset, len, selector);

                        if let Ok(settings) = validate(request) {
                            assert_eq!(Request::from(settings), request);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_region_is_outside() {
        let inside = exempt(EXCLUSIVE_ON, 0x1000, 0x10);
        let outside = exempt(INCLUSIVE_ON, 0x1000, 0x10);

        for (address, expected) in [
            (0xfff, false),
            (0x1000, true),
            (0x100f, true),
            (0x1010, false),
        ] {
            assert_eq!(inside.map(|e| e.contains(address)), Ok(expected));
            assert_eq!(outside.map(|e| e.contains(address)), Ok(!expected));
        }
    }

    #[test]
    fn a_selector_is_null_or_in_user_space() {
        for selector in EDGES {
            let settings = validate(request(EXCLUSIVE_ON, 0, 0, selector));

            if selector < USER_END {
                assert_eq!(settings.map(|s| s.map(|s| s.selector)), Ok(Some(selector)));
            } else {
                assert_eq!(settings, Err(EFAULT));
            }
        }

        // Null is no address to be judged.
        let nowhere = |selector| {
            request(EXCLUSIVE_ON, 0, 0, selector).validate(Word::Bits64, true, |_| false)
        };
        assert!(nowhere(0).is_ok());
        assert_eq!(nowhere(1), Err(EFAULT));

        // Nothing else sets a limit to it.
        let high = request(EXCLUSIVE_ON, 0, 0, MAX);
        assert!(high.validate(Word::Bits32, true, |_| true).is_ok());
    }

    #[test]
    fn a_region_in_32_bit_words_ends_in_them() {
        let validate = |request: Request| request.validate(Word::Bits32, true, |_| true);
        let max = u32::MAX as usize;

        for offset in EDGES {
            for len in EDGES {
                let good = len != 0 && offset as u128 + len as u128 <= max as u128;

                assert_eq!(
                    validate(request(INCLUSIVE_ON, offset, len, 0)).is_ok(),
                    good
                );
                assert_eq!(
                    validate(request(EXCLUSIVE_ON, offset, len, 0)).is_ok(),
                    good || offset == 0
                );
            }
        }
    }

    #[test]
    fn arming_can_be_denied_but_not_disarming() {
        let denied = |request: Request| request.validate(Word::Bits64, false, |_| true);

        assert_eq!(denied(request(OFF, 0, 0, 0)), Ok(None));
        assert_eq!(denied(request(EXCLUSIVE_ON, 0, 0, 0)), Err(EPERM));
        assert_eq!(denied(request(INCLUSIVE_ON, 0, 1, 0)), Err(EPERM));
    }

    #[test]
    fn the_first_error_is_reported() {
        let kernel = |mode, offset, len| request(mode, offset, len, MAX);

        for allowed in [false, true] {
            let validate = |request: Request| request.validate(Word::Bits64, allowed, |_| false);

            assert_eq!(validate(kernel(3, 0, 0)), Err(EINVAL));
            assert_eq!(validate(kernel(OFF, 0, 0)), Err(EINVAL));
            assert_eq!(validate(kernel(EXCLUSIVE_ON, 1, 0)), Err(EINVAL));
            assert_eq!(validate(kernel(INCLUSIVE_ON, 0, 0)), Err(EINVAL));
            assert_eq!(
                validate(kernel(EXCLUSIVE_ON, 0, 0)),
                Err(if allowed { EFAULT } else { EPERM })
            );
        }
    }

    #[test]
    fn every_selector_value_has_its_verdict() {
        for value in 0..=u8::MAX {
            let expected = match value {
                0 => Verdict::Run,
                1 => Verdict::Dispatch,
                _ => Verdict::BadSelector,
            };
            assert_eq!(Verdict::of(value.into()), expected);
        }
        for errno in [-1, EFAULT.to_errno(), i32::MIN] {
            assert_eq!(Verdict::of(errno), Verdict::NoSelector);
        }
    }
}
