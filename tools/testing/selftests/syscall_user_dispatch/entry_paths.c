// SPDX-License-Identifier: GPL-2.0-only
/*
 * Syscall User Dispatch: each way into the kernel that x86 has
 */
#include <cpuid.h>
#include <setjmp.h>
#include <sys/auxv.h>
#include <time.h>

#include "sud.h"

static bool is_in_vdso(const void *addr)
{
	struct sud_map vdso;

	return sud_find_map(getauxval(AT_SYSINFO_EHDR), &vdso) &&
		vdso.start <= (unsigned long)addr && (unsigned long)addr < vdso.end;
}

/* A clock that the vDSO cannot read on its own */
static int read_cpu_clock(void)
{
	struct timespec ts = { -1, -1 };

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts))
		return -1;
	return ts.tv_sec >= 0 && ts.tv_nsec >= 0 ? 0 : -1;
}

TEST(vdso_fallback_syscall_is_judged_by_its_own_address)
{
	struct sud_map vdso;

	ASSERT_TRUE(sud_find_map(getauxval(AT_SYSINFO_EHDR), &vdso));
	ASSERT_EQ(0, sud_handle(sud_repeat));

	/* Everything but the vDSO is exempt, then the vDSO alone is. */
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, vdso.start, vdso.end - vdso.start, &sud->selector));
	sud->selector = BLOCK;
	EXPECT_EQ(0, read_cpu_clock());
	sud->selector = ALLOW;
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_TRUE(is_in_vdso(sud->info.si_call_addr));

	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, vdso.start, vdso.end - vdso.start, &sud->selector));
	sud->selector = BLOCK;
	EXPECT_EQ(0, read_cpu_clock());
	sud->selector = ALLOW;
	EXPECT_EQ(1, sud->dispatches);
}

TEST(int80_reports_arch_i386)
{
	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	ASSERT_EQ(1, sud_dispatches_nr(foreign_int80, IA32_NR_getppid));
	EXPECT_EQ(AUDIT_ARCH_I386, sud->info.si_arch);
	EXPECT_EQ(IA32_NR_getppid, sud->info.si_syscall);
	EXPECT_TRUE(sud->info.si_call_addr == foreign_int80_ip);
	EXPECT_EQ((long)foreign_int80_ip, sud->regs[REG_IP]);
}

TEST(int80_runs_where_exempt_or_allowed)
{
	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	sud->selector = BLOCK;
	EXPECT_EQ(getppid(), native_int80(IA32_NR_getppid));
	sud->selector = ALLOW;
	EXPECT_EQ(getppid(), foreign_int80(IA32_NR_getppid));
	EXPECT_EQ(0, sud->dispatches);
}

#ifdef __x86_64__

# define X32_BIT	0x40000000UL

TEST(x32_bit_stays_in_the_number_and_arch_is_x86_64)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	EXPECT_EQ(X32_BIT | __NR_getppid, foreign_syscall(X32_BIT | __NR_getppid));
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ(X32_BIT | __NR_getppid, sud->info.si_syscall);
	EXPECT_EQ(X32_BIT | __NR_getppid, sud->regs[REG_RAX]);
	EXPECT_EQ(AUDIT_ARCH_X86_64, sud->info.si_arch);
}

TEST(x32_syscall_runs_where_allowed)
{
	long ret = native_syscall(X32_BIT | __NR_getppid);

	if (ret != getppid())
		SKIP(return, "the kernel lacks CONFIG_X86_X32_ABI");
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(&sud->selector));
	EXPECT_EQ(ret, foreign_syscall(X32_BIT | __NR_getppid));
	EXPECT_EQ(0, sud->dispatches);
}

/* Another program, beside this one. */
#define NO_PROGRAM	126
#define NO_X32		127

static int exec_x32_program(const void *path)
{
	execl(path, path, NULL);
	return errno == ENOENT ? NO_PROGRAM : NO_X32;
}

TEST(x32_process_has_its_own_frame_and_the_bit_in_the_number)
{
	char self[4096] = "", path[4200];
	int status;

	ASSERT_LT(0, readlink("/proc/self/exe", self, sizeof(self) - 1));
	*strrchr(self, '/') = 0;
	snprintf(path, sizeof(path), "%s/x32_program", self);
	status = sud_run(exec_x32_program, path);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_PROGRAM)
		SKIP(return, "x32_program could not be built");
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_X32)
		SKIP(return, "the kernel lacks CONFIG_X86_X32_ABI");
	EXPECT_EQ(0, sud_killed_by(status));
	EXPECT_EQ(0, WEXITSTATUS(status)) {
		TH_LOG("line of x32_program.c");
	}
}

TEST(int80_of_64_bit_code_zero_extends_rax_and_keeps_r8_to_r15_rcx_and_r11)
{
	static const int kept[] = {
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14,
		REG_R15, REG_RDI, REG_RSI, REG_RBP, REG_RBX, REG_RDX, REG_RCX,
	};
	const unsigned long number = 0xa5c396e1ffff0020;
	gregset_t regs = { };
	int i;

	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_foreign(NULL));
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		regs[kept[i]] = number * (i + 2);
	regs[REG_RAX] = number;

	foreign_regs_int80(regs);
	EXPECT_EQ(1, sud->dispatches);
	EXPECT_EQ((unsigned int)number, sud->regs[REG_RAX]);
	EXPECT_EQ((unsigned int)number, regs[REG_RAX]);
	EXPECT_EQ((int)number, sud->info.si_syscall);
	for (i = 0; i < ARRAY_SIZE(kept); i++) {
		EXPECT_EQ((long)(number * (i + 2)), sud->regs[kept[i]]);
		EXPECT_EQ((long)(number * (i + 2)), regs[kept[i]]);
	}
}

/*
 * A page below 4 GiB for code that switches to the 32-bit code segment, does
 * int $0x80 there, and switches back; its stack and the data lie below, too.
 */
extern const char low_begin[], low_end[], low_int80_ip[];

asm(".pushsection .rodata\n"
	"low_begin:\n"
	"	push	%rbx\n"
	"	mov	%rsp, saved_sp(%rip)\n"
	"	mov	%rdi, %rax\n"
	"	lea	saved_sp(%rip), %rsp\n"
	"	lea	compat(%rip), %rbx\n"
	"	mov	%ebx, to_compat(%rip)\n"
	"	lea	back(%rip), %rbx\n"
	"	mov	%ebx, to_back(%rip)\n"
	"	lea	to_back(%rip), %rbx\n"
	"	ljmp	*to_compat(%rip)\n"
	".code32\n"
	"compat:\n"
	"	int	$0x80\n"
	"low_int80_ip:\n"
	/* 64-bit code has a stack segment, and need not have a data segment */
	"	ljmp	*%ss:(%ebx)\n"
	".code64\n"
	"back:\n"
	"	mov	saved_sp(%rip), %rsp\n"
	"	pop	%rbx\n"
	"	ret\n"
	"to_compat:\n"
	"	.long	0, 0x23\n"
	"to_back:\n"
	"	.long	0, 0x33\n"
	/* Room for a signal frame with any state the CPU may have */
	"	.fill	32768\n"
	"	.balign 16\n"
	"saved_sp:\n"
	"	.quad	0\n"
	"low_end:\n"
	".popsection\n");

TEST(int80_of_32_bit_code_in_a_64_bit_task_has_a_64_bit_frame_with_cs_0x23)
{
	const size_t size = low_end - low_begin;
	unsigned long ip;
	sud_stub *low;

	if (!sud_has_int80())
		SKIP(return, "the kernel lacks CONFIG_IA32_EMULATION");
	low = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	ASSERT_TRUE(low != MAP_FAILED);
	memcpy(low, low_begin, size);
	ip = (unsigned long)low + (low_int80_ip - low_begin);

	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, ip, 1, &sud->selector));
	EXPECT_EQ(1, sud_dispatches_nr(low, IA32_NR_getppid));
	EXPECT_EQ(AUDIT_ARCH_I386, sud->info.si_arch);
	EXPECT_EQ(IA32_NR_getppid, sud->info.si_syscall);
	EXPECT_TRUE(sud->info.si_call_addr == (void *)ip);
	EXPECT_EQ((long)ip, sud->regs[REG_RIP]);
	EXPECT_EQ(0x23, sud->regs[REG_CSGSFS] & 0xffff);
}

#define VSYSCALL_TIME	0xffffffffff600400UL

static int call_vsyscall(const void *arg)
{
	((time_t (*)(time_t *))VSYSCALL_TIME)(NULL);
	return 0;
}

TEST(vsyscall_page_is_never_dispatched)
{
	if (sud_run(call_vsyscall, NULL))
		SKIP(return, "no vsyscall page");
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_all());
	sud->selector = BLOCK;
	call_vsyscall(NULL);
	sud->selector = ALLOW;
	EXPECT_EQ(0, sud->dispatches);

	ASSERT_EQ(0, sud_prctl(INCLUSIVE, VSYSCALL_TIME, SUD_PAGE, NULL));
	call_vsyscall(NULL);
	EXPECT_EQ(0, sud->dispatches);
}

#else /* __i386__ */

/*
 * SYSENTER and SYSCALL return to where the vDSO has its int $0x80, which is
 * in __kernel_vsyscall.
 */
static unsigned long landing_pad(void)
{
	static const char int80[] = { 0xcd, 0x80 };
	const char *vsyscall = (char *)getauxval(AT_SYSINFO);
	const char *insn = memmem(vsyscall, 32, int80, sizeof(int80));

	return (unsigned long)insn + sizeof(int80);
}

TEST(kernel_vsyscall_is_reported_at_the_landing_pad)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_arm_all());
	ASSERT_EQ(1, sud_dispatches(native_vsyscall));
	EXPECT_EQ(AUDIT_ARCH_I386, sud->info.si_arch);
	EXPECT_EQ(__NR_getppid, sud->info.si_syscall);
	EXPECT_EQ(landing_pad(), (unsigned long)sud->info.si_call_addr);
	EXPECT_EQ(landing_pad(), sud->regs[REG_EIP]);
	EXPECT_TRUE(is_in_vdso(sud->info.si_call_addr));
}

TEST(kernel_vsyscall_is_judged_at_the_landing_pad)
{
	ASSERT_EQ(0, sud_handle(NULL));
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, landing_pad(), 1, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(native_vsyscall));
	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, landing_pad(), 1, &sud->selector));
	EXPECT_EQ(0, sud_dispatches(native_vsyscall));
}

TEST(kernel_vsyscall_stepped_back_is_judged_again)
{
	ASSERT_EQ(0, sud_handle(sud_repeat));
	ASSERT_EQ(0, sud_arm_all());
	sud->selector = BLOCK;
	EXPECT_EQ(getppid(), native_vsyscall(__NR_getppid));
	EXPECT_EQ(1, sud->dispatches);
}

/*
 * The instructions themselves, foreign ones, in the calling sequence of the
 * vDSO: the landing pad goes on to the caller's next instruction.
 */
extern sud_stub foreign_sysenter, foreign_syscall32;

asm(".pushsection .text\n"
	".macro fast_call stack_reg:req, insn:req\n"
	"	call	1f\n"
	"	jmp	2f\n"
	"1:	push	%ecx\n"
	"	push	%edx\n"
	"	push	%ebp\n"
	"	mov	%\\stack_reg, %ebp\n"
	"	\\insn\n"
	"2:\n"
	".endm\n"
	"	stub_with foreign_sysenter, fast_call esp, sysenter\n"
	"	stub_with foreign_syscall32, fast_call ecx, syscall\n"
	".popsection\n");

FIXTURE(foreign_fast_syscall) {
};

FIXTURE_VARIANT(foreign_fast_syscall) {
	sud_stub *stub;
};

FIXTURE_VARIANT_ADD(foreign_fast_syscall, sysenter) {
	.stub = foreign_sysenter,
};

FIXTURE_VARIANT_ADD(foreign_fast_syscall, syscall) {
	.stub = foreign_syscall32,
};

static int call_stub(const void *stub)
{
	return ((sud_stub *)stub)(__NR_getppid) < 0;
}

/*
 * Intel's processors have no SYSCALL in 32-bit code, and the kernel does not set
 * it up for them. QEMU has it all the same, and enters the kernel at address 0.
 */
static bool has_syscall32(void)
{
	unsigned int eax, ebx, ecx = 0, edx;

	return __get_cpuid(0, &eax, &ebx, &ecx, &edx) && ecx != signature_INTEL_ecx;
}

FIXTURE_SETUP(foreign_fast_syscall)
{
	int status;

	if (variant->stub == foreign_syscall32 && !has_syscall32())
		SKIP(return, "Intel has no SYSCALL in 32-bit code");
	status = sud_run(call_stub, variant->stub);
	if (sud_killed_by(status) == SIGILL)
		SKIP(return, "not an instruction of this CPU");
	ASSERT_EQ(0, status);
	ASSERT_EQ(0, sud_handle(NULL));
}

FIXTURE_TEARDOWN(foreign_fast_syscall)
{
}

TEST_F(foreign_fast_syscall, is_judged_and_reported_at_the_landing_pad)
{
	ASSERT_EQ(0, sud_prctl(INCLUSIVE, landing_pad(), 1, &sud->selector));
	EXPECT_EQ(1, sud_dispatches(variant->stub));
	EXPECT_EQ(landing_pad(), (unsigned long)sud->info.si_call_addr);
	EXPECT_EQ(landing_pad(), sud->regs[REG_EIP]);

	ASSERT_EQ(0, sud_prctl(EXCLUSIVE, landing_pad(), 1, &sud->selector));
	EXPECT_EQ(0, sud_dispatches(variant->stub));
}

/*
 * SYSENTER finds its sixth argument on the stack. Without a stack it fails,
 * and so does the landing pad.
 */
static sigjmp_buf no_stack;

static void leave_landing_pad(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	sud->selector = ALLOW;
	memcpy(sud->regs, uc->uc_mcontext.gregs, sizeof(sud->regs));
	siglongjmp(no_stack, 1);
}

static void sysenter_without_stack(void)
{
	asm volatile("xor	%%ebp, %%ebp\n"
		     "sysenter"
		     : : "a" (__NR_getppid) : "memory");
}

static int try_sysenter(const void *arg)
{
	static char stack[65536];
	const stack_t altstack = { .ss_sp = stack, .ss_size = sizeof(stack) };

	sigaltstack(&altstack, NULL);
	sud_sigaction(SIGSEGV, leave_landing_pad, SA_ONSTACK);
	sud_prctl(INCLUSIVE, landing_pad(), 1, &sud->selector);
	if (!sigsetjmp(no_stack, 1)) {
		sud->selector = BLOCK;
		sysenter_without_stack();
	}
	return 0;
}

TEST(sysenter_with_unreadable_stack_is_efault_without_asking)
{
	int status;

	ASSERT_EQ(0, sud_handle(NULL));
	status = sud_run(try_sysenter, NULL);
	if (sud_killed_by(status) == SIGILL)
		SKIP(return, "not an instruction of this CPU");
	ASSERT_EQ(0, status);
	EXPECT_EQ(0, sud->dispatches);
	EXPECT_EQ(-EFAULT, sud->regs[REG_EAX]);
	EXPECT_EQ(landing_pad(), sud->regs[REG_EIP]);
}

#endif

TEST_HARNESS_MAIN
