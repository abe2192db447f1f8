// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: which word the configuration is judged in. prctl()
 * takes words of its caller, and ptrace() fields of 64 bits.
 */
#include "sud_ptrace.h"

/*
 * Whoever makes the call by int $0x80 is a 32-bit caller, whose pointers have to
 * lie below 4 GiB.
 */

FIXTURE(ia32) {
	struct sud_config *config;
	char *selector;
};

FIXTURE_SETUP(ia32)
{
	void *low = mmap(NULL, SUD_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	ASSERT_TRUE(low != MAP_FAILED);
	self->config = low;
	self->selector = low + sizeof(*self->config);
}

FIXTURE_TEARDOWN(ia32)
{
}

static long ia32_prctl(unsigned long mode, unsigned long offset, unsigned long len,
		       unsigned long selector)
{
	return native_int80(IA32_NR_prctl, (long)PR_SET_SYSCALL_USER_DISPATCH,
			    mode, offset, len, selector);
}

/* A region of one byte that holds no code */
#define NOWHERE	0xfffffffeUL

TEST_F(ia32, region_up_to_the_last_byte_is_accepted)
{
	const unsigned long allow = (unsigned long)self->selector;

	EXPECT_EQ(0, ia32_prctl(EXCLUSIVE, 0, 0xffffffff, allow));
	EXPECT_EQ(0, ia32_prctl(EXCLUSIVE, 1, 0xfffffffe, allow));
	EXPECT_EQ(0, ia32_prctl(EXCLUSIVE, NOWHERE, 1, allow));
	EXPECT_EQ(0, ia32_prctl(INCLUSIVE, 0, 0xffffffff, allow));
	EXPECT_EQ(0, ia32_prctl(INCLUSIVE, 1, 0xfffffffe, allow));
	EXPECT_EQ(0, ia32_prctl(INCLUSIVE, NOWHERE, 1, allow));
	EXPECT_EQ(0, ia32_prctl(INCLUSIVE, NOWHERE, 1, 0xffffdfff));
	EXPECT_EQ(0, ia32_prctl(OFF, 0, 0, 0));
}

TEST_F(ia32, region_that_wraps_at_4_gib_is_einval)
{
	static const struct {
		unsigned long offset, len;
	} region[] = {
		{ 1, 0xffffffff }, { 2, 0xffffffff }, { 0xffffffff, 1 },
		{ 0xffffffff, 0xffffffff }, { 0x80000000, 0x80000000 },
	};
	const unsigned long allow = (unsigned long)self->selector;
	int i;

	for (i = 0; i < ARRAY_SIZE(region); i++) {
		EXPECT_EQ(-EINVAL, ia32_prctl(EXCLUSIVE, region[i].offset, region[i].len, allow));
		EXPECT_EQ(-EINVAL, ia32_prctl(INCLUSIVE, region[i].offset, region[i].len, allow));
	}
}

TEST_F(ia32, selector_outside_user_space_is_efault)
{
	EXPECT_EQ(-EFAULT, ia32_prctl(INCLUSIVE, NOWHERE, 1, 0xffffe000));
	EXPECT_EQ(-EFAULT, ia32_prctl(INCLUSIVE, NOWHERE, 1, 0xffffffff));
	EXPECT_EQ(-EINVAL, ia32_prctl(INCLUSIVE, 0, 0, 0xffffffff));
}

/*
 * A 32-bit tracer, whose tracee may have 64 bits
 */

static long ia32_set_config(pid_t pid, struct sud_config *low, struct sud_config config)
{
	*low = config;
	return native_int80(IA32_NR_ptrace, (long)PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG,
			    (long)pid, sizeof(*low), low);
}

static long ia32_get_config(pid_t pid, struct sud_config *low)
{
	return native_int80(IA32_NR_ptrace, (long)PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG,
			    (long)pid, sizeof(*low), low);
}

static void call_foreign(void)
{
	foreign_syscall(__NR_getppid);
}

/* What a tracer set is what it gets, and can be set again. */
static void expect_identity(struct __test_metadata *_metadata, struct sud_config *low,
			    unsigned int mode)
{
	struct sud_config configs[] = {
		{ .offset = 1, .len = 0xffffffff },
		{ .offset = 0xffffffff, .len = 1 },
		{ .offset = 0, .len = 1ULL << 32 },
		{ .offset = 1ULL << 40, .len = 1ULL << 40, .selector = 1ULL << 40 },
		{ .offset = 1, .len = -2ULL, .selector = 0xffffe000 },
		{ .offset = -2ULL, .len = 1, .selector = 0xffffffff },
	};
	pid_t pid;
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(call_foreign);
	ASSERT_LT(0, pid);
	for (i = 0; i < ARRAY_SIZE(configs); i++) {
		configs[i].mode = mode;
		ASSERT_EQ(0, ia32_set_config(pid, low, configs[i]));
		ASSERT_EQ(0, ia32_get_config(pid, low));
		ASSERT_EQ(0, memcmp(&configs[i], low, sizeof(*low)));
		ASSERT_EQ(0, ia32_set_config(pid, low, *low));
		ASSERT_EQ(0, ia32_get_config(pid, low));
		ASSERT_EQ(0, memcmp(&configs[i], low, sizeof(*low)));
	}
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

TEST_F(ia32, tracer_gives_back_what_it_got_of_an_exclusive_region)
{
	expect_identity(_metadata, self->config, EXCLUSIVE);
}

TEST_F(ia32, tracer_gives_back_what_it_got_of_an_inclusive_region)
{
	expect_identity(_metadata, self->config, INCLUSIVE);
}

TEST_F(ia32, tracer_is_judged_in_64_bits)
{
	const struct sud_config invalid[] = {
		{ .mode = 1ULL << 32 | EXCLUSIVE },
		{ .mode = OFF, .offset = 1ULL << 32 },
		{ .mode = EXCLUSIVE, .offset = 1, .len = -1ULL },
		{ .mode = INCLUSIVE, .offset = 1ULL << 63, .len = 1ULL << 63 },
		{ .mode = INCLUSIVE, .offset = 1ULL << 32, .len = 0 },
	};
	const struct sud_config bad_selector = { .mode = EXCLUSIVE, .selector = 1ULL << 63 };
	pid_t pid;
	int i;

	ASSERT_EQ(0, sud_handle(NULL));
	pid = sud_tracee(call_foreign);
	ASSERT_LT(0, pid);
	for (i = 0; i < ARRAY_SIZE(invalid); i++)
		EXPECT_EQ(-EINVAL, ia32_set_config(pid, self->config, invalid[i]));
	EXPECT_EQ(-EFAULT, ia32_set_config(pid, self->config, bad_selector));
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

TEST_HARNESS_MAIN
