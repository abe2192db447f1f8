// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: whom the configuration follows through fork, clone
 * and exec, and whom it does not
 */
#include <linux/io_uring.h>
#include <pthread.h>

#include "sud.h"

FIXTURE(armed) {
};

FIXTURE_SETUP(armed)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
}

FIXTURE_TEARDOWN(armed)
{
}

/* For use where the memory is shared with somebody who waits. */
static bool is_armed(void)
{
	return foreign_syscall(__NR_gettid) != native_syscall(__NR_gettid);
}

static int exit_if_armed(const void *arg)
{
	return is_armed();
}

TEST_F(armed, fork_starts_off)
{
	EXPECT_EQ(0, sud_run(exit_if_armed, NULL));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

TEST_F(armed, vfork_starts_off)
{
	int status;
	pid_t pid;

	pid = vfork();
	if (!pid)
		_exit(is_armed());
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

static int clone_child(void *arg)
{
	return is_armed();
}

static int run_clone(int flags)
{
	static char stack[65536];
	int status;
	pid_t pid;

	pid = clone(clone_child, stack + sizeof(stack), flags | SIGCHLD, NULL);
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

TEST_F(armed, clone_without_clone_vm_starts_off)
{
	EXPECT_EQ(0, run_clone(0));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

TEST_F(armed, clone_with_clone_vm_starts_off)
{
	EXPECT_EQ(0, run_clone(CLONE_VM));
	EXPECT_EQ(0, run_clone(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

static void *armed_in_thread(void *arg)
{
	return (void *)(uintptr_t)is_armed();
}

TEST_F(armed, thread_starts_off)
{
	pthread_t thread;
	void *armed;

	ASSERT_EQ(0, pthread_create(&thread, NULL, armed_in_thread, NULL));
	ASSERT_EQ(0, pthread_join(thread, &armed));
	EXPECT_FALSE(!!armed);
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

/* Arm a thread of its own, and have it tell afterwards whether it still is. */
static void *arm_thread(void *arg)
{
	sud_arm_foreign(NULL);
	sud_set_flag(1);
	sud_await_flag(2);
	return (void *)(uintptr_t)(sud_dispatches(foreign_syscall) == 1);
}

TEST(siblings_are_armed_and_disarmed_on_their_own)
{
	pthread_t thread;
	void *armed;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, pthread_create(&thread, NULL, arm_thread, NULL));
	sud_await_flag(1);
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	sud_set_flag(2);
	ASSERT_EQ(0, pthread_join(thread, &armed));
	EXPECT_TRUE(!!armed);
}

TEST_F(armed, failed_exec_keeps)
{
	EXPECT_EQ(-1, execl("/nonexistent", "nonexistent", NULL));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	EXPECT_EQ(-1, execl("/dev/null", "null", NULL));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

/*
 * The new program finds neither a handler nor the selector, so it would not
 * survive a single syscall.
 */
static int exec_true(const void *arg)
{
	sud_arm_all();
	execl("/bin/true", "true", NULL);
	return 1;
}

TEST(successful_exec_resets)
{
	ASSERT_EQ(0, sud_handle(NULL));
	EXPECT_EQ(0, sud_run(exec_true, NULL));
}

static void *exec_in_thread(void *arg)
{
	exec_true(arg);
	return NULL;
}

static int exec_from_thread(const void *arg)
{
	pthread_t thread;

	/* Arms the leader, too, which this does not survive */
	sud_arm_all();
	if (pthread_create(&thread, NULL, exec_in_thread, NULL))
		return 1;
	pthread_join(thread, NULL);
	return 2;
}

TEST(successful_exec_from_a_thread_resets)
{
	ASSERT_EQ(0, sud_handle(NULL));
	EXPECT_EQ(0, sud_run(exec_from_thread, NULL));
}

/* The least of io_uring that gets one request done by a kernel worker */
struct ring {
	int fd;
	struct io_uring_params params;
	char *sq, *cq;
	struct io_uring_sqe *sqe;
};

static bool ring_setup(struct ring *ring)
{
	const int prot = PROT_READ | PROT_WRITE;
	const size_t size = 4 * SUD_PAGE;

	memset(ring, 0, sizeof(*ring));
	ring->fd = native_syscall(__NR_io_uring_setup, 1L, &ring->params);
	if (ring->fd < 0)
		return false;
	ring->sq = mmap(NULL, size, prot, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->cq = mmap(NULL, size, prot, MAP_SHARED, ring->fd, IORING_OFF_CQ_RING);
	ring->sqe = mmap(NULL, size, prot, MAP_SHARED, ring->fd, IORING_OFF_SQES);
	return true;
}

static int ring_write(struct ring *ring, int fd, const char *buf, int len)
{
	const struct io_uring_params *p = &ring->params;
	struct io_uring_cqe *cqe = (void *)(ring->cq + p->cq_off.cqes);

	ring->sqe->opcode = IORING_OP_WRITE;
	ring->sqe->flags = IOSQE_ASYNC;
	ring->sqe->fd = fd;
	ring->sqe->addr = (unsigned long)buf;
	ring->sqe->len = len;
	*(unsigned int *)(ring->sq + p->sq_off.array) = 0;
	__atomic_store_n((unsigned int *)(ring->sq + p->sq_off.tail), 1, __ATOMIC_RELEASE);

	if (native_syscall(__NR_io_uring_enter, (long)ring->fd, 1L, 1L,
			   (long)IORING_ENTER_GETEVENTS, NULL, 0L) != 1)
		return -1;
	return cqe->res;
}

TEST(io_uring_worker_is_not_filtered)
{
	struct ring ring;
	int pipe_fd[2];
	char byte = 0;
	int res;

	if (!ring_setup(&ring))
		SKIP(return, "no io_uring");
	ASSERT_EQ(0, pipe(pipe_fd));
	ASSERT_EQ(0, sud_handle(NULL));

	/* Only the call that submits the request is exempt. */
	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, (unsigned long)native_syscall_ip, 1, NULL));
	res = ring_write(&ring, pipe_fd[1], "w", 1);
	ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	EXPECT_EQ(1, res);
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(1, read(pipe_fd[0], &byte, 1));
	EXPECT_EQ('w', byte);
}

TEST_HARNESS_MAIN
