/* SPDX-License-Identifier: GPL-2.0 */

#include <linux/errno.h>
#include <asm/asm.h>
#include <asm/smap.h>

/*
 * Read the byte at {address} into rax, which a fault sets to -EFAULT. The fault
 * resumes at CLAC, so that user memory is closed again on both ways out.
 */

// Cut here.

::kernel::concat_literals!(
	ASM_STAC "\n"
	"1: movzbl ({address}), %eax\n"
	"2: " ASM_CLAC "\n"
	_ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_EFAULT_REG | EX_DATA_REG(0))
)
