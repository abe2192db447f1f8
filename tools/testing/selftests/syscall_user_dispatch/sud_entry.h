/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ways into the kernel as a fixture of the Syscall User Dispatch tests, each
 * with a stub and the number of getppid() there
 */
#ifndef __SUD_ENTRY_H
#define __SUD_ENTRY_H

#include "sud.h"

FIXTURE(entry) {
	unsigned long ip;	/* where the stub reports its syscalls */
};

FIXTURE_VARIANT(entry) {
	sud_stub *stub;
	unsigned long getppid_nr;
};

FIXTURE_VARIANT_ADD(entry, int80) {
	.stub = foreign_int80,
	.getppid_nr = IA32_NR_getppid,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(entry, syscall) {
	.stub = foreign_syscall,
	.getppid_nr = __NR_getppid,
};
#else
FIXTURE_VARIANT_ADD(entry, vdso) {
	.stub = native_vsyscall,
	.getppid_nr = __NR_getppid,
};
#endif

/* Where that is, or 0. */
static inline unsigned long sud_entry_ip(sud_stub *stub, unsigned long getppid_nr)
{
	if (sud_handle(NULL) || sud_arm_all() || sud_dispatches_nr(stub, getppid_nr) != 1 ||
	    sud_prctl(OFF, 0, 0, NULL))
		return 0;
	return (unsigned long)sud->info.si_call_addr;
}

#endif /* __SUD_ENTRY_H */
