// SPDX-License-Identifier: GPL-2.0

//! The arena: everything whose address matters, at addresses that never change.
//!
//! The code that enters the kernel is copied to fixed addresses below 4 GiB, so that 32-bit code
//! can be part of it, so that regions can be written down as numbers, and so that two kernels see
//! the very same addresses.

pub use crate::{code::*, site::*};
use crate::{
    sibling::Sibling,
    sys::{self, *},
    vdso,
};
use std::{
    fmt, ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The syscall instructions and what goes with them.
pub const CODE: u64 = 0x2000_0000;
pub const CODE_SIZE: u64 = 0x1000;
/// Two pages around 2^32, with a syscall instruction that ends there.
pub const BORDER: u64 = 0xffff_f000;
pub const FOUR_GIB: u64 = 1 << 32;

/// Shared between the subject and its worker.
pub const SHARED: u64 = 0x3000_0000;

/// Pages for selectors, each of its own kind.
pub const SELECTORS: u64 = 0x4000_0000;
pub const PAGE: u64 = 0x1000;

/// The stacks of the subject, of a child that it makes, and the alternate one of its signals. They
/// lie low because 32-bit code runs on them, too.
pub const STACK: u64 = 0x5000_0000;
pub const STACK_SIZE: u64 = 0x4_0000;
pub const CHILD_STACK: u64 = 0x5010_0000;
pub const ALT_STACK: u64 = 0x5020_0000;
pub const SIBLING_STACK: u64 = 0x5030_0000;

/// Where syscalls find and leave their structures.
pub const SCRATCH: u64 = 0x6000_0000;
/// Where the code finds what to call in the 32-bit vDSO.
pub const PAD: u64 = SCRATCH + 0xf00;
/// Where it finds the handler of x32 signals.
pub const X32_HANDLER: u64 = SCRATCH + 0xf08;
/// The futex that programs wait for.
pub const FUTEX: u64 = SCRATCH + 0xf10;

/// What the processes of the stress test share.
pub const WORLD: u64 = 0x3800_0000;

/// Where the vDSO of 32-bit programs is mapped, for a subject that wants it, and room for it.
pub const VDSO32: u64 = 0x7000_0000;
const VDSO32_SIZE: u64 = 0x10 * PAGE;

/// File descriptors that the subject finds open.
pub const FD_PIPE_READ: u64 = 40;
pub const FD_PIPE_WRITE: u64 = 41;
pub const FD_TINY: u64 = 43;
pub const FD_GARBAGE: u64 = 44;
pub const FD_FAULTS: u64 = 45;

/// The places that selectors can be at.
pub const SELECTOR_RW: u64 = SELECTORS;
/// The last byte before a page without access.
pub const SELECTOR_LAST: u64 = SELECTORS + PAGE - 1;
pub const SELECTOR_NONE: u64 = SELECTORS + PAGE;
/// A page that can only be read, which holds its offsets: 0, 1, 2, ..., 255.
pub const SELECTOR_RO: u64 = SELECTORS + 2 * PAGE;
pub const SELECTOR_HOLE: u64 = SELECTORS + 3 * PAGE;
/// A page for the program to map, protect and unmap.
pub const SELECTOR_DYNAMIC: u64 = SELECTORS + 4 * PAGE;
/// Within a file, and past its end.
pub const SELECTOR_FILE: u64 = SELECTORS + 5 * PAGE;
pub const SELECTOR_PAST_END: u64 = SELECTORS + 6 * PAGE;
/// A page that is not there before it is touched.
pub const SELECTOR_FRESH: u64 = SELECTORS + 7 * PAGE;
/// A page whose protection key forbids access, where there are such keys.
pub const SELECTOR_KEY: u64 = SELECTORS + 8 * PAGE;
/// A page in front of one without access, for structures that cross the border between them.
pub const TORN: u64 = SELECTORS + 9 * PAGE;
/// A page that whoever watches the subject provides, while the subject waits for it.
pub const SELECTOR_AWAITED: u64 = SELECTORS + 11 * PAGE;

/// Whether `address` is in the 32-bit vDSO, which has what it returns by on the stack.
pub fn is_vdso32(address: u64) -> bool {
    address.wrapping_sub(VDSO32) < VDSO32_SIZE
}

/// What the worker and the subject tell each other. They take turns, but for `spin`.
#[repr(C)]
pub struct Shared {
    /// The operation under way.
    pub operation: AtomicU64,
    /// Whether a tracer is there.
    pub traced: AtomicU32,
    /// Set by the subject while it waits for the worker, cleared by the worker.
    pub spin: AtomicU32,
    /// Set where the subject ends on purpose.
    pub ended: AtomicU32,
    /// Whether the present operation makes a child, whose number is then no mere number.
    pub makes_child: AtomicU32,
    /// Where the subject's 32-bit vDSO makes syscalls, if it has one: in its function for that, and
    /// in the two trampolines of signal handlers.
    pub vsyscall: AtomicU64,
    pub sigreturn: AtomicU64,
    pub rt_sigreturn: AtomicU64,
    pub children: [AtomicI32; 32],
    pub child_count: AtomicU32,
    pub sibling: Sibling,
    position: AtomicU64,
    text: [std::cell::UnsafeCell<u8>; Shared::TEXT],
}

impl Shared {
    const TEXT: usize = 1 << 18;
}

pub fn shared() -> &'static Shared {
    // SAFETY: `set_up()` mapped it for good before anyone asks; all zeroes are a value, and
    // fields that change are atomic or of type `UnsafeCell`.
    unsafe { &*(SHARED as *const Shared) }
}

impl Shared {
    /// Waits for `go()`, asleep.
    pub fn wait_to_go(&self) {
        const FUTEX_WAIT: u64 = 0;
        while self.spin.load(Relaxed) != 0 {
            // SAFETY: The word lives in shared memory for good.
            unsafe { sys::call(SYS_FUTEX, &[self.spin.as_ptr() as u64, FUTEX_WAIT, 1, 0]) };
        }
    }

    /// Lets the subject go on.
    pub fn go(&self) {
        const FUTEX_WAKE: u64 = 1;
        self.spin.store(0, Relaxed);
        // SAFETY: As above.
        unsafe { sys::call(SYS_FUTEX, &[self.spin.as_ptr() as u64, FUTEX_WAKE, 1]) };
    }
}

/// Writes to the transcript. It never allocates, and can be used wherever the subject is.
pub struct Log;

impl fmt::Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let shared = shared();
        let position = shared.position.load(Relaxed) as usize;
        let room = &shared.text[position.min(Shared::TEXT)..];
        let len = text.len().min(room.len());
        // SAFETY: There is room for it, and the worker and the subject, and the threads of the
        // subject, take turns.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), room.as_ptr() as *mut u8, len) };
        shared.position.store((position + len) as u64, Relaxed);
        Ok(())
    }
}

impl Log {
    /// Takes out what was written.
    pub fn take(&mut self, to: &mut Vec<u8>) {
        let shared = shared();
        let position = shared.position.swap(0, Relaxed) as usize;
        // SAFETY: As in `write_str()`; the subject does not run meanwhile.
        to.extend(
            shared.text[..position]
                .iter()
                .map(|cell| unsafe { *cell.get() }),
        );
    }
}

#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => {{
        use std::fmt::Write;
        // Writing to the log cannot fail.
        let _ = writeln!($crate::arena::Log, $($argument)*);
    }};
}

/// An address or value, by name where it has one, so that it reads well and does not depend on
/// where things happen to be.
pub struct Name(pub u64);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name(value) = *self;
        if (CODE..CODE + CODE_SIZE).contains(&value) {
            let (name, distance) = place(value);
            return write!(f, "{name}+{distance}");
        }
        if is_vdso32(value) {
            // Each compiler has another order of functions.
            let shared = shared();
            let (start, name) = [
                (&shared.vsyscall, "vsyscall"),
                (&shared.sigreturn, "sigreturn"),
                (&shared.rt_sigreturn, "rt-sigreturn"),
            ]
            .map(|(start, name)| (start.load(Relaxed), name))
            .into_iter()
            .filter(|(start, _)| (VDSO32..=value).contains(start))
            .max()
            .unwrap_or((VDSO32, "vdso32"));
            return write!(f, "{name}+{}", value - start);
        }
        if value.wrapping_sub(FOUR_GIB - 2) < 4 {
            return write!(f, "border+{}", value - (FOUR_GIB - 2));
        }
        if vdso::own().image.contains(&value) {
            return f.write_str("vdso");
        }
        // Code and stacks of this program and its libraries.
        if (0x5000_0000_0000..1 << 47).contains(&value) {
            return f.write_str("elsewhere");
        }
        // Small negative numbers are errnos as a rule.
        if (value as i64) < 0 && (value as i64) > -0x2_0000 {
            return write!(f, "{}", value as i64);
        }
        write!(f, "{value:#x}")
    }
}

/// A return value, which may be the number of a child.
pub struct Value(pub u64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = shared();
        let is_child = |child: &AtomicI32| child.load(Relaxed) as u64 == self.0;
        if self.0 != 0
            && shared.makes_child.load(Relaxed) != 0
            && shared.children.iter().any(is_child)
        {
            return f.write_str("child");
        }
        Name(self.0).fmt(f)
    }
}

/// A program of few instructions, to be executed: it asks for the user, and exits with 42 if it
/// was told.
fn tiny_elf() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let code = [
        0xb8u8, 102, 0, 0, 0, // mov $getuid, %eax
        0x0f, 0x05, // syscall
        0x85, 0xc0, // test %eax, %eax
        0xbf, 42, 0, 0, 0, // mov $42, %edi
        0x74, 0x05, // je 1f
        0xbf, 43, 0, 0, 0, // mov $43, %edi
        0xb8, 231, 0, 0, 0, // 1: mov $exit_group, %eax
        0x0f, 0x05, // syscall
    ];
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let size = 64 + 56 + code.len() as u64;
    let words = |elf: &mut Vec<u8>, words: &[u64]| {
        words.iter().for_each(|word| elf.extend(word.to_le_bytes()))
    };
    // ET_EXEC, EM_X86_64, version 1
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    words(&mut elf, &[BASE + 64 + 56, 64, 0]);
    // No flags; sizes of the headers and their number
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    words(&mut elf, &[0, BASE, BASE, size, size, PAGE]);
    elf.extend(code);
    elf
}

/// A file in memory under a fixed descriptor.
fn file_at(fd: u64, content: &[u8]) {
    // SAFETY: The name and the content are valid, and the descriptor is one of ours.
    unsafe {
        let file = call(SYS_MEMFD_CREATE, &[c"differential".as_ptr() as u64, 0]);
        assert!(file >= 0, "memfd_create: {file}");
        call(
            SYS_WRITE,
            &[file as u64, content.as_ptr() as u64, content.len() as u64],
        );
        assert_eq!(call(SYS_DUP3, &[file as u64, fd, 0]), fd as i64);
        call(SYS_CLOSE, &[file as u64]);
    }
}

static HAS_KEYS: AtomicBool = AtomicBool::new(false);

/// Whether there are protection keys.
pub fn has_keys() -> bool {
    HAS_KEYS.load(Relaxed)
}

/// Maps the arena into the current process, whose children inherit it.
pub fn set_up() {
    let anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    vdso::own();
    let code = bytes();
    assert!(code.len() as u64 <= CODE_SIZE);

    map_at(CODE, CODE_SIZE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(BORDER, 2 * PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    // SAFETY: The mappings are new and large enough.
    unsafe {
        ptr::copy_nonoverlapping(code.as_ptr(), CODE as *mut u8, code.len());
        // syscall; ret
        ptr::copy_nonoverlapping([0x0f, 0x05, 0xc3].as_ptr(), (FOUR_GIB - 2) as *mut u8, 3);
        sys::call(SYS_MPROTECT, &[CODE, CODE_SIZE, PROT_READ | PROT_EXEC]);
        sys::call(SYS_MPROTECT, &[BORDER, 2 * PAGE, PROT_READ | PROT_EXEC]);
    }

    let shared_size = (size_of::<Shared>() as u64).next_multiple_of(PAGE);
    map_at(
        SHARED,
        shared_size,
        PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS,
        -1,
    );
    for stack in [STACK, CHILD_STACK, ALT_STACK, SIBLING_STACK] {
        map_at(stack, STACK_SIZE, PROT_READ | PROT_WRITE, anonymous, -1);
    }
    map_at(SCRATCH, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);

    map_at(SELECTOR_RW, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(SELECTOR_NONE, PAGE, 0, anonymous, -1);
    map_at(SELECTOR_RO, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(
        SELECTOR_DYNAMIC,
        PAGE,
        PROT_READ | PROT_WRITE,
        anonymous,
        -1,
    );
    map_at(SELECTOR_FRESH, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    // SAFETY: The pages were just mapped.
    unsafe {
        for value in 0..=255 {
            *((SELECTOR_RO + value) as *mut u8) = value as u8;
        }
        // Half of the selectors that programs use most say block from the beginning.
        *((SELECTOR_RW + 1) as *mut u8) = 1;
        *((SELECTOR_RW + 3) as *mut u8) = 1;
    }
    file_at(FD_GARBAGE, b"no program");
    file_at(FD_TINY, &tiny_elf());
    map_at(
        SELECTOR_FILE,
        2 * PAGE,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE,
        FD_GARBAGE as i64,
    );
    map_at(SELECTOR_KEY, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(TORN, PAGE, PROT_READ | PROT_WRITE, anonymous, -1);
    map_at(TORN + PAGE, PAGE, 0, anonymous, -1);
    map_at(
        SELECTOR_AWAITED,
        PAGE,
        PROT_READ | PROT_WRITE,
        anonymous,
        -1,
    );
    // SAFETY: The pages are ours. Without protection keys the last one just stays as it is.
    unsafe {
        sys::call(SYS_MPROTECT, &[SELECTOR_RO, PAGE, PROT_READ]);
        let key = sys::call(SYS_PKEY_ALLOC, &[0, 1]);
        if key > 0 {
            let prot = PROT_READ | PROT_WRITE;
            *((SELECTOR_KEY + 1) as *mut u8) = 1;
            sys::call(SYS_PKEY_MPROTECT, &[SELECTOR_KEY, PAGE, prot, key as u64]);
            HAS_KEYS.store(true, Relaxed);
        }
    }
}
