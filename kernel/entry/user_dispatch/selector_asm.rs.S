/* SPDX-License-Identifier: GPL-2.0 */

#include <linux/syscall_user_dispatch.h>

// Cut here.

::kernel::concat_literals!(ARCH_READ_SELECTOR_ASM("{address}", "{limit}"))
