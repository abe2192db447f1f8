// SPDX-License-Identifier: GPL-2.0

#include <asm/syscall.h>

__rust_helper int rust_helper_syscall_get_arch(struct task_struct *task)
{
	return syscall_get_arch(task);
}
