// SPDX-License-Identifier: GPL-2.0

//! What the functions run in: the regions of memory, what is assumed of them, and how each function
//! is called.

use crate::{
    compare::{explore, start, Program},
    explore::Path,
    image::Image,
    machine::{End, State, RCX, RDI, RDX, RSI},
    memory::{Memory, World},
    solver::Solver,
    term::{constant, truth, var, word, Term},
};
use anyhow::{bail, ensure, Context as _, Result};

/// Where things are in `task_struct`, which has to be the same in all images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `syscall_dispatch`: selector, offset, len, and what else.
    pub state: i64,
    /// `thread_info.syscall_work`, the bit that is set there, and `status` behind it.
    pub work: i64,
    pub work_bit: u64,
}

/// `TS_COMPAT` of `thread_info.status`.
pub const COMPAT: u64 = 2;

/// A function that is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Decision,
    Setter,
    Get,
    Set,
}

impl Function {
    pub const ALL: [Self; 4] = [Self::Decision, Self::Setter, Self::Get, Self::Set];

    pub fn symbol(self) -> &'static str {
        match self {
            Self::Decision => "syscall_user_dispatch",
            Self::Setter => "set_syscall_user_dispatch",
            Self::Get => "syscall_user_dispatch_get_config",
            Self::Set => "syscall_user_dispatch_set_config",
        }
    }

    /// How people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Setter => "prctl",
            Self::Get => "ptrace get",
            Self::Set => "ptrace set",
        }
    }

    /// How many bits of the result mean something.
    pub fn returns(self) -> u8 {
        match self {
            Self::Decision => 8,
            _ => 32,
        }
    }

    pub fn registers(self, layout: Layout) -> Vec<(usize, Term)> {
        let is = |name| var(name, 64);
        match self {
            Self::Decision => {
                let state = is("current") + word(layout.state as u64);
                vec![(RDI, is("regs")), (RSI, state)]
            }
            Self::Setter => vec![
                (RDI, is("mode")),
                (RSI, is("offset")),
                (RDX, is("len")),
                (RCX, is("selector")),
            ],
            Self::Get | Self::Set => {
                vec![(RDI, is("task")), (RSI, is("size")), (RDX, is("data"))]
            }
        }
    }

    /// The region whose state the function is about.
    pub fn task(self) -> &'static str {
        match self {
            Self::Decision | Self::Setter => "current",
            Self::Get | Self::Set => "task",
        }
    }
}

/// The three kernels and what is asked about them.
pub struct Scene<'a> {
    pub rust: Program<'a>,
    pub c: Program<'a>,
    pub upstream: Program<'a>,
    pub world: World,
    pub solver: Solver,
    pub layout: Layout,
}

impl<'a> Scene<'a> {
    pub fn new([rust, c, upstream]: [&'a Image; 3], solver: &str) -> Result<Self> {
        let program = |image, side| Program { image, side };
        let rust = program(rust, "rust");
        let c = program(c, "c");
        let upstream = program(upstream, "upstream");
        let mut solver = Solver::new(solver)?;

        // The C is the reference, also where the Rust is changed on purpose.
        let layout = layout(c, &mut solver).context("the layout of patched C")?;
        Ok(Self {
            rust,
            c,
            upstream,
            world: world(layout),
            solver,
            layout,
        })
    }

    /// Whether the other images have the layout that is assumed.
    pub fn check_layout(&mut self) -> Result<()> {
        for program in [self.rust, self.upstream] {
            let other = layout(program, &mut self.solver)?;
            ensure!(
                other == self.layout,
                "{}: {other:?}, not {:?}",
                program.side,
                self.layout
            );
            let (_, size) = program.image.symbol("__cpu_online_mask")?;
            ensure!(size <= 8, "more processors than bits of a word");
        }
        Ok(())
    }

    /// The entry of a function, for all inputs.
    pub fn start(&mut self, program: Program, function: Function, more: &[Term]) -> Result<State> {
        let mut given = given();
        given.extend(more);
        let registers = function.registers(self.layout);
        start(
            program,
            function.symbol(),
            &registers,
            &given,
            &mut self.solver,
        )
    }

    pub fn paths(
        &mut self,
        program: Program,
        function: Function,
        more: &[Term],
    ) -> Result<Vec<Path>> {
        let state = self.start(program, function, more)?;
        explore(program, &mut self.world, &mut self.solver, state)
    }

    /// A word of a function's task before it runs.
    pub fn word(&mut self, function: Function, at: i64) -> Result<Term> {
        let region = self.world.region(function.task());
        Memory::default().load(&self.world, (region, at), 64)
    }
}

fn world(layout: Layout) -> World {
    let mut world = World::new();
    // The registers of the current task are its own.
    let regs = world.region("regs");
    world.base(var("regs", 64), regs);
    world.steady(regs, 0, 0x1000);
    world.writable(regs);
    // So are its state, work flags and status; a tracee stands still.
    for name in ["current", "task"] {
        let task = world.region(name);
        world.base(var(name, 64), task);
        world.steady(task, layout.state, layout.state + 31);
        world.steady(task, layout.work, layout.work + 15);
        world.writable(task);
    }
    let current = world.region("percpu current_task");
    world.know((current, 0), var("current", 64));
    world.steady(current, 0, 7);
    let guard = world.region("percpu __stack_chk_guard");
    world.steady(guard, 0, 7);
    // Nobody else knows what was just allocated.
    let object = world.region("new object");
    world.steady(object, 0, 4095);
    // The counts of tracepoints that run.
    for epoch in 0..EPOCHS {
        let region = world.region(&format!("percpu *(tracepoint_srcu+0x0{})", at(epoch)));
        world.writable(region);
    }
    world
}

/// More than there are events on a path.
const EPOCHS: u32 = 12;

/// How the name of an input says when it was read.
fn at(epoch: u32) -> String {
    match epoch {
        0 => String::new(),
        epoch => format!("@{epoch}"),
    }
}

/// What is assumed of the inputs: a processor has a number below 64, and a bool is 0 or 1.
pub fn given() -> Vec<Term> {
    let mut given = Vec::new();
    for epoch in 0..EPOCHS {
        let cpu = var(&format!("percpu cpu_number+0x0{}", at(epoch)), 64);
        given.push(cpu.extract(0, 32).below(constant(64, 32)));
        given.push(allowed(epoch).below(constant(2, 8)));
    }
    given
}

/// The sysctl, as it is after so many events.
pub fn allowed(epoch: u32) -> Term {
    var(
        &format!("syscall_user_dispatch_allowed+0x0{}", at(epoch)),
        64,
    )
    .extract(0, 8)
}

/// Finds the layout by arming a task.
fn layout(program: Program, solver: &mut Solver) -> Result<Layout> {
    let nowhere = Layout {
        state: -64,
        work: -64,
        work_bit: 0,
    };
    let mut world = world(nowhere);
    let arms = var("mode", 64).equals(word(1));
    let mut given = given();
    given.push(arms);
    let registers = Function::Setter.registers(nowhere);
    let state = start(
        program,
        Function::Setter.symbol(),
        &registers,
        &given,
        solver,
    )?;
    let paths = explore(program, &mut world, solver, state)?;

    let current = world.region("current");
    let mut found = None;
    for path in paths.iter().filter(|it| it.end == End::Returned) {
        let memory = &path.state.memory;
        let places: Vec<i64> = memory
            .changes()
            .filter(|it| it.0 == current)
            .map(|it| it.1)
            .collect();
        let word_at = |at| memory.load(&world, (current, at), 64);
        let mut state = None;
        for &at in &places {
            if word_at(at)? == var("selector", 64) && word_at(at + 8)? == var("offset", 64) {
                state = Some(at);
            }
        }
        let Some(state) = state else { continue };
        let rest: Vec<i64> = places
            .into_iter()
            .filter(|at| !(state..state + 32).contains(at))
            .collect();
        let work = rest.first().context("no work flag is set")? & !7;
        ensure!(
            rest.iter().all(|at| at & !7 == work),
            "more than the work flags is written"
        );
        let before = Memory::default().load(&world, (current, work), 64)?;
        let after = word_at(work)?;
        let is_set = |bit: &u64| {
            let mut memory = Memory::default();
            memory.store((current, work), before | word(1 << bit));
            memory
                .load(&world, (current, work), 64)
                .is_ok_and(|it| it == after)
        };
        let bit = (0..64).find(is_set);
        let layout = Layout {
            state,
            work,
            work_bit: bit.context("not one work flag is set")?,
        };
        ensure!(
            found.is_none_or(|it| it == layout),
            "paths disagree: {found:?}, {layout:?}"
        );
        found = Some(layout);
    }
    match found {
        Some(layout) => Ok(layout),
        None => bail!("no path arms the task"),
    }
}

/// Whether at least one holds, and whether all do.
pub fn any(terms: &[Term]) -> Term {
    terms.iter().fold(truth(false), |all, &it| all | it)
}

pub fn all(terms: &[Term]) -> Term {
    terms.iter().fold(truth(true), |all, &it| all & it)
}
