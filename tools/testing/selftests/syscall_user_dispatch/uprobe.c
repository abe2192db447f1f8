// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: the syscalls of the trampolines that the kernel has for
 * uprobes are its own, and not for the probed program to emulate
 */
#include <linux/perf_event.h>

#include "sud.h"

/*
 * The function under probe makes no syscall, so whatever is dispatched
 * here was made on its behalf. Its first instruction is a NOP of ten bytes,
 * which the kernel may replace by a call to a trampoline.
 */
sud_stub probed;

asm(".pushsection .text\n"
	".balign 16\n"
	"probed:\n"
	"	.byte	0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0\n"
	"	ret\n"
	".popsection\n");

#define UPROBE_PMU	"/sys/bus/event_source/devices/uprobe/"

static int open_probe(bool on_return)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.config = on_return,
		.uprobe_path = (unsigned long)"/proc/self/exe",
	};
	struct sud_map text;
	FILE *type;

	type = fopen(UPROBE_PMU "type", "r");
	if (!type || !sud_find_map((unsigned long)probed, &text))
		return -1;
	if (fscanf(type, "%u", &attr.type) != 1)
		attr.type = -1;
	fclose(type);
	attr.probe_offset = (unsigned long)probed - text.start + text.offset;
	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

FIXTURE(probe) {
};

FIXTURE_VARIANT(probe) {
	bool on_return;
};

FIXTURE_VARIANT_ADD(probe, uprobe) {
	.on_return = false,
};

FIXTURE_VARIANT_ADD(probe, uretprobe) {
	.on_return = true,
};

struct call {
	bool on_return;
	const char *selector;
};

/* Only the native stub is exempt. */
static int call_probed(const void *arg)
{
	const struct call *call = arg;
	const int calls = 4;
	unsigned long hits;
	int fd, i;

	fd = open_probe(call->on_return);
	if (fd < 0 ||
	    sud_prctl(EXCLUSIVE, (unsigned long)native_syscall_ip, 1, call->selector))
		return 1;
	for (i = 0; i < calls; i++)
		probed(0);
	sud_prctl(OFF, 0, 0, NULL);
	return read(fd, &hits, sizeof(hits)) == sizeof(hits) && hits == calls ? 0 : 2;
}

FIXTURE_SETUP(probe)
{
	int fd = open_probe(variant->on_return);

	if (fd < 0)
		SKIP(return, "no uprobes through perf");
	close(fd);
	ASSERT_EQ(0, sud_handle(NULL));
}

FIXTURE_TEARDOWN(probe)
{
}

static void expect_calls(struct __test_metadata *_metadata, bool on_return,
			 const char *selector)
{
	const struct call call = { .on_return = on_return, .selector = selector };

	EXPECT_EQ(0, sud_run(call_probed, &call));
	EXPECT_EQ(0, sud->dispatches);
}

TEST_F(probe, on_a_foreign_function_is_not_dispatched)
{
	expect_calls(_metadata, variant->on_return, NULL);
}

TEST_F(probe, on_a_foreign_function_does_not_kill)
{
	static const char bad = 2;

	expect_calls(_metadata, variant->on_return, &bad);
}

TEST_F(probe, on_a_foreign_function_does_not_kill_over_an_unreadable_selector)
{
	expect_calls(_metadata, variant->on_return, (const char *)1);
}

TEST(numbers_of_uprobes_are_dispatched_at_any_other_address)
{
	static const unsigned long numbers[] = { 335, 336 };
	int i;

	ASSERT_EQ(0, sud_handle(sud_emulate));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		EXPECT_EQ(SUD_EMULATED, foreign_syscall(numbers[i]));
	EXPECT_EQ(2, sud->dispatches);
}

TEST_HARNESS_MAIN
