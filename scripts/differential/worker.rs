// SPDX-License-Identifier: GPL-2.0

//! `run`: generates programs, executes them in subjects, and prints the transcript.
//!
//! Programs do not depend on each other, so that several workers execute them, each a process of
//! its own with its own arena. Their transcripts are printed in the order of the programs.

use crate::{
    arena::{self, *},
    draw, log,
    program::*,
    requests::Status,
    subject,
    sys::{self, *},
    tracer::{End, Tracer, SYSCTL},
};
use std::{
    env, fs,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd},
    os::unix::process::CommandExt,
    process::{self, Command},
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

/// Seconds after which a subject that did not end counts as hung, and is killed.
const PATIENCE: u64 = 30;

/// The subject, for `on_alarm()`, which clears it.
static SUBJECT: AtomicI64 = AtomicI64::new(0);

/// One program to execute, and which of its operations.
pub struct Job {
    pub program: u64,
    pub keep: Option<Vec<usize>>,
}

impl Job {
    fn load(&self, seed: u64, style: Style) -> Program {
        let mut program = draw::program(seed, self.program, style);
        if let Some(keep) = &self.keep {
            let mut index = 0..;
            program
                .operations
                .retain(|_| index.next().is_some_and(|i| keep.contains(&i)));
        }
        program
    }
}

/// All addresses where they are without randomisation: what a program does must not depend on
/// where the kernel puts its stack.
fn fix_addresses() {
    const ADDR_NO_RANDOMIZE: u64 = 0x004_0000;
    // SAFETY: No memory is involved.
    let old = unsafe { sys::call(SYS_PERSONALITY, &[0xffff_ffff]) } as u64;
    if old & ADDR_NO_RANDOMIZE != 0 {
        return;
    }
    // SAFETY: As above.
    unsafe { sys::call(SYS_PERSONALITY, &[old | ADDR_NO_RANDOMIZE]) };
    let error = Command::new("/proc/self/exe")
        .args(env::args_os().skip(1))
        .exec();
    panic!("cannot execute myself: {error}");
}

pub fn run(seed: u64, style: Style, jobs: &[Job], workers: usize) -> io::Result<()> {
    if !sys::is_supported() {
        return Err(io::Error::other("this kernel has no Syscall User Dispatch"));
    }
    fix_addresses();
    let no_core = [0u64; 2];
    // SAFETY: The kernel reads the limit.
    unsafe { sys::call(SYS_SETRLIMIT, &[4, no_core.as_ptr() as u64]) };

    let mut pipes = Vec::new();
    for worker in 0..workers {
        let mut ends = [0i32; 2];
        // SAFETY: The kernel writes two descriptors.
        let result = unsafe { sys::call(SYS_PIPE2, &[ends.as_mut_ptr() as u64, 0]) };
        assert_eq!(result, 0, "pipe2");
        // SAFETY: The descriptors are new, and each has this one owner.
        let [from, to] = ends.map(|fd| unsafe { File::from_raw_fd(fd) });
        // SAFETY: This process has one thread.
        let pid = unsafe { sys::call(SYS_FORK, &[]) };
        assert!(pid >= 0, "fork: {pid}");
        if pid == 0 {
            drop((from, pipes));
            let share = jobs.iter().skip(worker).step_by(workers);
            stay_on_one_cpu(worker);
            let result = work(seed, style, share, to);
            process::exit(result.map_or(1, |()| 0));
        }
        pipes.push((pid, from));
    }

    let mut out = io::stdout().lock();
    for (index, job) in jobs.iter().enumerate() {
        let (_, pipe) = &mut pipes[index % workers];
        match receive(pipe) {
            Ok(text) => out.write_all(&text)?,
            Err(error) => {
                for (pid, _) in &pipes {
                    // SAFETY: No memory is involved. The workers take their subjects along.
                    unsafe { sys::call(SYS_KILL, &[*pid as u64, SIGKILL]) };
                }
                return Err(io::Error::other(format!(
                    "in program {}: {error}",
                    job.program
                )));
            }
        }
    }
    out.flush()
}

/// The transcript of one program, as its worker sends it: the length first.
fn receive(pipe: &mut File) -> io::Result<Vec<u8>> {
    // POLLIN
    let mut poll = [pipe.as_raw_fd() as u32, 1];
    let seconds = 20 * PATIENCE;
    // SAFETY: The kernel reads and writes one `struct pollfd`.
    if unsafe { sys::call(SYS_POLL, &[poll.as_mut_ptr() as u64, 1, seconds * 1000]) } == 0 {
        return Err(io::Error::other(format!(
            "nothing happens for {seconds} seconds"
        )));
    }
    let mut len = [0; 8];
    pipe.read_exact(&mut len)?;
    let mut text = vec![0; u64::from_le_bytes(len) as usize];
    pipe.read_exact(&mut text)?;
    Ok(text)
}

fn work<'a>(
    seed: u64,
    style: Style,
    jobs: impl Iterator<Item = &'a Job>,
    mut to: File,
) -> io::Result<()> {
    set_up_process();
    arena::set_up();
    set_up_alarm();
    // Who writes the sysctl does it alone: the file itself is the lock.
    let sysctl = File::open(SYSCTL).ok();
    let lock = |how: u64| {
        if let Some(file) = &sysctl {
            // SAFETY: No memory is involved.
            unsafe { sys::call(SYS_FLOCK, &[file.as_raw_fd() as u64, how]) };
        }
    };

    for job in jobs {
        let program = job.load(seed, style);
        lock(if program.is_alone() { LOCK_EX } else { LOCK_SH });
        let mut text = Vec::new();
        writeln!(text, "{program}")?;
        execute(&program, &mut text);
        if program.is_alone() {
            // A kernel that has no such sysctl has nothing to restore.
            let _ = fs::write(SYSCTL, "1");
        }
        lock(LOCK_UN);
        to.write_all(&(text.len() as u64).to_le_bytes())?;
        to.write_all(&text)?;
    }
    Ok(())
}

/// Binds the worker and its subjects to one processor, each worker to another if there are enough.
/// They take turns at every stop; on one processor they need not wake each other up, which takes
/// long where the processors are emulated.
fn stay_on_one_cpu(worker: usize) {
    let mut mask = [0u64; 16];
    let size = size_of_val(&mask) as u64;
    // SAFETY: The kernel writes at most the size of the mask, and reads as much.
    unsafe {
        sys::call(SYS_SCHED_GETAFFINITY, &[0, size, mask.as_mut_ptr() as u64]);
        let is_set = |cpu: &usize| mask[cpu / 64] >> (cpu % 64) & 1 != 0;
        let cpus: Vec<usize> = (0..mask.len() * 64).filter(is_set).collect();
        let cpu = cpus[worker % cpus.len()];
        mask.fill(0);
        mask[cpu / 64] = 1 << (cpu % 64);
        sys::call(SYS_SCHED_SETAFFINITY, &[0, size, mask.as_ptr() as u64]);
    }
}

fn set_up_process() {
    let disabled = [0u64, 2, 0];
    // SAFETY: The structures are valid. Rust's runtime handles faults on a stack of its own; the
    // subject is to die of them in peace.
    unsafe {
        sys::call(SYS_PRCTL, &[PR_SET_PDEATHSIG, SIGKILL]);
        sys::call(SYS_PRCTL, &[PR_SET_CHILD_SUBREAPER, 1]);
        sys::call(SYS_SIGALTSTACK, &[disabled.as_ptr() as u64]);
        let default = [0u64; 4];
        for signal in [SIGSEGV, 7] {
            sys::call(SYS_RT_SIGACTION, &[signal, default.as_ptr() as u64, 0, 8]);
        }
    }
}

/// Makes the alarm of the worker end the subject. The arena has to be there.
fn set_up_alarm() {
    let action = [on_alarm as *const () as u64, SA_RESTORER, restorer(true), 0];
    // SAFETY: The structure is valid, and the handler does nothing but syscalls.
    unsafe { sys::call(SYS_RT_SIGACTION, &[SIGALRM, action.as_ptr() as u64, 0, 8]) };
}

extern "C" fn on_alarm(_signal: i32) {
    let subject = SUBJECT.swap(0, Relaxed);
    let children = shared()
        .children
        .iter()
        .map(|child| child.load(Relaxed).into());
    for pid in children.chain([subject]).filter(|pid| *pid > 0) {
        // SAFETY: No memory is involved.
        unsafe { sys::call(SYS_KILL, &[pid as u64, SIGKILL]) };
    }
}

/// A pipe of its own for each subject, under the descriptors that it knows.
fn renew_pipe() {
    let mut ends = [0i32; 2];
    // SAFETY: The kernel writes two descriptors; those that are replaced are our own.
    unsafe {
        sys::call(SYS_PIPE2, &[ends.as_mut_ptr() as u64, 0]);
        for (end, fd) in ends.iter().zip([FD_PIPE_READ, FD_PIPE_WRITE]) {
            sys::call(SYS_DUP3, &[*end as u64, fd, 0]);
            sys::call(SYS_CLOSE, &[*end as u64]);
        }
    }
}

/// Executes a program: each subject as far as it comes, the next one from there.
fn execute(program: &Program, text: &mut Vec<u8>) {
    let shared = arena::shared();
    let mut from = 0;
    while from < program.operations.len() {
        renew_pipe();
        subject::clear(program);
        // SAFETY: The worker has one thread.
        let pid = unsafe { sys::call(SYS_FORK, &[]) };
        assert!(pid >= 0, "fork: {pid}");
        if pid == 0 {
            subject::run(program, from);
        }

        SUBJECT.store(pid, Relaxed);
        // SAFETY: No memory is involved.
        unsafe { sys::call(SYS_ALARM, &[PATIENCE]) };
        let mut tracer = Tracer::new(program, pid);
        let end = if program.traced {
            tracer.follow()
        } else {
            End::Status(sys::wait(pid, 0).1)
        };
        match end {
            End::Status(status) if shared.ended.load(Relaxed) == 0 => {
                log!("  subject ends: {}", Status(status))
            }
            _ => {}
        }
        reap(&tracer.seen);
        // SAFETY: No memory is involved.
        unsafe { sys::call(SYS_ALARM, &[0]) };
        if SUBJECT.swap(0, Relaxed) == 0 {
            log!("  hung, and was killed");
        }
        Log.take(text);
        from = shared.operation.load(Relaxed) as usize + 1;
    }
}

/// Collects the children that the subject left, in the order in which it made them. Of those whose
/// end was `seen` already it depends on who died first whether they can be seen again.
fn reap(seen: &[i64]) {
    let shared = arena::shared();
    let count = shared.child_count.load(Relaxed) as usize;
    for child in shared.children.iter().take(count) {
        let pid = child.load(Relaxed);
        if pid == 0 {
            continue;
        }
        let (result, status) = sys::wait(pid.into(), 0);
        // Threads are gone without a trace.
        if result > 0 && !seen.contains(&pid.into()) {
            log!("  child of the subject ends: {}", Status(status));
        }
    }
}
