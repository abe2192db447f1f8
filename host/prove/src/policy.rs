// SPDX-License-Identifier: GPL-2.0

//! What the setter has to do, written once more: as the admin guide says it and not as either
//! program computes it.

use crate::{
    explore::Path,
    machine::RAX,
    memory::Memory,
    scene::{all, allowed, any, Function, Scene, COMPAT},
    term::{constant, truth, var, word, Term},
};
use anyhow::Result;

const EPERM: i32 = 1;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;

/// A request and what it is judged by.
pub struct Request {
    pub mode: Term,
    pub offset: Term,
    pub len: Term,
    pub selector: Term,
    pub upcall: Term,
    /// Whether the words have 32 bits.
    pub word32: Term,
    /// Whether an address is one of user space, as far as words of 32 bits do not matter.
    pub allowed: Term,
    pub armed: Term,
}

/// What comes of it: an error, or a state.
#[derive(Clone, Copy)]
pub struct Outcome {
    pub errno: Term,
    pub selector: Term,
    pub offset: Term,
    pub len: Term,
    pub upcall: Term,
    pub armed: Term,
}

fn error(number: i32) -> Term {
    constant(-i64::from(number) as u64, 32)
}

/// The first error whose condition holds, else none.
fn first(errors: &[(Term, i32)]) -> Term {
    errors
        .iter()
        .rev()
        .fold(constant(0, 32), |rest, &(holds, number)| {
            holds.ite(error(number), rest)
        })
}

/// `TASK_SIZE_MAX`: the end of the lower half, less a page, with four or five levels of tables.
pub fn task_size(feature: Term) -> Term {
    let end = |bits: u32| word((1 << bits) - 4096);
    feature.ite(end(56), end(47))
}

/// Whether a region is not empty and does not wrap around in words of its request.
fn is_region(request: &Request) -> Term {
    let end = request.offset + request.len;
    let wraps = end.below(request.offset);
    let too_far = request.word32 & word(u32::MAX.into()).below(end);
    all(&[!request.len.is_zero(), !wraps, !too_far])
}

/// The three modes, by prctl and ptrace. `end32` is the end of what 32-bit code can map.
pub fn configure(request: &Request, end32: Term, handlers: Term) -> Outcome {
    let mode = |number| request.mode.equals(word(number));
    let (off, exclusive, inclusive) = (mode(0), mode(1), mode(2));
    let is_user = !var("USER_PTR_MAX", 64).below(request.selector)
        & (!request.word32 | request.selector.below(end32));
    let arguments = [
        request.offset,
        request.len,
        request.selector,
        request.upcall,
    ];
    let invalid = any(&[
        !any(&[off, exclusive, inclusive]),
        off & any(&arguments.map(|it| !it.is_zero())),
        exclusive & !request.offset.is_zero() & !is_region(request),
        inclusive & !is_region(request),
    ]);
    let errno = first(&[
        (invalid, EINVAL),
        (!off & !request.allowed, EPERM),
        (!off & !request.selector.is_zero() & !is_user, EFAULT),
        (
            !request.upcall.is_zero() & !request.upcall.below(handlers),
            EFAULT,
        ),
    ]);
    Outcome {
        errno,
        selector: request.selector,
        offset: inclusive.ite(request.offset + request.len, request.offset),
        len: inclusive.ite(-request.len, request.len),
        upcall: request.upcall,
        armed: !off,
    }
}

/// The upcall, whose handler is the first argument. All else stays.
pub fn set_upcall(request: &Request, before: &Outcome, handlers: Term) -> Outcome {
    let handler = request.offset;
    let rest = !request.len.is_zero() | !request.selector.is_zero();
    let asks = !handler.is_zero();
    let errno = first(&[
        (request.word32 | rest, EINVAL),
        (asks & !request.armed, EINVAL),
        (asks & !request.allowed, EPERM),
        (asks & !handler.below(handlers), EFAULT),
    ]);
    Outcome {
        errno,
        upcall: request.armed.ite(handler, before.upcall),
        ..*before
    }
}

/// The state before a function runs, and the work flags besides its own.
pub fn before(scene: &mut Scene, function: Function) -> Result<(Outcome, Term)> {
    of_memory(scene, function, &Memory::default(), constant(0, 32))
}

/// The same at the end of a path, with its result.
pub fn after(scene: &mut Scene, function: Function, path: &Path) -> Result<(Outcome, Term)> {
    let result = path.state.regs[RAX].extract(0, 32);
    of_memory(scene, function, &path.state.memory, result)
}

fn of_memory(
    scene: &mut Scene,
    function: Function,
    memory: &Memory,
    errno: Term,
) -> Result<(Outcome, Term)> {
    let layout = scene.layout;
    let region = scene.world.region(function.task());
    let load = |at| memory.load(&scene.world, (region, at), 64);
    let work = load(layout.work)?;
    let outcome = Outcome {
        errno,
        selector: load(layout.state)?,
        offset: load(layout.state + 8)?,
        len: load(layout.state + 16)?,
        upcall: load(layout.state + 24)?,
        armed: work.extract(layout.work_bit as u8, 1),
    };
    Ok((outcome, work & !word(1 << layout.work_bit)))
}

/// What is equal if a path did as an outcome says: nothing has changed where there is an error.
pub fn pairs(outcome: &Outcome, before: &Outcome, after: &Outcome) -> Vec<crate::compare::Pair> {
    let done = outcome.errno.is_zero();
    let pair = |what: &str, get: fn(&Outcome) -> Term| {
        (
            what.to_owned(),
            get(after),
            done.ite(get(outcome), get(before)),
        )
    };
    vec![
        ("the result".to_owned(), after.errno, outcome.errno),
        pair("the selector", |it| it.selector),
        pair("the offset", |it| it.offset),
        pair("the length", |it| it.len),
        pair("the upcall", |it| it.upcall),
        pair("the work flag", |it| it.armed),
    ]
}

/// The request that prctl makes.
pub fn of_prctl(before: &Outcome, status: Term) -> Request {
    Request {
        mode: var("mode", 64),
        offset: var("offset", 64),
        len: var("len", 64),
        selector: var("selector", 64),
        upcall: word(0),
        word32: !(status & word(COMPAT)).is_zero(),
        allowed: !allowed(0).is_zero(),
        armed: before.armed,
    }
}

/// What comes of the request that a tracer makes: its size, its copy, its fields.
pub fn by_ptrace(handlers: Term) -> Outcome {
    let is_size = |size| var("size", 64).equals(word(size));
    let field = |number: u32| {
        let bytes = (0..8)
            .rev()
            .map(|at| var(&format!("_copy_from_user #1: byte {}", 8 * number + at), 8));
        bytes.reduce(Term::concat).unwrap_or(word(0))
    };
    let request = Request {
        mode: field(0),
        selector: field(1),
        offset: field(2),
        len: field(3),
        upcall: is_size(40).ite(field(4), word(0)),
        word32: truth(false),
        // It is read when the request was copied.
        allowed: !allowed(1).is_zero(),
        armed: truth(false),
    };
    let outcome = configure(&request, word(0), handlers);
    let early = first(&[
        (!is_size(32) & !is_size(40), EINVAL),
        (!var("_copy_from_user #1: result", 64).is_zero(), EFAULT),
    ]);
    Outcome {
        errno: early.is_zero().ite(outcome.errno, early),
        ..outcome
    }
}

/// The one outcome or the other.
pub fn either(condition: Term, yes: &Outcome, no: &Outcome) -> Outcome {
    let of = |get: fn(&Outcome) -> Term| condition.ite(get(yes), get(no));
    Outcome {
        errno: of(|it| it.errno),
        selector: of(|it| it.selector),
        offset: of(|it| it.offset),
        len: of(|it| it.len),
        upcall: of(|it| it.upcall),
        armed: of(|it| it.armed),
    }
}
