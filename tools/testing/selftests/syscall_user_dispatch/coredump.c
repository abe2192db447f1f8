// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: what a core dump tells of the signal that it is over
 */
#include "sud_core.h"

FIXTURE(core) {
};

FIXTURE_VARIANT(core) {
	char value;		/* of the selector, */
	bool unreadable;	/* or none */
	void (*prepare)(void);
	int sig, code;
};

static void ignore_sigsys(void)
{
	signal(SIGSYS, SIG_IGN);
}

static void block_sigsys(void)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGSYS);
	sigprocmask(SIG_BLOCK, &mask, NULL);
}

static void leave_sigsys(void)
{
	signal(SIGSYS, SIG_DFL);
}

static void handle_signals(void)
{
	sud_sigaction(SIGSYS, sud_handler, 0);
	sud_sigaction(SIGSEGV, sud_handler, 0);
}

FIXTURE_VARIANT_ADD(core, bad_value) {
	.value = 2,
	.prepare = handle_signals,
	.sig = SIGSYS,
	.code = SI_KERNEL,
};

FIXTURE_VARIANT_ADD(core, unreadable_selector) {
	.unreadable = true,
	.prepare = handle_signals,
	.sig = SIGSEGV,
	.code = SI_KERNEL,
};

FIXTURE_VARIANT_ADD(core, dispatch_by_default) {
	.value = BLOCK,
	.prepare = leave_sigsys,
	.sig = SIGSYS,
	.code = SYS_USER_DISPATCH,
};

FIXTURE_VARIANT_ADD(core, dispatch_ignored) {
	.value = BLOCK,
	.prepare = ignore_sigsys,
	.sig = SIGSYS,
	.code = SYS_USER_DISPATCH,
};

FIXTURE_VARIANT_ADD(core, dispatch_blocked) {
	.value = BLOCK,
	.prepare = block_sigsys,
	.sig = SIGSYS,
	.code = SYS_USER_DISPATCH,
};

FIXTURE_SETUP(core)
{
	if (!sud_cores_begin())
		SKIP(return, SUD_NO_CORES);
	ASSERT_EQ(0, sud_handle(NULL));
}

FIXTURE_TEARDOWN(core)
{
	sud_cores_end();
}

TEST_F(core, names_the_cause)
{
	siginfo_t info = { };
	int status;
	pid_t pid;

	sud->selector = variant->value;
	pid = sud_fork();
	if (!pid) {
		sud_cores_allow();
		variant->prepare();
		sud_arm_foreign(variant->unreadable ? (void *)1 : &sud->selector);
		foreign_syscall(__NR_getppid);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(variant->sig, sud_killed_by(status));
	EXPECT_TRUE(WCOREDUMP(status));
	ASSERT_TRUE(sud_core_siginfo(pid, &info));
	EXPECT_EQ(variant->sig, info.si_signo);
	EXPECT_EQ(variant->code, info.si_code);
	EXPECT_EQ(0, info.si_errno);
	if (variant->code == SYS_USER_DISPATCH) {
		EXPECT_EQ(__NR_getppid, info.si_syscall);
		EXPECT_EQ(SUD_ARCH, info.si_arch);
		EXPECT_TRUE(info.si_call_addr == foreign_syscall_ip);
	}
	EXPECT_EQ(0, sud->order);
}

TEST_HARNESS_MAIN
