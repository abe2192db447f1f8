// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch beside what else works on syscalls: seccomp, tracing
 * and restarts
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "sud.h"

/*
 * seccomp
 */

/* A filter that has an opinion on getppid() only */
static bool seccomp_filter(unsigned int action)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {
		.len = ARRAY_SIZE(filter),
		.filter = filter,
	};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
		!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

static int dispatch_under_filter(const void *arg)
{
	if (!seccomp_filter(SECCOMP_RET_KILL_PROCESS) || sud_arm_foreign(NULL))
		return 1;
	return foreign_syscall(__NR_getppid) == __NR_getppid ? 0 : 2;
}

TEST(dispatched_syscall_makes_no_seccomp_event)
{
	ASSERT_EQ(0, sud_handle(NULL));
	EXPECT_EQ(0, sud_run(dispatch_under_filter, NULL));
	EXPECT_EQ(1, sud->dispatches);
}

TEST(permitted_syscall_is_filtered_by_seccomp)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	ASSERT_TRUE(seccomp_filter(SECCOMP_RET_ERRNO | E2BIG));
	EXPECT_EQ(-E2BIG, foreign_syscall(__NR_getppid));
	EXPECT_EQ(-E2BIG, native_syscall(__NR_getppid));
	EXPECT_EQ(0, sud->dispatches);
}

TEST(permitted_syscall_is_trapped_by_seccomp)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	ASSERT_TRUE(seccomp_filter(SECCOMP_RET_TRAP));
	foreign_syscall(__NR_getppid);
	EXPECT_EQ(1, sud->others);
	EXPECT_EQ(0, sud->dispatches);

	/* The same instruction, dispatched */
	sud->selector = BLOCK;
	EXPECT_EQ(__NR_getppid, foreign_syscall(__NR_getppid));
	EXPECT_EQ(1, sud->dispatches);
}

static void dispatch_and_call_under_filter(void)
{
	seccomp_filter(SECCOMP_RET_TRACE);
	sud_arm_foreign(NULL);
	foreign_syscall(__NR_getppid);
	native_syscall(__NR_getppid);
}

TEST(dispatched_syscall_makes_no_seccomp_stop)
{
	char log[16];
	pid_t pid;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(dispatch_and_call_under_filter);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, sud_ptrace(PTRACE_SETOPTIONS, pid, 0,
				(void *)(PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL)));
	EXPECT_EQ(0, sud_log_stops(pid, PTRACE_CONT, 0, log, sizeof(log)));
	EXPECT_STREQ("SC", log);
}

/* All that strict mode leaves to 32-bit code is the old sigreturn. */
static void count_dispatch(int sig)
{
	sud->dispatches++;
}

static int dispatch_in_strict_mode(const void *exits)
{
	if (sud_arm_foreign(NULL) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0))
		return 1;
	foreign_syscall(__NR_getppid);
	if (exits)
		native_syscall(__NR_exit, 0L);
	native_syscall(__NR_getppid);
	return 2;
}

TEST(strict_seccomp_works)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_TRUE(signal(SIGSYS, count_dispatch) != SIG_ERR);
	EXPECT_EQ(0, sud_run(dispatch_in_strict_mode, ""));
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(SIGKILL, sud_killed_by(sud_run(dispatch_in_strict_mode, NULL)));
	EXPECT_EQ(2, sud->dispatches);
}

/*
 * Tracepoints, in a tracing instance that belongs to the test
 */

#define TRACEFS	"/sys/kernel/tracing"

FIXTURE(tracepoints) {
	char dir[64];
	struct sud_undo undo;
	pid_t pid;
};

static void remove_instance(const void *dir)
{
	rmdir(dir);
}

static void dispatch_and_call_twice(void)
{
	sud_dispatch_and_call();
	sud_dispatch_and_call();
}

static bool write_to_instance(const char *dir, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return !sud_write_file(path, text);
}

static bool enable_tracepoints(const char *dir)
{
	return write_to_instance(dir, "events/raw_syscalls/enable", "1");
}

/* The events as "(" for sys_enter, and ")" for sys_exit */
static void read_events(const char *dir, char *log, size_t size)
{
	char path[128];
	char *line = NULL;
	size_t len = 0;
	FILE *trace;

	memset(log, 0, size);
	snprintf(path, sizeof(path), "%s/trace", dir);
	trace = fopen(path, "r");
	while (trace && size-- > 1 && getline(&line, &len, trace) > 0) {
		if (strstr(line, " sys_enter: NR"))
			*log++ = '(';
		else if (strstr(line, " sys_exit: NR"))
			*log++ = ')';
	}
	free(line);
	if (trace)
		fclose(trace);
}

FIXTURE_SETUP(tracepoints)
{
	char pid[16];

	/* Whatever gets mounted here is gone with the test. */
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		SKIP(return, "needs root");
	if (access(TRACEFS "/instances", F_OK) &&
	    mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		SKIP(return, "no tracefs");
	if (access(TRACEFS "/events/raw_syscalls", F_OK))
		SKIP(return, "the kernel lacks CONFIG_FTRACE_SYSCALLS");

	ASSERT_EQ(0, sud_handle(NULL));
	self->pid = sud_tracee(dispatch_and_call_twice);
	ASSERT_LT(0, self->pid);

	snprintf(self->dir, sizeof(self->dir), TRACEFS "/instances/sud-%d", getpid());
	ASSERT_EQ(0, mkdir(self->dir, 0700));
	ASSERT_TRUE(sud_undo_later(&self->undo, remove_instance, self->dir));
	snprintf(pid, sizeof(pid), "%d", self->pid);
	ASSERT_TRUE(write_to_instance(self->dir, "set_event_pid", pid));
}

FIXTURE_TEARDOWN(tracepoints)
{
	sud_kill_tracee(self->pid);
	sud_undo_now(&self->undo);
}

TEST_F(tracepoints, are_not_hit_by_a_dispatched_syscall)
{
	const struct sud_config config = sud_foreign_config(NULL);
	char log[64];

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_TRUE(enable_tracepoints(self->dir));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_CONT, 0, log, sizeof(log)));
	EXPECT_STREQ("SS", log);

	/* Twice rt_sigreturn and the permitted syscall, and exit */
	read_events(self->dir, log, sizeof(log));
	EXPECT_STREQ("()()()()(", log);
}

TEST_F(tracepoints, are_hit_in_pairs_when_enabled_in_the_middle_of_a_dispatch)
{
	const struct sud_config config = sud_foreign_config(NULL);
	char log[64];

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_EQ('S', sud_stop(self->pid, sud_resume(self->pid, PTRACE_CONT, 0)));
	ASSERT_TRUE(enable_tracepoints(self->dir));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_CONT, SIGSYS, log, sizeof(log)));
	read_events(self->dir, log, sizeof(log));
	EXPECT_STREQ("()()()()(", log);
}

TEST_F(tracepoints, are_hit_by_permitted_syscalls)
{
	const struct sud_config config = sud_foreign_config(&sud->selector);
	char log[64];

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_TRUE(enable_tracepoints(self->dir));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_CONT, 0, log, sizeof(log)));
	read_events(self->dir, log, sizeof(log));
	EXPECT_STREQ("()()()()(", log);
}

TEST_F(tracepoints, d5_are_not_hit_by_a_syscall_that_kills)
{
	const struct sud_config config = sud_foreign_config(&sud->selector);
	char log[64];

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_TRUE(enable_tracepoints(self->dir));
	sud->selector = 2;
	EXPECT_EQ(SIGSYS, sud_killed_by(sud_resume(self->pid, PTRACE_CONT, 0)));
	read_events(self->dir, log, sizeof(log));
	XFAIL_UPSTREAM(return, !strcmp(log, ")"), "D5: sys_exit without sys_enter");
	EXPECT_STREQ("", log);
}

/* Whether the trace has a line of @event that ends in @fields */
static bool recorded(const char *dir, const char *event, const char *fields)
{
	bool found = false;
	char path[128];
	char *line = NULL;
	size_t len = 0;
	FILE *trace;

	snprintf(path, sizeof(path), "%s/trace", dir);
	trace = fopen(path, "r");
	while (trace && !found && getline(&line, &len, trace) > 0) {
		line[strcspn(line, "\n")] = 0;
		found = strstr(line, event) && strlen(line) >= strlen(fields) &&
			!strcmp(line + strlen(line) - strlen(fields), fields);
	}
	free(line);
	if (trace)
		fclose(trace);
	return found;
}

static bool enable_own_tracepoints(const char *dir)
{
	return write_to_instance(dir, "events/syscall_user_dispatch/enable", "1");
}

TEST_F(tracepoints, of_the_mechanism_tell_of_arming_and_dispatch)
{
	struct sud_config config = sud_foreign_config(NULL);
	char text[128];
	char log[64];

	if (access(TRACEFS "/events/syscall_user_dispatch", F_OK))
		SKIP(return, "the kernel has no tracepoints of the mechanism");

	/* By a tracer: that is us, so the events are ours */
	snprintf(text, sizeof(text), "%d", getpid());
	ASSERT_TRUE(write_to_instance(self->dir, "set_event_pid", text));
	ASSERT_TRUE(enable_own_tracepoints(self->dir));
	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	snprintf(text, sizeof(text),
		 "pid=%d mode=inclusive offset=0x%lx len=0x%lx selector=0x0", self->pid,
		 (unsigned long)foreign_begin, (unsigned long)(foreign_end - foreign_begin));
	EXPECT_TRUE(recorded(self->dir, "sud_configure:", text));

	snprintf(text, sizeof(text), "%d", self->pid);
	ASSERT_TRUE(write_to_instance(self->dir, "set_event_pid", text));
	EXPECT_EQ(0, sud_log_stops(self->pid, PTRACE_CONT, 0, log, sizeof(log)));
	snprintf(text, sizeof(text), "address=0x%lx nr=%d arch=%s",
		 (unsigned long)foreign_syscall_ip, __NR_getppid,
		 sizeof(long) == 8 ? "x86_64" : "i386");
	EXPECT_TRUE(recorded(self->dir, "sud_dispatch:", text));
}

TEST_F(tracepoints, of_the_mechanism_tell_of_a_kill)
{
	const struct sud_config config = sud_foreign_config(&sud->selector);
	char text[128];

	if (access(TRACEFS "/events/syscall_user_dispatch", F_OK))
		SKIP(return, "the kernel has no tracepoints of the mechanism");

	ASSERT_EQ(0, sud_set_config(self->pid, &config));
	ASSERT_TRUE(enable_own_tracepoints(self->dir));
	sud->selector = 2;
	EXPECT_EQ(SIGSYS, sud_killed_by(sud_resume(self->pid, PTRACE_CONT, 0)));
	snprintf(text, sizeof(text), "selector=0x%lx reading=2", (unsigned long)&sud->selector);
	EXPECT_TRUE(recorded(self->dir, "sud_kill:", text));
}

/*
 * Restarted syscalls, which begin anew at the instruction
 */

static void block(int sig, siginfo_t *info, void *context)
{
	sud->selector = BLOCK;
}

static int read_from_pipe(const void *arg)
{
	const int *fd = arg;
	char byte;

	sud_arm_foreign(&sud->selector);
	return foreign_syscall(__NR_read, (long)*fd, &byte, 1L) == SUD_EMULATED ? 0 : 1;
}

TEST(restarted_native_syscall_reads_the_selector_again)
{
	int pipe_fd[2];
	int status;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	ASSERT_EQ(0, sud_sigaction(SIGUSR1, block, SA_RESTART));
	ASSERT_EQ(0, pipe(pipe_fd));
	pid = sud_fork();
	if (!pid)
		_exit(read_from_pipe(pipe_fd));
	sud_await_sleep(pid, __NR_read);
	EXPECT_EQ(0, sud->dispatches);
	ASSERT_EQ(0, kill(pid, SIGUSR1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(__NR_read, sud->info.si_syscall);
}

static int poll_for_an_hour(const void *arg)
{
	sud_arm_foreign(&sud->selector);
	return foreign_syscall(__NR_poll, NULL, 0L, 3600000L) == SUD_EMULATED ? 0 : 1;
}

TEST(restart_syscall_can_be_dispatched)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	pid = sud_fork();
	if (!pid)
		_exit(poll_for_an_hour(NULL));
	sud_await_sleep(pid, __NR_poll);
	ASSERT_EQ(0, sud_ptrace(PTRACE_SEIZE, pid, 0, NULL));
	ASSERT_EQ(0, sud_ptrace(PTRACE_INTERRUPT, pid, 0, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	sud->selector = BLOCK;
	ASSERT_EQ(0, sud_ptrace(PTRACE_DETACH, pid, 0, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(__NR_restart_syscall, sud->info.si_syscall);
}

TEST_HARNESS_MAIN
