/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Common mechanics of the Syscall User Dispatch tests
 *
 * Programs under test consist of two kinds of code. Foreign code is the text
 * from foreign_begin to foreign_end, which makes a syscall for each call of a
 * foreign_*() function. All the rest is native: the tests themselves, libc,
 * and the native_*() functions, which are the same code at other addresses.
 * The label <function>_ip is the address after the syscall instruction.
 *
 * Like the syscalls themselves, what returns a long here returns -errno.
 */
#ifndef __SUD_H
#define __SUD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
# define PR_SET_SYSCALL_USER_DISPATCH	59
# define PR_SYS_DISPATCH_OFF		0
# define SYSCALL_DISPATCH_FILTER_ALLOW	0
# define SYSCALL_DISPATCH_FILTER_BLOCK	1
#endif

#ifndef PR_SYS_DISPATCH_EXCLUSIVE_ON
# define PR_SYS_DISPATCH_EXCLUSIVE_ON	1
# define PR_SYS_DISPATCH_INCLUSIVE_ON	2
#endif

#ifndef SYS_USER_DISPATCH
# define SYS_USER_DISPATCH	2
#endif

#ifndef PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG
# define PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG	0x4210
# define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG	0x4211
#endif

#define OFF		PR_SYS_DISPATCH_OFF
#define EXCLUSIVE	PR_SYS_DISPATCH_EXCLUSIVE_ON
#define INCLUSIVE	PR_SYS_DISPATCH_INCLUSIVE_ON

#define ALLOW		SYSCALL_DISPATCH_FILTER_ALLOW
#define BLOCK		SYSCALL_DISPATCH_FILTER_BLOCK

/* The numbers that int $0x80 takes, also in 64-bit code */
#define IA32_NR_prctl	172
#define IA32_NR_ptrace	26
#define IA32_NR_getppid	64

#ifdef __x86_64__
# define SUD_ARCH	AUDIT_ARCH_X86_64
# define REG_AX		REG_RAX
# define REG_SP		REG_RSP
# define REG_IP		REG_RIP
# define USER_AX	offsetof(struct user, regs.rax)
# define USER_ORIG_AX	offsetof(struct user, regs.orig_rax)
# define USER_IP	offsetof(struct user, regs.rip)
#else
# define SUD_ARCH	AUDIT_ARCH_I386
# define REG_AX		REG_EAX
# define REG_SP		REG_ESP
# define REG_IP		REG_EIP
# define USER_AX	offsetof(struct user, regs.eax)
# define USER_ORIG_AX	offsetof(struct user, regs.orig_eax)
# define USER_IP	offsetof(struct user, regs.eip)
#endif

#define SUD_PAGE	4096

/* Every syscall instruction of x86 is two bytes long */
#define SYSCALL_INSN_SIZE	2

/* A function that makes syscall @nr, as syscall() of libc does */
typedef long sud_stub(unsigned long nr, ...);

/*
 * A function that loads the general registers and the flags from @regs, all
 * but the stack pointer, executes a syscall instruction and stores them again.
 */
typedef void sud_regs_stub(gregset_t regs);

extern const char foreign_begin[], foreign_end[];

extern sud_stub native_syscall, foreign_syscall, foreign_second;
extern const char native_syscall_ip[], foreign_syscall_ip[], foreign_second_ip[];

extern sud_stub native_int80, foreign_int80;
extern const char foreign_int80_ip[];

extern sud_regs_stub foreign_regs;
extern const char foreign_regs_ip[];

#ifdef __x86_64__

extern sud_regs_stub foreign_regs_int80;

asm(".pushsection .text\n"
	".macro stub name:req\n"
	"\\name:\n"
	"	mov	%rdi, %rax\n"
	"	mov	%rsi, %rdi\n"
	"	mov	%rdx, %rsi\n"
	"	mov	%rcx, %rdx\n"
	"	mov	%r8, %r10\n"
	"	mov	%r9, %r8\n"
	"	mov	8(%rsp), %r9\n"
	"	syscall\n"
	"\\name\\()_ip:\n"
	"	ret\n"
	".endm\n"
	".macro int80_stub name:req\n"
	"\\name:\n"
	"	push	%rbx\n"
	"	push	%rbp\n"
	"	mov	%rdi, %rax\n"
	"	mov	%rsi, %rbx\n"
	"	xchg	%rcx, %rdx\n"
	"	mov	%r8, %rsi\n"
	"	mov	%r9, %rdi\n"
	"	int	$0x80\n"
	"\\name\\()_ip:\n"
	"	pop	%rbp\n"
	"	pop	%rbx\n"
	"	ret\n"
	".endm\n"
	/* Offsets are those of gregset_t, which starts with r8 to r15 */
	".macro move_regs load\n"
	"	.set	offset, 0\n"
	"	.irp	reg, r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx\n"
	"	.ifnc	\\reg, rdi\n"
	"	.if	\\load\n"
	"	mov	offset(%rdi), %\\reg\n"
	"	.else\n"
	"	mov	%\\reg, offset(%rdi)\n"
	"	.endif\n"
	"	.endif\n"
	"	.set	offset, offset + 8\n"
	"	.endr\n"
	".endm\n"
	".macro regs_stub name:req, insn:vararg\n"
	"\\name:\n"
	"	push	%rbx\n"
	"	push	%rbp\n"
	"	push	%r12\n"
	"	push	%r13\n"
	"	push	%r14\n"
	"	push	%r15\n"
	"	push	%rdi\n"
	"	pushq	17*8(%rdi)\n"
	"	popfq\n"
	"	move_regs load=1\n"
	"	mov	8*8(%rdi), %rdi\n"
	"	\\insn\n"
	"\\name\\()_ip:\n"
	"	xchg	%rdi, (%rsp)\n"
	"	move_regs load=0\n"
	"	pushfq\n"
	"	popq	17*8(%rdi)\n"
	"	popq	8*8(%rdi)\n"
	"	pop	%r15\n"
	"	pop	%r14\n"
	"	pop	%r13\n"
	"	pop	%r12\n"
	"	pop	%rbp\n"
	"	pop	%rbx\n"
	"	ret\n"
	".endm\n"
	".macro regs_stubs\n"
	"	regs_stub foreign_regs syscall\n"
	"	regs_stub foreign_regs_int80 int $0x80\n"
	".endm\n"
	".popsection\n");

#else /* __i386__ */

/* Enters the kernel where the vDSO's instruction of this CPU does */
extern sud_stub native_vsyscall;

asm(".pushsection .text\n"
	".macro stub_with name:req, insn:vararg\n"
	"\\name:\n"
	"	push	%ebx\n"
	"	push	%esi\n"
	"	push	%edi\n"
	"	push	%ebp\n"
	"	mov	20(%esp), %eax\n"
	"	mov	24(%esp), %ebx\n"
	"	mov	28(%esp), %ecx\n"
	"	mov	32(%esp), %edx\n"
	"	mov	36(%esp), %esi\n"
	"	mov	40(%esp), %edi\n"
	"	mov	44(%esp), %ebp\n"
	"	\\insn\n"
	"\\name\\()_ip:\n"
	"	pop	%ebp\n"
	"	pop	%edi\n"
	"	pop	%esi\n"
	"	pop	%ebx\n"
	"	ret\n"
	".endm\n"
	".macro stub name:req\n"
	"	stub_with \\name, int $0x80\n"
	".endm\n"
	".macro int80_stub name:req\n"
	"	stub \\name\n"
	".endm\n"
	"	stub_with native_vsyscall, call *%gs:0x10\n"
	/* Offsets are those of gregset_t here, too */
	".macro regs_stubs\n"
	"foreign_regs:\n"
	"	push	%ebx\n"
	"	push	%esi\n"
	"	push	%edi\n"
	"	push	%ebp\n"
	"	mov	20(%esp), %edi\n"
	"	push	%edi\n"
	"	pushl	16*4(%edi)\n"
	"	popfl\n"
	"	mov	5*4(%edi), %esi\n"
	"	mov	6*4(%edi), %ebp\n"
	"	mov	8*4(%edi), %ebx\n"
	"	mov	9*4(%edi), %edx\n"
	"	mov	10*4(%edi), %ecx\n"
	"	mov	11*4(%edi), %eax\n"
	"	mov	4*4(%edi), %edi\n"
	"	int	$0x80\n"
	"foreign_regs_ip:\n"
	"	xchg	%edi, (%esp)\n"
	"	mov	%esi, 5*4(%edi)\n"
	"	mov	%ebp, 6*4(%edi)\n"
	"	mov	%ebx, 8*4(%edi)\n"
	"	mov	%edx, 9*4(%edi)\n"
	"	mov	%ecx, 10*4(%edi)\n"
	"	mov	%eax, 11*4(%edi)\n"
	"	pushfl\n"
	"	popl	16*4(%edi)\n"
	"	popl	4*4(%edi)\n"
	"	pop	%ebp\n"
	"	pop	%edi\n"
	"	pop	%esi\n"
	"	pop	%ebx\n"
	"	ret\n"
	".endm\n"
	".popsection\n");

#endif

asm(".pushsection .text\n"
	"	stub native_syscall\n"
	"	int80_stub native_int80\n"
	"	.balign 64\n"
	"foreign_begin:\n"
	"	stub foreign_syscall\n"
	"	stub foreign_second\n"
	"	int80_stub foreign_int80\n"
	"	regs_stubs\n"
	"foreign_end:\n"
	"	.balign 64\n"
	".popsection\n");

/* What a test and its children tell each other */
struct sud_shared {
	char selector;
	int dispatches;		/* SIGSYS from Syscall User Dispatch */
	int others;		/* SIGSYS from anybody else */
	siginfo_t info;		/* of the last dispatch, */
	gregset_t regs;		/* and the registers in its frame */
	void (*hook)(siginfo_t *info, ucontext_t *uc);
	int flag;		/* for the tests' own use, */
	pid_t tid;		/* too */
	int upstream;		/* 1 or -1, once found out; not reset */
};

static struct sud_shared *sud;

static inline long sud_prctl(unsigned long mode, unsigned long offset,
			     unsigned long len, const void *selector)
{
	return native_syscall(__NR_prctl, (long)PR_SET_SYSCALL_USER_DISPATCH,
			      mode, offset, len, selector);
}

/* Foreign code is filtered, native code is not, whatever the selector says. */
static inline long sud_arm_foreign(const void *selector)
{
	return sud_prctl(INCLUSIVE, (unsigned long)foreign_begin,
			 foreign_end - foreign_begin, selector);
}

/* All code is filtered, while the shared selector says so. */
static inline long sud_arm_all(void)
{
	return sud_prctl(EXCLUSIVE, 0, 0, &sud->selector);
}

static inline void sud_handler(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	/* Where all code is filtered, the return from here must not be. */
	sud->selector = ALLOW;
	if (info->si_code == SYS_USER_DISPATCH) {
		sud->dispatches++;
		sud->info = *info;
		memcpy(sud->regs, uc->uc_mcontext.gregs, sizeof(sud->regs));
	} else {
		sud->others++;
	}
	if (sud->hook)
		sud->hook(info, uc);
}

static inline int sud_sigaction(int sig, void (*handler)(int, siginfo_t *, void *),
				int flags)
{
	struct sigaction act = {
		.sa_sigaction = handler,
		.sa_flags = SA_SIGINFO | flags,
	};

	if (!(flags & SA_NODEFER))
		sigfillset(&act.sa_mask);
	return sigaction(sig, &act, NULL);
}

/* Start counting dispatches; each calls @hook, which may be NULL. */
static inline int sud_handle(void (*hook)(siginfo_t *info, ucontext_t *uc))
{
	memset(sud, 0, offsetof(struct sud_shared, upstream));
	sud->hook = hook;
	return sud_sigaction(SIGSYS, sud_handler, 0);
}

/* A hook that emulates the syscall */
#define SUD_EMULATED	0x5ad

static inline void sud_emulate(siginfo_t *info, ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_AX] = SUD_EMULATED;
}

/* A hook that has the instruction executed once more */
static inline void sud_repeat(siginfo_t *info, ucontext_t *uc)
{
	uc->uc_mcontext.gregs[REG_IP] -= SYSCALL_INSN_SIZE;
}

/*
 * What becomes of a syscall made by @stub while the shared selector says block:
 * 1 if it is dispatched, once, and 0 if it runs. The handler has to leave the
 * registers alone.
 */
static inline int sud_dispatches_nr(sud_stub *stub, unsigned long getppid_nr)
{
	int before = sud->dispatches;
	long ret;

	sud->selector = BLOCK;
	ret = stub(getppid_nr);
	sud->selector = ALLOW;

	if (sud->dispatches == before && ret == getppid())
		return 0;
	if (sud->dispatches == before + 1 && ret == (long)getppid_nr)
		return 1;
	return -1;
}

static inline int sud_dispatches(sud_stub *stub)
{
	return sud_dispatches_nr(stub, __NR_getppid);
}

/* Fresh pages, or NULL. */
static inline char *sud_pages(int count, int prot)
{
	void *pages = mmap(NULL, count * SUD_PAGE, prot,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

/* A child that does not outlive a test that failed. */
static inline pid_t sud_fork(void)
{
	pid_t pid = fork();

	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* The wait status of a child that exits with the result of @fn. */
static inline int sud_run(int (*fn)(const void *arg), const void *arg)
{
	int status;
	pid_t pid;

	pid = sud_fork();
	if (!pid)
		_exit(fn(arg));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

/* The signal that killed the child, or 0. */
static inline int sud_killed_by(int status)
{
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/*
 * Have @undo called with @arg when the test is over, even if it gets killed:
 * that is left to a process out of reach, which waits for the end of a pipe.
 */
struct sud_undo {
	int fd;
	pid_t pid;
};

static inline bool sud_undo_later(struct sud_undo *undo, void (*fn)(const void *arg),
				  const void *arg)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC))
		return false;
	undo->fd = fd[1];
	undo->pid = fork();
	if (!undo->pid) {
		setsid();
		close(fd[1]);
		read(fd[0], &(char) { 0 }, 1);
		fn(arg);
		_exit(0);
	}
	close(fd[0]);
	return undo->pid > 0;
}

static inline void sud_undo_now(struct sud_undo *undo)
{
	close(undo->fd);
	waitpid(undo->pid, NULL, 0);
}

/* Write a string to a file of procfs or the like; 0 or -errno. */
static inline int sud_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int ret = 0;

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* Let @flag of the shared page become @value. */
static inline void sud_set_flag(int value)
{
	__atomic_store_n(&sud->flag, value, __ATOMIC_RELEASE);
}

/* Wait for that, without a syscall: the caller may be under trace. */
static inline void sud_await_flag(int value)
{
	while (__atomic_load_n(&sud->flag, __ATOMIC_ACQUIRE) != value)
		asm volatile("pause");
}

/* Wait until another task sleeps in syscall @nr. */
static inline void sud_await_sleep(pid_t tid, long nr)
{
	char path[64], line[32];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	do {
		sched_yield();
		fd = open(path, O_RDONLY);
		len = read(fd, line, sizeof(line) - 1);
		close(fd);
		if (len <= 0)
			return;
		line[len] = 0;
	} while (line[0] == 'r' || atol(line) != nr);
}

/* The mapping that holds @addr */
struct sud_map {
	unsigned long start, end, offset;
};

static inline bool sud_find_map(unsigned long addr, struct sud_map *map)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	bool found = false;
	char *line = NULL;
	size_t size = 0;

	while (maps && !found && getline(&line, &size, maps) > 0) {
		found = sscanf(line, "%lx-%lx %*s %lx", &map->start, &map->end,
			       &map->offset) == 3 &&
			map->start <= addr && addr < map->end;
	}
	free(line);
	if (maps)
		fclose(maps);
	return found;
}

static inline int sud_call_int80(const void *arg)
{
	return native_int80(IA32_NR_getppid) != getppid();
}

static inline bool sud_has_int80(void)
{
	return !sud_run(sud_call_int80, NULL);
}

/*
 * ptrace
 */

struct sud_config {
	__u64 mode;
	__u64 selector;
	__u64 offset;
	__u64 len;
};

static inline long sud_ptrace(long request, pid_t pid, unsigned long addr,
			      const void *data)
{
	return native_syscall(__NR_ptrace, request, (long)pid, addr, data);
}

static inline long sud_get_config(pid_t pid, struct sud_config *config)
{
	return sud_ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, pid,
			  sizeof(*config), config);
}

static inline long sud_set_config(pid_t pid, const struct sud_config *config)
{
	return sud_ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, pid,
			  sizeof(*config), config);
}

/* What sud_arm_foreign() arms, for use by a tracer */
static inline struct sud_config sud_foreign_config(const void *selector)
{
	return (struct sud_config) {
		.mode = INCLUSIVE,
		.offset = (unsigned long)foreign_begin,
		.len = foreign_end - foreign_begin,
		.selector = (unsigned long)selector,
	};
}

/* The only syscalls of a tracee after its SIGSTOP are those @fn makes, and this. */
static inline void sud_exit(int code)
{
	native_syscall(__NR_exit_group, (long)code);
}

/* A tracee with one dispatched and one permitted syscall */
static inline void sud_dispatch_and_call(void)
{
	foreign_syscall(__NR_getppid);
	native_syscall(__NR_getppid);
}

/* Start a tracee that will call @fn; it waits to be resumed. */
static inline pid_t sud_tracee(void (*fn)(void))
{
	int status;
	pid_t pid;

	pid = sud_fork();
	if (!pid) {
		sud_ptrace(PTRACE_TRACEME, 0, 0, NULL);
		kill(getpid(), SIGSTOP);
		fn();
		sud_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	sud_ptrace(PTRACE_SETOPTIONS, pid, 0,
		   (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
	return pid;
}

static inline pid_t sud_kill_tracee(pid_t pid)
{
	kill(pid, SIGKILL);
	return waitpid(pid, NULL, __WALL);
}

/* The wait status after @pid was resumed and has stopped again, or died. */
static inline int sud_resume(pid_t pid, long request, long sig)
{
	int status;

	if (sud_ptrace(request, pid, 0, (void *)sig) ||
	    waitpid(pid, &status, __WALL) != pid)
		return -1;
	return status;
}

static inline int sud_syscall_op(pid_t pid)
{
	struct __ptrace_syscall_info info = { .op = 0xff };

	sud_ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info);
	return info.op;
}

/* One letter for the stop that @status tells of. */
static inline char sud_stop(pid_t pid, int status)
{
	if (!WIFSTOPPED(status))
		return 0;
	switch (status >> 8) {
	case SIGSYS:
		return 'S';
	case SIGTRAP:
		return 'T';
	case SIGTRAP | PTRACE_EVENT_SECCOMP << 8:
		return 'C';
	case SIGTRAP | 0x80:
		switch (sud_syscall_op(pid)) {
		case PTRACE_SYSCALL_INFO_ENTRY:
			return '(';
		case PTRACE_SYSCALL_INFO_EXIT:
			return ')';
		}
	}
	return '?';
}

/*
 * Resume a tracee until it dies, delivering every SIGSYS, and write down the
 * stops it makes: a syscall that was traced as it should be gives "()".
 */
static inline int sud_log_stops(pid_t pid, long request, long sig, char *log,
				size_t size)
{
	int status;

	memset(log, 0, size);
	do {
		status = sud_resume(pid, request, sig);
		*log = sud_stop(pid, status);
		sig = *log == 'S' ? SIGSYS : 0;
		log++;
	} while (WIFSTOPPED(status) && --size > 1);

	if (WIFSTOPPED(status))
		sud_kill_tracee(pid);
	return status;
}

/*
 * Deviations of one implementation from the other
 */

#define SUD_NOT_IN_RUST	"cd /proc && test -r config.gz && ! zgrep -q DISPATCH_RUST=y config.gz"

/* A kernel that hides its configuration gets no allowance. */
static inline bool sud_upstream(void)
{
	const char *kernel = getenv("SUD_KERNEL");

	if (kernel)
		return !strcmp(kernel, "upstream");
	if (!sud->upstream)
		sud->upstream = system(SUD_NOT_IN_RUST) ? -1 : 1;
	return sud->upstream == 1;
}

/*
 * Before it checks the right result, a test of a deviation says here how the
 * C implementation is known to fail: seen there, that failure is expected.
 */
#define XFAIL_UPSTREAM(statement, shows, fmt, ...) do { \
	if ((shows) && sud_upstream()) { \
		snprintf(_metadata->results->reason, \
			 sizeof(_metadata->results->reason), fmt, ##__VA_ARGS__); \
		_metadata->exit_code = KSFT_XFAIL; \
		statement; \
	} \
} while (0)

static void __attribute__((constructor)) sud_init(void)
{
	const struct rlimit no_core = { 0, 0 };
	long ret;

	ret = sud_prctl(EXCLUSIVE, 0, -1UL, NULL);
	if (ret) {
		ksft_print_header();
		ksft_exit_skip("%s\n", ret == -EPERM ?
			       "kernel.syscall_user_dispatch is 0" :
			       "the kernel lacks CONFIG_SYSCALL_USER_DISPATCH");
	}
	sud_prctl(OFF, 0, 0, NULL);

	setrlimit(RLIMIT_CORE, &no_core);
	sud = mmap(NULL, sizeof(*sud), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

#endif /* __SUD_H */
