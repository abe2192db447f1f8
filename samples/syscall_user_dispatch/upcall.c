// SPDX-License-Identifier: GPL-2.0
/*
 * Two operating systems in one process, without signals
 *
 * The foreign program of personality.c once more (foreign.h). This time the
 * thread has told the kernel an address to go to when a foreign syscall is
 * dispatched: an upcall. There is no signal frame then and nothing to return
 * from; the handler (upcall.S) resumes the foreign code with a jump.
 *
 * SIGSYS has a handler as well. It gets the foreign syscalls that do not come
 * by SYSCALL, such as int $0x80, and all of them on a kernel without upcalls.
 * So a program needs no second version for such a kernel.
 *
 * Everything is counted, and what the foreign code finds in its registers is
 * compared with what it has to find; the first difference is fatal.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#include "foreign.h"
#include "gate.h"
#include "upcall.h"

/* Two more syscalls of the foreign kernel */
#define FOREIGN_SPOIL	0x5ea10006	/* its kernel uses the FPU; rdx: not rdx */
#define FOREIGN_SIGNAL	0x5ea10007	/* a signal arrives in its kernel */

#define CARRY		0x1UL		/* bits in EFLAGS */
#define AC		0x40000UL
#define PROBE_FLAGS	0x244cd7UL	/* ID, AC, NT, OF, DF, SF, ZF, AF, PF, CF */
#define ALWAYS_FLAGS	0x202UL

/* x87, SSE, AVX, three parts of AVX-512, APX: what C functions may use */
#define XSTATE		(0xe7UL | 1UL << 19)

#define PAGE		4096UL
#define ROUNDS		5
#define NATIVE_CALLS	20000L
#define FOREIGN_CALLS	2000L
#define INT80_CALLS	10L
#define SIGNALS		10L
#define PROBES		5000UL
#define DELAY_US	100

static char *foreign_page;
static int has_upcall;
static uint64_t xmask;

/* The armed thread that runs. Foreign code here leaves the fs base alone. */
static __thread struct upcall_thread *self;
static __thread volatile unsigned long signals, signals_inside;

/* What the foreign program wrote */
static char said[4096];
static size_t said_len;

static void select_by(struct upcall_thread *thread, char value)
{
	/* As set_selector() does, for the byte of this thread */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	thread->selector = value;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static unsigned long depth(const struct upcall_thread *thread)
{
	unsigned long n = 0;

	while (n < UPCALL_LEVELS && *(volatile uint64_t *)&thread->level[n].busy)
		n++;
	return n;
}

/* Use what foreign code may have left something in */
static void spoil(void)
{
	static const unsigned int mxcsr = 0x1fa0;

	asm volatile("fldpi; fldpi; fldpi; ldmxcsr %0" : : "m" (mxcsr));
	asm volatile("pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm7, %%xmm7\n\t"
		     "pcmpeqd %%xmm8, %%xmm8; pcmpeqd %%xmm15, %%xmm15"
		     : : : "xmm0", "xmm7", "xmm8", "xmm15");
	if (xmask & 1 << 2)
		asm volatile("vzeroall");
	if ((xmask & 0xe0) == 0xe0)
		asm volatile(".irp n, 0, 15, 16, 31\n\t"
			     "vpternlogd $0xff, %%zmm\\n, %%zmm\\n, %%zmm\\n\n\t"
			     ".endr\n\tkxnorw %%k1, %%k1, %%k1" : : );
	/* Three registers of x87 are in use when C code expects none. */
	asm volatile("fninit");
}

/* The handler's own syscalls come from the gate; the selector stays at BLOCK. */
#define gate(...)				\
({						\
	self->gate++;				\
	gate_call(__VA_ARGS__);			\
})

static long foreign_write(const char *text, size_t len)
{
	if (len > sizeof(said) - said_len)
		return -ENOSPC;
	memcpy(said + said_len, text, len);
	said_len += len;
	return gate(SYS_write, (long)STDOUT_FILENO, text, len);
}

/* Do what the foreign kernel would have done, whichever way the call came */
static void emulate(struct upcall_regs *regs)
{
	int saved_errno = errno;
	long ret;

	switch (regs->ax) {
	case FOREIGN_OPEN:
		ret = gate(SYS_open, regs->dx, (long)O_RDONLY, 0L);
		break;
	case FOREIGN_READ:
		ret = gate(SYS_read, regs->dx, regs->r8, regs->r9);
		break;
	case FOREIGN_WRITE:
		ret = foreign_write((const char *)regs->dx, regs->r8);
		break;
	case FOREIGN_CLOSE:
		ret = gate(SYS_close, regs->dx);
		break;
	case FOREIGN_NOTHING:
		ret = 0;
		break;
	case FOREIGN_SPOIL:
		spoil();
		ret = ~regs->dx;
		break;
	case FOREIGN_SIGNAL:
		/* Here if nothing is blocked, else when SIGSYS's handler ends */
		ret = gate(SYS_getpid);
		ret = gate(SYS_tgkill, ret, gate(SYS_gettid), (long)SIGUSR1);
		break;
	default:
		ret = -1;
	}

	/* Answer as the foreign kernel would: in rdx, with carry for errors */
	regs->dx = ret < 0 ? FOREIGN_ERROR : ret;
	regs->flags = ret < 0 ? regs->flags | CARRY : regs->flags & ~CARRY;
	errno = saved_errno;
}

/*
 * Called by upcall.S. Signals are as the foreign code had them, so this and
 * all that it calls has to be as careful as a signal handler: no locks, no
 * malloc(), no stdio.
 */
void upcall_emulate(struct upcall_thread *thread, struct upcall_regs *regs)
{
	unsigned long now = depth(thread);

	thread->upcalls++;
	if (now > thread->deepest)
		thread->deepest = now;
	emulate(regs);
}

/*
 * How a SIGSYS handler and an upcall handler become one: the registers move
 * from the signal frame to the same structure and back.
 */
static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct upcall_regs regs = {
		.ax	= (unsigned int)reg[REG_RAX],
		.dx	= reg[REG_RDX],
		.r8	= reg[REG_R8],
		.r9	= reg[REG_R9],
		.flags	= reg[REG_EFL],
	};

	/* Not ours: somebody sent this signal with kill(2), or seccomp did */
	if (sig != SIGSYS || info->si_code != SYS_USER_DISPATCH)
		return;

	/*
	 * A signal handler starts with the interrupted code's AC. Leave NT and
	 * ID, which sigreturn does not restore.
	 */
	asm volatile("lea -128(%%rsp), %%rsp\n\t"
		     "pushfq; andl %0, (%%rsp); popfq\n\t"
		     "lea 128(%%rsp), %%rsp" : : "i" (~AC) : "cc", "memory");

	self->sigsys++;
	emulate(&regs);
	reg[REG_RDX] = regs.dx;
	reg[REG_EFL] = regs.flags;
}

static long run_foreign(const char *function, long arg)
{
	char before = self->selector;
	long (*enter)(long arg);
	long ret;

	enter = (void *)(foreign_page + (function - foreign_image));
	select_by(self, SYSCALL_DISPATCH_FILTER_BLOCK);
	ret = enter(arg);
	select_by(self, before);
	return ret;
}

/*
 * A native handler of the native side, which calls into the foreign side. It
 * may interrupt anything, the upcall handler included.
 */
static void on_signal(int sig, siginfo_t *info, void *context)
{
	asm volatile("lea -128(%%rsp), %%rsp\n\t"
		     "pushfq; andl %0, (%%rsp); popfq\n\t"
		     "lea 128(%%rsp), %%rsp" : : "i" (~AC) : "cc", "memory");
	signals++;
	if (depth(self))
		signals_inside++;
	run_foreign(foreign_loop, 1);
}

/* Like gate_handle_sigsys(): sigreturn has to come from the gate */
static void handle_signal(int sig, unsigned long flags)
{
	struct {
		void (*handler)(int sig, siginfo_t *info, void *context);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} act = {
		.handler	= on_signal,
		.flags		= SA_SIGINFO | SA_RESTART | GATE_SA_RESTORER | flags,
		.restorer	= gate_restorer,
	};

	if (syscall(SYS_rt_sigaction, sig, &act, NULL, sizeof(act.mask)))
		err(1, "no handler for signal %d", sig);
}

static void load_foreign(void)
{
	foreign_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (foreign_page == MAP_FAILED)
		err(1, "no page for the foreign program");
	memcpy(foreign_page, foreign_image, foreign_end - foreign_image);
	if (mprotect(foreign_page, PAGE, PROT_READ | PROT_EXEC))
		err(1, "the foreign program cannot be made executable");
}

/* What the handler has to save, of what the kernel has switched on */
static void find_xstate(void)
{
	unsigned int a, b, c, d, lo, hi, i;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return;
	asm volatile("xgetbv" : "=a" (lo), "=d" (hi) : "c" (0));
	xmask = ((uint64_t)hi << 32 | lo) & XSTATE;
	for (i = 2; i < 63; i++) {
		if (!(xmask >> i & 1))
			continue;
		__cpuid_count(0xd, i, a, b, c, d);
		if (a + b > UPCALL_XSTATE)
			errx(1, "xstate component %u ends at %u", i, a + b);
	}
}

/* Make this thread's stub, data and stacks, and arm the thread */
static void start_thread(void)
{
	char *block;
	int i;

	block = mmap(NULL, UPCALL_BLOCK, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (block == MAP_FAILED)
		err(1, "no memory for a thread");
	memcpy(block, upcall_stub, upcall_stub_end - upcall_stub);
	if (mprotect(block, UPCALL_PAGE, PROT_READ | PROT_EXEC))
		err(1, "the stub cannot be made executable");

	self = (struct upcall_thread *)(block + UPCALL_PAGE);
	self->common = upcall_common;
	self->xmask = xmask;
	self->selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	for (i = 0; i < UPCALL_LEVELS; i++) {
		self->level[i].thread = self;
		if (mprotect(block + 2 * UPCALL_PAGE + i * UPCALL_STACK,
			     UPCALL_PAGE, PROT_NONE))
			err(1, "no guard page");
	}

	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_EXCLUSIVE_ON,
		  gate_start, gate_end - gate_start, &self->selector))
		err(1, "syscall user dispatch does not start%s",
		    errno == EPERM ? " (see sysctl kernel.syscall_user_dispatch)" : "");
	/* In this order: arming removes the upcall */
	if (has_upcall && prctl(PR_SET_SYSCALL_USER_DISPATCH,
				PR_SYS_DISPATCH_UPCALL, block, 0L, 0L))
		err(1, "FAILED: no upcall, though the kernel knows it");
}

static void stop_thread(void)
{
	disarm();
	if (munmap((char *)self - UPCALL_PAGE, UPCALL_BLOCK))
		err(1, "munmap");
	self = NULL;
}

static void check(const char *what, unsigned long got, unsigned long want)
{
	printf("  %-48s %6lu\n", what, got);
	if (got != want)
		errx(1, "FAILED: %s: %lu, expected %lu", what, got, want);
}

/* How many calls went which way since the last time */
static void check_calls(const char *what, unsigned long by_syscall,
			unsigned long by_int80)
{
	unsigned long want = has_upcall ? by_syscall : 0;

	check(what, self->upcalls + self->sigsys, by_syscall + by_int80);
	if (self->upcalls != want)
		errx(1, "FAILED: %s: %lu of them by upcall, expected %lu",
		     what, self->upcalls, want);
	self->upcalls = 0;
	self->sigsys = 0;
}

/* What a foreign program calls directly, as if from a library of its own */
static long imported_getpid(void)
{
	long ret;

	select_by(self, SYSCALL_DISPATCH_FILTER_ALLOW);
	ret = syscall(SYS_getpid);
	select_by(self, SYSCALL_DISPATCH_FILTER_BLOCK);
	return ret;
}

static void whole_program(void)
{
	char want[sizeof(said)] = FOREIGN_HELLO;
	size_t want_len = strlen(want);
	unsigned long reads;
	long pid, len;
	int fd;

	/* What has to happen follows from the length of the file. */
	fd = open(FOREIGN_FILE, O_RDONLY);
	len = read(fd, want + want_len, sizeof(want) - want_len);
	if (len <= 0)
		err(1, "cannot read %s", FOREIGN_FILE);
	close(fd);
	want_len += len;
	reads = (len + FOREIGN_CHUNK - 1) / FOREIGN_CHUNK + 1;	/* and the end */

	pid = run_foreign(foreign_main, (long)imported_getpid);
	if (pid != getpid())
		errx(1, "FAILED: the foreign program met an error");
	if (said_len != want_len || memcmp(said, want, want_len))
		errx(1, "FAILED: the foreign program said something else");

	/* As many writes as reads, two times open, once close */
	check_calls("foreign: a program's calls", 2 * reads + 3, 0);
	check("native: the handler's own, from the gate", self->gate, 2 * reads + 3);
}

/* A probe and the memory below its stack pointer */
static struct {
	unsigned char below[16384];
	struct upcall_probe probe;
} area __attribute__((aligned(64)));

#define RED_ZONE 128

static void fill(void *p, size_t len)
{
	unsigned char *byte = p;

	while (len--)
		*byte++ = random();
}

static void *component(unsigned char *x, int i, size_t *len)
{
	unsigned int a, b, c, d;

	__cpuid_count(0xd, i, a, b, c, d);
	*len = a;
	return x + b;
}

static void prepare_probe(unsigned long nr)
{
	struct upcall_probe *probe = &area.probe;
	unsigned char *x = probe->xin;
	size_t len;
	void *p;
	int i;

	fill(&probe->in, sizeof(probe->in));
	memset(&probe->out, 0, sizeof(probe->out));
	memset(probe->xout, 0, sizeof(probe->xout));
	probe->in.ax = nr;
	probe->in.dx |= 1UL << 63;		/* its complement is no error */
	probe->in.flags = PROBE_FLAGS | ALWAYS_FLAGS;
	probe->xmask = xmask;

	/* The layout is that of FXSAVE, then XSAVE's header and the rest. */
	memset(x, 0, UPCALL_XSTATE);
	*(uint16_t *)(x + 0) = 0x0e7f;		/* control word: round to zero */
	*(uint16_t *)(x + 2) = 5 << 11;		/* status word: top of stack */
	x[4] = 0xb6;				/* which registers are in use */
	*(uint32_t *)(x + 24) = 0x7fbf;		/* MXCSR: round to zero, flags */
	for (i = 0; i < 8; i++)
		fill(x + 32 + 16 * i, 10);
	fill(x + 160, 256);
	memcpy(x + 512, &xmask, sizeof(xmask));
	for (i = 2; i < 63; i++) {
		if (xmask >> i & 1) {
			p = component(x, i, &len);
			fill(p, len);
		}
	}
}

static void same(const char *what, const void *a, const void *b, size_t len)
{
	if (memcmp(a, b, len))
		errx(1, "FAILED: the foreign code finds another %s", what);
}

static void check_probe(const unsigned char *below)
{
	struct upcall_probe *probe = &area.probe;
	unsigned char *x = probe->xin, *y = probe->xout;
	size_t touched = sizeof(area.below) - RED_ZONE, len;
	unsigned char *p;
	int i;

	/* What the call has to change; rcx is the address of the instruction */
	probe->in.dx = ~probe->in.dx;
	probe->in.flags &= ~CARRY;
	probe->in.sp = (uint64_t)probe;
	probe->in.ip = probe->out.ip;
	same("general register", &probe->in, &probe->out, sizeof(probe->in));

	same("red zone", area.below + touched, below + touched, RED_ZONE);
	/* An upcall does not write to the foreign stack, a signal does. */
	if (has_upcall)
		same("stack", area.below, below, touched);

	same("x87 control word", x, y, 2);
	same("x87 top of stack", x + 2, y + 2, 2);
	same("x87 tags", x + 4, y + 4, 1);
	same("MXCSR", x + 24, y + 24, 4);
	for (i = 0; i < 8; i++)
		same("x87 register", x + 32 + 16 * i, y + 32 + 16 * i, 10);
	same("SSE register", x + 160, y + 160, 256);
	for (i = 2; i < 63; i++) {
		if (xmask >> i & 1) {
			p = component(x, i, &len);
			same("vector register", p, y + (p - x), len);
		}
	}
}

static void probe(unsigned long nr)
{
	static unsigned char below[sizeof(area.below)];

	fill(area.below + sizeof(below) - RED_ZONE, RED_ZONE);
	memcpy(below, area.below, sizeof(below));
	prepare_probe(nr);
	select_by(self, SYSCALL_DISPATCH_FILTER_BLOCK);
	upcall_probe(&area.probe);
	select_by(self, SYSCALL_DISPATCH_FILTER_ALLOW);
	if (nr == FOREIGN_SIGNAL)
		area.probe.in.dx = ~0UL;	/* its answer is 0 */
	check_probe(below);
}

/* A signal in the middle of each upcall, with a foreign call in its handler */
static void nested(const char *what, unsigned long flags)
{
	long i;

	handle_signal(SIGUSR1, flags);
	signals = 0;
	signals_inside = 0;
	self->deepest = 0;
	for (i = 0; i < SIGNALS; i++)
		probe(FOREIGN_SIGNAL);
	check_calls(what, 2 * SIGNALS, 0);
	if (signals != SIGNALS)
		errx(1, "FAILED: %lu signals, expected %lu", signals, SIGNALS);
	/* On a kernel without upcalls they had to wait for the handler's end. */
	if (signals_inside != (has_upcall ? SIGNALS : 0) ||
	    self->deepest != (has_upcall ? 2 : 0))
		errx(1, "FAILED: %lu signals inside, up to level %lu",
		     signals_inside, self->deepest);
}

/* Signals at any instruction, with foreign calls in their handler */
static void storm(void)
{
	struct itimerval timer = {};
	unsigned long i;

	handle_signal(SIGALRM, SA_ONSTACK);
	signals = 0;
	signals_inside = 0;
	for (i = 0; i < PROBES; i++) {
		/* One each time: signals must not come faster than they go */
		timer.it_value.tv_usec = 1 + random() % DELAY_US;
		setitimer(ITIMER_REAL, &timer, NULL);
		probe(FOREIGN_SPOIL);
	}
	timer.it_value.tv_usec = 0;
	setitimer(ITIMER_REAL, &timer, NULL);
	printf("  %-48s %6lu\n", "signals meanwhile", signals);
	printf("  %-48s %6lu\n", "signals meanwhile, inside the upcall", signals_inside);
	check_calls("foreign: every register compared, and theirs",
		    PROBES + signals, 0);
}

/* Without CONFIG_IA32_EMULATION this instruction is no way into the kernel. */
static int int80_works(void)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		asm volatile("int $0x80" : : "a" (1), "b" (0));	/* exit(0) */
		_exit(1);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

static void int80(void)
{
	if (!int80_works()) {
		printf("  (int $0x80 does not work here)\n");
		return;
	}
	select_by(self, SYSCALL_DISPATCH_FILTER_BLOCK);
	upcall_int80(INT80_CALLS);
	select_by(self, SYSCALL_DISPATCH_FILTER_ALLOW);
	check_calls("foreign: by int $0x80, always SIGSYS", 0, INT80_CALLS);
}

static void *other_thread(void *arg)
{
	start_thread();
	run_foreign(foreign_loop, FOREIGN_CALLS);
	*(unsigned long *)arg = has_upcall ? self->upcalls : self->sigsys;
	stop_thread();
	return NULL;
}

/* Each thread's stub leads to its own data */
static void run_threads(void)
{
	unsigned long other = 0;
	pthread_t thread;

	errno = pthread_create(&thread, NULL, other_thread, &other);
	if (errno)
		err(1, "no second thread");
	run_foreign(foreign_loop, FOREIGN_CALLS);
	errno = pthread_join(thread, NULL);
	if (errno)
		err(1, "pthread_join");
	check_calls("foreign: first of two threads at once", FOREIGN_CALLS, 0);
	check("foreign: second of two threads at once", other, FOREIGN_CALLS);
}

/* The same stub every time, so that only the way it goes makes a difference */
static long native_calls(long n)
{
	while (n--)
		gate_call(SYS_getppid);
	return 0;
}

static long foreign_calls(long n)
{
	return run_foreign(foreign_loop, n);
}

static long int80_calls(long n)
{
	select_by(self, SYSCALL_DISPATCH_FILTER_BLOCK);
	n = upcall_int80(n);
	select_by(self, SYSCALL_DISPATCH_FILTER_ALLOW);
	return n;
}

static void cost(const char *what, long (*loop)(long n), long n)
{
	struct timespec a, b;
	double ns, best = 0;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		clock_gettime(CLOCK_MONOTONIC, &a);
		loop(n);
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns = ((b.tv_sec - a.tv_sec) * 1e9 + b.tv_nsec - a.tv_nsec) / n;
		if (!i || ns < best)
			best = ns;
	}
	printf("  %-48s %6.0f ns\n", what, best);
}

static void measure(void)
{
	unsigned long want = ROUNDS * FOREIGN_CALLS;

	printf("What a call costs, best of %d rounds:\n", ROUNDS);
	cost("native: direct by region", native_calls, NATIVE_CALLS);
	if (has_upcall) {
		cost("foreign: by upcall, emulated", foreign_calls, FOREIGN_CALLS);
		check_calls("calls meanwhile", want, 0);
		/* Back to signals: the two ways can be changed at any time */
		if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_UPCALL,
			  0L, 0L, 0L))
			err(1, "FAILED: the upcall cannot be removed");
	}
	cost("foreign: by SIGSYS, emulated", foreign_calls, FOREIGN_CALLS);
	check("calls meanwhile", self->sigsys, want);
	if (int80_works())
		cost("foreign: by int $0x80 and SIGSYS, emulated", int80_calls,
		     FOREIGN_CALLS);
	printf("  (Under emulation, such as QEMU's TCG, these nanoseconds are the\n"
	       "  emulator's: compare them with each other, not with a processor's.)\n");
}

int main(void)
{
	static char alternate[65536];
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof(alternate) };

	setvbuf(stdout, NULL, _IOLBF, 0);
	/* Address 0 always succeeds, if the kernel knows what it means. */
	has_upcall = !prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_UPCALL,
			    0L, 0L, 0L);
	if (sigaltstack(&stack, NULL))
		err(1, "no alternate stack");
	gate_handle_sigsys(on_sigsys);
	load_foreign();
	find_xstate();
	start_thread();

	printf("This kernel has %s, so foreign calls come by %s:\n",
	       has_upcall ? "upcalls" : "no upcalls", has_upcall ? "upcall" : "SIGSYS");
	whole_program();
	probe(FOREIGN_SPOIL);
	check_calls("foreign: every register compared", 1, 0);
	nested("foreign: each interrupted, same stack", 0);
	nested("foreign: each interrupted, alternate stack", SA_ONSTACK);
	storm();
	int80();
	run_threads();
	measure();
	stop_thread();
	printf("upcall: by %s, all counts and registers are as expected\n",
	       has_upcall ? "upcall" : "SIGSYS");
	return 0;
}
