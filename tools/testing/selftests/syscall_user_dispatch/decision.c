// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: what decides whether a syscall runs, is dispatched or
 * kills, and in which order
 */
#include <sys/auxv.h>

#include "sud_hold.h"

TEST(selector_null_dispatches)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

TEST(selector_0_runs_and_1_dispatches)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	sud->selector = ALLOW;
	EXPECT_EQ(getppid(), foreign_syscall(__NR_getppid));
	sud->selector = BLOCK;
	EXPECT_EQ(__NR_getppid, foreign_syscall(__NR_getppid));
	EXPECT_EQ(1, sud->dispatches);
}

TEST(selector_is_read_at_every_syscall)
{
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(1, sud_dispatches(foreign_syscall));
		EXPECT_EQ(getppid(), foreign_syscall(__NR_getppid));
	}
}

static int call_with_selector_value(const void *selector)
{
	sud_arm_foreign(selector);
	foreign_syscall(__NR_getppid);
	return 0;
}

TEST(each_value_from_2_to_255_kills_with_sigsys)
{
	unsigned char value;

	ASSERT_EQ(0, sud_handle(NULL));
	for (value = 255; value >= 2; value--) {
		EXPECT_EQ(SIGSYS, sud_killed_by(sud_run(call_with_selector_value, &value))) {
			TH_LOG("selector %u", value);
		}
	}
	EXPECT_EQ(0, sud->dispatches);
}

TEST(selector_is_one_byte)
{
	char *pages = sud_pages(3, PROT_READ | PROT_WRITE);

	ASSERT_TRUE(!!pages);
	ASSERT_EQ(0, sud_handle(NULL));
	pages[SUD_PAGE] = BLOCK;
	pages[2 * SUD_PAGE - 1] = BLOCK;
	ASSERT_EQ(0, mprotect(pages, SUD_PAGE, PROT_NONE));
	ASSERT_EQ(0, munmap(pages + 2 * SUD_PAGE, SUD_PAGE));

	ASSERT_EQ(0, sud_arm_foreign(pages + SUD_PAGE));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, sud_arm_foreign(pages + 2 * SUD_PAGE - 1));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

TEST(selector_neighbours_do_not_matter)
{
	char bytes[17];
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	for (i = 1; i < sizeof(bytes) - 1; i++) {
		memset(bytes, 2, sizeof(bytes));
		bytes[i] = BLOCK;
		ASSERT_EQ(0, sud_arm_foreign(&bytes[i]));
		EXPECT_EQ(1, sud_dispatches(foreign_syscall));
		bytes[i] = ALLOW;
		EXPECT_EQ(0, sud_dispatches(foreign_syscall));
	}
}

TEST(selector_is_faulted_in)
{
	char *page = sud_pages(1, PROT_READ);
	int fd = memfd_create("selector", 0);

	ASSERT_TRUE(!!page);
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(page));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));

	ASSERT_EQ(1, pwrite(fd, "\1", 1, 0));
	ASSERT_TRUE(mmap(page, SUD_PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == page);
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, madvise(page, SUD_PAGE, MADV_DONTNEED));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

/* The selectors that cannot be read; each is at the start of a page. */

FIXTURE(unreadable) {
	char *selector;
};

FIXTURE_VARIANT(unreadable) {
	bool (*revoke)(char *page);
};

static bool revoke_mapping(char *page)
{
	return !munmap(page, SUD_PAGE);
}

static bool revoke_access(char *page)
{
	return !mprotect(page, SUD_PAGE, PROT_NONE);
}

static bool revoke_file(char *page)
{
	int fd = memfd_create("empty", 0);

	return mmap(page, SUD_PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == page;
}

static bool revoke_by_protection_key(char *page)
{
	int key = pkey_alloc(0, PKEY_DISABLE_ACCESS);

	return key > 0 && !pkey_mprotect(page, SUD_PAGE, PROT_READ | PROT_WRITE, key);
}

FIXTURE_VARIANT_ADD(unreadable, unmapped) {
	.revoke = revoke_mapping,
};

FIXTURE_VARIANT_ADD(unreadable, prot_none) {
	.revoke = revoke_access,
};

FIXTURE_VARIANT_ADD(unreadable, past_end_of_file) {
	.revoke = revoke_file,
};

FIXTURE_VARIANT_ADD(unreadable, denied_by_protection_key) {
	.revoke = revoke_by_protection_key,
};

FIXTURE_SETUP(unreadable)
{
	self->selector = sud_pages(1, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(!!self->selector);
	if (!variant->revoke(self->selector)) {
		ASSERT_TRUE(variant->revoke == revoke_by_protection_key);
		SKIP(return, "the CPU has no protection keys");
	}
	ASSERT_EQ(0, sud_handle(NULL));
}

FIXTURE_TEARDOWN(unreadable)
{
}

TEST_F(unreadable, selector_kills_with_sigsegv)
{
	EXPECT_EQ(SIGSEGV, sud_killed_by(sud_run(call_with_selector_value, self->selector)));
	EXPECT_EQ(0, sud->dispatches);
}

static int call_when_exempt(const void *selector)
{
	pid_t parent = getppid();

	sud_prctl(EXCLUSIVE, (unsigned long)foreign_begin,
		  foreign_end - foreign_begin, selector);
	foreign_syscall(__NR_exit_group,
			foreign_syscall(__NR_getppid) == parent ? 0L : 1L);
	return 2;
}

TEST_F(unreadable, selector_is_not_read_for_an_exempt_address)
{
	EXPECT_EQ(0, sud_run(call_when_exempt, self->selector));
}

/* Both kills */

FIXTURE(kill) {
	const char *selector;
};

FIXTURE_VARIANT(kill) {
	bool unreadable;
	int sig;
};

FIXTURE_VARIANT_ADD(kill, by_bad_value) {
	.sig = SIGSYS,
};

FIXTURE_VARIANT_ADD(kill, by_unreadable_selector) {
	.sig = SIGSEGV,
	.unreadable = true,
};

FIXTURE_SETUP(kill)
{
	char *page = sud_pages(1, PROT_READ | PROT_WRITE);

	ASSERT_TRUE(!!page);
	ASSERT_EQ(0, sud_handle(NULL));
	*page = 2;
	if (variant->unreadable)
		ASSERT_TRUE(revoke_access(page));
	self->selector = page;
}

FIXTURE_TEARDOWN(kill)
{
}

TEST_F(kill, cannot_be_blocked)
{
	sigset_t all;

	sigfillset(&all);
	ASSERT_EQ(0, sigprocmask(SIG_SETMASK, &all, NULL));
	EXPECT_EQ(variant->sig, sud_killed_by(sud_run(call_with_selector_value, self->selector)));
}

TEST_F(kill, cannot_be_ignored)
{
	ASSERT_TRUE(signal(variant->sig, SIG_IGN) != SIG_ERR);
	EXPECT_EQ(variant->sig, sud_killed_by(sud_run(call_with_selector_value, self->selector)));
}

static void count_call(int sig, siginfo_t *info, void *context)
{
	sud->others++;
}

TEST_F(kill, cannot_be_caught)
{
	ASSERT_EQ(0, sud_sigaction(variant->sig, count_call, 0));
	EXPECT_EQ(variant->sig, sud_killed_by(sud_run(call_with_selector_value, self->selector)));
	EXPECT_EQ(0, sud->others);
}

static void call_foreign(void)
{
	foreign_syscall(__NR_getppid);
}

TEST_F(kill, cannot_be_suppressed_by_a_tracer)
{
	const struct sud_config config = sud_foreign_config(self->selector);
	pid_t pid = sud_tracee(call_foreign);

	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_set_config(pid, &config));
	EXPECT_EQ(variant->sig, sud_killed_by(sud_resume(pid, PTRACE_CONT, 0)));
}

static void *call_in_thread(void *selector)
{
	call_with_selector_value(selector);
	return NULL;
}

static int call_beside_main_thread(const void *selector)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, call_in_thread, (void *)selector))
		return 1;
	pause();
	return 2;
}

TEST_F(kill, takes_the_whole_thread_group)
{
	EXPECT_EQ(variant->sig, sud_killed_by(sud_run(call_beside_main_thread, self->selector)));
}

static int write_to_pipe(const void *selector)
{
	sud_arm_foreign(selector);
	foreign_syscall(__NR_write, (long)sud->flag, "", 1L);
	return 0;
}

TEST_F(kill, comes_before_the_syscall_runs)
{
	int pipe_fd[2];
	char byte;

	ASSERT_EQ(0, pipe(pipe_fd));
	sud->flag = pipe_fd[1];
	EXPECT_EQ(variant->sig, sud_killed_by(sud_run(write_to_pipe, self->selector)));
	close(pipe_fd[1]);
	EXPECT_EQ(0, read(pipe_fd[0], &byte, 1));
}

TEST(sigkill_while_the_selector_is_awaited_comes_before_the_syscall_runs)
{
	int status, ends[2];
	char written;
	pid_t pid;

	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	ASSERT_EQ(0, pipe(ends));
	pid = sud_fork();
	if (!pid) {
		if (sud_hold(sud_hold_for_ever) && !sud_arm_foreign(hold.selector))
			foreign_syscall(__NR_write, (long)ends[1], "", 1L);
		_exit(1);
	}
	ASSERT_TRUE(sud_await_flag_of(pid, SUD_HELD));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, sud_killed_by(status));
	close(ends[1]);
	EXPECT_EQ(0, read(ends[0], &written, 1));
}

#ifdef __x86_64__

static void block(int sig, siginfo_t *info, void *context)
{
	sud->selector = BLOCK;
}

TEST(restorer_of_64_bit_code_is_dispatched)
{
	ASSERT_EQ(0, sud_handle(sud_repeat));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, block, SA_NODEFER));
	ASSERT_EQ(0, sud_arm_all());
	kill(getpid(), SIGUSR1);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(__NR_rt_sigreturn, sud->info.si_syscall);
}

TEST(restorer_of_64_bit_code_runs_where_it_is_exempt)
{
	struct sud_map libc;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, block, 0));
	ASSERT_TRUE(sud_find_map((unsigned long)kill, &libc));
	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, libc.start, libc.end - libc.start, &sud->selector));
	kill(getpid(), SIGUSR1);
	sud->selector = ALLOW;
	EXPECT_EQ(0, sud->dispatches);
}

#else

/*
 * In these tests the vDSO is foreign. A handler that has no restorer returns
 * to the sigreturn trampolines there.
 */

FIXTURE(ia32_vdso_sigreturn) {
	char *selector;
};

FIXTURE_VARIANT(ia32_vdso_sigreturn) {
	char value;
	bool unreadable;
};

FIXTURE_VARIANT_ADD(ia32_vdso_sigreturn, with_selector_1) {
	.value = BLOCK,
};

FIXTURE_VARIANT_ADD(ia32_vdso_sigreturn, with_bad_selector) {
	.value = 2,
};

FIXTURE_VARIANT_ADD(ia32_vdso_sigreturn, with_unreadable_selector) {
	.unreadable = true,
};

FIXTURE_SETUP(ia32_vdso_sigreturn)
{
	self->selector = sud_pages(1, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(!!self->selector);
	*self->selector = variant->value;
	if (variant->unreadable)
		ASSERT_TRUE(revoke_access(self->selector));
	ASSERT_EQ(0, sud_handle(NULL));
}

FIXTURE_TEARDOWN(ia32_vdso_sigreturn)
{
}

static void *trampoline;

static void find_trampoline(int sig)
{
	trampoline = __builtin_return_address(0);
}

static void find_rt_trampoline(int sig, siginfo_t *info, void *context)
{
	trampoline = __builtin_return_address(0);
}

static void arm_vdso(const void *selector)
{
	struct sud_map vdso;

	if (!sud_find_map(getauxval(AT_SYSINFO_EHDR), &vdso) ||
	    sud_prctl(INCLUSIVE, vdso.start, vdso.end - vdso.start, selector))
		_exit(1);
}

static int handle_signal(const void *selector)
{
	long pid = getpid();

	arm_vdso(selector);
	native_syscall(__NR_kill, pid, (long)SIGUSR1);
	sud_exit(trampoline ? 0 : 2);
	return 3;
}

TEST_F(ia32_vdso_sigreturn, runs)
{
	ASSERT_TRUE(signal(SIGUSR1, find_trampoline) != SIG_ERR);
	EXPECT_EQ(0, sud_run(handle_signal, self->selector));
}

TEST_F(ia32_vdso_sigreturn, of_siginfo_handler_runs)
{
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, find_rt_trampoline, 0));
	EXPECT_EQ(0, sud_run(handle_signal, self->selector));
}

/* The trampoline does not expect its syscall to return: it goes on to UD2. */
static void return_to_caller(int sig, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	regs[REG_EIP] = *(unsigned long *)regs[REG_ESP];
	regs[REG_ESP] += sizeof(long);
}

static int call_trampoline(const void *selector)
{
	const char int80[] = { 0xcd, 0x80 };
	long parent = getppid();
	long ret = __NR_getppid;
	void *insn;

	raise(SIGUSR1);
	insn = memmem(trampoline, 16, int80, sizeof(int80));
	arm_vdso(selector);
	asm volatile("call	*%1" : "+a" (ret) : "r" (insn) : "memory");
	sud_exit(ret == parent ? 0 : 2);
	return 3;
}

TEST_F(ia32_vdso_sigreturn, exempts_the_address_whatever_the_number)
{
	ASSERT_EQ(0, sud_sigaction(SIGILL, return_to_caller, 0));
	ASSERT_TRUE(signal(SIGUSR1, find_trampoline) != SIG_ERR);
	EXPECT_EQ(0, sud_run(call_trampoline, self->selector));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, find_rt_trampoline, 0));
	EXPECT_EQ(0, sud_run(call_trampoline, self->selector));
}

/*
 * The trampoline is recognized before the selector is read, which may take as
 * long as somebody likes.
 */

static void note_read(void)
{
	sud->flag = 1;
}

static int handle_signal_with_missing_selector(const void *arg)
{
	if (!sud_hold(note_read))
		return 1;
	hold.value = ALLOW;
	return handle_signal(hold.selector);
}

TEST(ia32_vdso_sigreturn_does_not_wait_for_the_selector)
{
	if (!sud_can_hold())
		SKIP(return, SUD_CANNOT_HOLD);
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_TRUE(signal(SIGUSR1, find_trampoline) != SIG_ERR);
	EXPECT_EQ(0, sud_run(handle_signal_with_missing_selector, NULL));
	EXPECT_EQ(0, sud->flag);
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, find_rt_trampoline, 0));
	EXPECT_EQ(0, sud_run(handle_signal_with_missing_selector, NULL));
	EXPECT_EQ(0, sud->flag);
}

#endif

TEST_HARNESS_MAIN
