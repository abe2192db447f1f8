// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: which configurations prctl() takes, and when they
 * take effect
 */
#include "sud_ptrace.h"

struct region {
	unsigned long offset, len;
};

static void expect_prctl(struct __test_metadata *_metadata, long expected,
			 unsigned long mode, const struct region *region, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		EXPECT_EQ(expected, sud_prctl(mode, region[i].offset, region[i].len,
					      &sud->selector)) {
			TH_LOG("mode %lu offset %#lx len %#lx", mode,
			       region[i].offset, region[i].len);
		}
	}
}

#define EXPECT_PRCTL(expected, mode, ...) do { \
	static const struct region regions[] = { __VA_ARGS__ }; \
	\
	expect_prctl(_metadata, expected, mode, regions, ARRAY_SIZE(regions)); \
} while (0)

TEST(mode_not_0_1_or_2_is_einval)
{
	static const unsigned long modes[] = {
		3, 4, 1UL << 31, -2UL, -1UL,
#ifdef __x86_64__
		1UL << 32, 1UL << 32 | EXCLUSIVE, 1UL << 63 | INCLUSIVE,
#endif
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++)
		EXPECT_EQ(-EINVAL, sud_prctl(modes[i], 0, 0, NULL));
}

TEST(off_with_any_other_argument_nonzero_is_einval)
{
	EXPECT_EQ(-EINVAL, sud_prctl(OFF, 1, 0, NULL));
	EXPECT_EQ(-EINVAL, sud_prctl(OFF, 0, 1, NULL));
	EXPECT_EQ(-EINVAL, sud_prctl(OFF, 0, 0, &sud->selector));
	EXPECT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
}

TEST(exclusive_at_offset_0_takes_any_length)
{
	ASSERT_EQ(0, sud_handle(NULL));

	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, 0, 0, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));

	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, 0, 1, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));

	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, 0, -1UL, &sud->selector));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
}

TEST(exclusive_region_without_length_is_einval)
{
	EXPECT_PRCTL(-EINVAL, EXCLUSIVE, { 1, 0 }, { 0x1000, 0 }, { -1UL, 0 });
}

TEST(inclusive_region_without_length_is_einval)
{
	EXPECT_PRCTL(-EINVAL, INCLUSIVE, { 0, 0 }, { 1, 0 }, { 0x1000, 0 }, { -1UL, 0 });
}

TEST(smallest_and_largest_regions_are_accepted)
{
	EXPECT_PRCTL(0, EXCLUSIVE, { 1, 1 }, { 1, -2UL }, { -2UL, 1 });
	EXPECT_PRCTL(0, INCLUSIVE, { 0, 1 }, { 0, -1UL }, { 1, -2UL }, { -2UL, 1 });
}

#ifdef __x86_64__
/* The limits of 32-bit callers are in words.c. */

TEST(region_that_wraps_around_is_einval)
{
	EXPECT_PRCTL(-EINVAL, EXCLUSIVE, { 2, -1UL }, { -1UL, 2 }, { -1UL, -1UL },
		     { 1UL << 63, (1UL << 63) + 1 });
	EXPECT_PRCTL(-EINVAL, INCLUSIVE, { 2, -1UL }, { -1UL, 2 }, { -1UL, -1UL },
		     { 1UL << 63, (1UL << 63) + 1 });
}

TEST(region_that_ends_at_2_to_the_64_is_einval)
{
	EXPECT_PRCTL(-EINVAL, EXCLUSIVE, { 1, -1UL }, { -1UL, 1 }, { 1UL << 63, 1UL << 63 });
	EXPECT_PRCTL(-EINVAL, INCLUSIVE, { 1, -1UL }, { -1UL, 1 }, { 1UL << 63, 1UL << 63 });
}

TEST(region_of_4_gib_is_accepted)
{
	EXPECT_PRCTL(0, EXCLUSIVE, { 1, 1UL << 32 }, { 1UL << 32, 1UL << 32 });
	EXPECT_PRCTL(0, INCLUSIVE, { 1, 1UL << 32 }, { 1UL << 32, 1UL << 32 });
}

/* Whether /proc/cpuinfo names a feature, which may be off for want of support. */
static bool cpu_has(const char *feature)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	char *line = NULL, *word, *rest;
	bool found = false;
	size_t size = 0;

	while (file && !found && getline(&line, &size, file) > 0) {
		if (strncmp(line, "flags", 5))
			continue;
		rest = line;
		while (!found && (word = strsep(&rest, " \t\n")))
			found = !strcmp(word, feature);
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

/*
 * The kernel's USER_PTR_MAX, up to and including which it takes a pointer for one
 * to user space: the guard page at the end of what can be mapped, which five levels
 * of page tables move; with LAM, where the upper bits may be a tag, that of the
 * lower half of all addresses.
 */
static unsigned long user_ptr_max(void)
{
	void *high = (void *)(1UL << 55);

	if (cpu_has("lam"))
		return (1UL << 63) - SUD_PAGE;
	if (mmap(high, SUD_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		 -1, 0) == MAP_FAILED)
		return (1UL << 47) - SUD_PAGE;
	munmap(high, SUD_PAGE);
	return (1UL << 56) - SUD_PAGE;
}

TEST(selector_outside_user_space_is_efault)
{
	const unsigned long outside[] = { user_ptr_max() + 1, 1UL << 63, -1UL };
	int i;

	for (i = 0; i < ARRAY_SIZE(outside); i++) {
		EXPECT_EQ(-EFAULT, sud_prctl(EXCLUSIVE, 0, -1UL, (void *)outside[i]));
		EXPECT_EQ(-EFAULT, sud_prctl(INCLUSIVE, 0, 1, (void *)outside[i]));
	}
}

TEST(selector_may_be_at_the_end_of_user_space)
{
	const unsigned long end = user_ptr_max();

	EXPECT_EQ(0, sud_prctl(EXCLUSIVE, 0, -1UL, (void *)(end - 1)));
	EXPECT_EQ(0, sud_prctl(INCLUSIVE, 0, 1, (void *)(end - 1)));
	EXPECT_EQ(0, sud_prctl(EXCLUSIVE, 0, -1UL, (void *)end));
	EXPECT_EQ(0, sud_prctl(INCLUSIVE, 0, 1, (void *)end));
}

static void call_native(void)
{
	native_syscall(__NR_getppid);
}

TEST(selector_of_a_tracee_may_be_at_the_end_of_user_space)
{
	struct sud_config config = { .mode = EXCLUSIVE, .len = -1UL };
	pid_t pid;

	pid = sud_tracee(call_native);
	ASSERT_LT(0, pid);
	config.selector = user_ptr_max();
	EXPECT_EQ(0, sud_set_config(pid, &config));
	config.selector++;
	EXPECT_EQ(-EFAULT, sud_set_config(pid, &config));
	EXPECT_EQ(pid, sud_kill_tracee(pid));
}

TEST(einval_goes_before_efault)
{
	EXPECT_EQ(-EINVAL, sud_prctl(3, 0, 0, (void *)-1UL));
	EXPECT_EQ(-EINVAL, sud_prctl(OFF, 0, 0, (void *)-1UL));
	EXPECT_EQ(-EINVAL, sud_prctl(EXCLUSIVE, 1, 0, (void *)-1UL));
	EXPECT_EQ(-EINVAL, sud_prctl(INCLUSIVE, 0, 0, (void *)-1UL));
}

# define KERNEL_HALF	0xffff800000000000UL
#else
/* What a 32-bit kernel would keep for itself, and a 64-bit one does not map */
# define KERNEL_HALF	0xffffe000UL
#endif

TEST(region_in_the_kernel_half_never_matches)
{
	ASSERT_EQ(0, sud_handle(NULL));

	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, KERNEL_HALF, 0x1000, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, KERNEL_HALF, 0x1000, &sud->selector));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
}

TEST(selector_null_unmapped_or_prot_none_is_accepted)
{
	char *page = sud_pages(1, PROT_NONE);

	ASSERT_TRUE(!!page);
	EXPECT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(0, sud_arm_foreign(page));
	ASSERT_EQ(0, munmap(page, SUD_PAGE));
	EXPECT_EQ(0, sud_arm_foreign(page));
	EXPECT_EQ(0, sud_arm_foreign((void *)1));
}

TEST(exclusive_region_is_half_open_and_judges_the_address_after_the_instruction)
{
	const unsigned long ip = (unsigned long)foreign_syscall_ip;

	ASSERT_EQ(0, sud_handle(NULL));

	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, ip, 1, &sud->selector));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, ip - 8, 9, &sud->selector));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, ip - 8, 8, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, ip + 1, 8, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

TEST(inclusive_region_is_half_open_and_judges_the_address_after_the_instruction)
{
	const unsigned long ip = (unsigned long)foreign_syscall_ip;

	ASSERT_EQ(0, sud_handle(NULL));

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, ip, 1, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, ip - 8, 9, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, ip - 8, 8, &sud->selector));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, ip + 1, 8, &sud->selector));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
}

TEST(failure_keeps_the_previous_configuration)
{
	const unsigned long ip = (unsigned long)foreign_syscall_ip;
	char allow = ALLOW;

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, ip, 1, &sud->selector));

	EXPECT_EQ(-EINVAL, sud_prctl(OFF, 0, 0, &allow));
	EXPECT_EQ(-EINVAL, sud_prctl(3, 0, -1UL, &allow));
	EXPECT_EQ(-EINVAL, sud_prctl(EXCLUSIVE, 1, 0, &allow));
	EXPECT_EQ(-EINVAL, sud_prctl(INCLUSIVE, 0, 0, &allow));
#ifdef __x86_64__
	EXPECT_EQ(-EFAULT, sud_prctl(EXCLUSIVE, 0, -1UL, (void *)-1UL));
#endif
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	EXPECT_EQ(0, sud_dispatches(foreign_second));
}

TEST(failure_leaves_an_unarmed_thread_unarmed)
{
	ASSERT_EQ(0, sud_handle(NULL));
	EXPECT_EQ(-EINVAL, sud_prctl(3, 0, 0, &sud->selector));
	EXPECT_EQ(-EINVAL, sud_prctl(INCLUSIVE, 0, 0, &sud->selector));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
}

TEST(arming_call_returns_normally_and_the_next_syscall_is_judged)
{
	ASSERT_EQ(0, sud_handle(NULL));
	EXPECT_EQ(0, foreign_syscall(__NR_prctl, (long)PR_SET_SYSCALL_USER_DISPATCH,
				     (long)INCLUSIVE, foreign_begin,
				     foreign_end - foreign_begin, NULL));
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(__NR_getppid, foreign_syscall(__NR_getppid));
	EXPECT_EQ(1, sud->dispatches);
}

TEST(disarming_takes_effect_from_the_next_syscall)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	ASSERT_EQ(0, sud_prctl(OFF, 0, 0, NULL));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
}

TEST(disarming_call_is_judged_itself)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(__NR_prctl, foreign_syscall(__NR_prctl, (long)PR_SET_SYSCALL_USER_DISPATCH,
					      (long)OFF, 0L, 0L, 0L));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
}

TEST(arming_again_replaces_region_mode_and_selector)
{
	ASSERT_EQ(0, sud_handle(NULL));

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, (unsigned long)foreign_syscall_ip, 1, NULL));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	EXPECT_EQ(0, sud_dispatches(foreign_second));

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, (unsigned long)foreign_second_ip, 1, NULL));
	EXPECT_EQ(0, sud_dispatches(foreign_syscall));
	EXPECT_EQ(1, sud_dispatches(foreign_second));

	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, (unsigned long)foreign_second_ip, 1, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(foreign_syscall));
	EXPECT_EQ(0, sud_dispatches(foreign_second));
}

static int arm_as_nobody(const void *arg)
{
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return 1;
	if (sud_arm_foreign(NULL))
		return 2;
	return sud_dispatches(foreign_syscall) == 1 ? 0 : 3;
}

TEST(arming_needs_no_privilege)
{
	if (getuid())
		SKIP(return, "is without privilege already");
	ASSERT_EQ(0, sud_handle(NULL));
	EXPECT_EQ(0, sud_run(arm_as_nobody, NULL));
}

TEST_HARNESS_MAIN
