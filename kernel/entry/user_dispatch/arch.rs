// SPDX-License-Identifier: GPL-2.0

//! The architecture: what a syscall entry left in the registers, and how user memory is read.
//!
//! The functions are those of `arch/*/include/asm/syscall_user_dispatch.rs`, which stands beside
//! the header that has the same for C. What an architecture owes is said at
//! `ARCH_SUPPORTS_SYSCALL_USER_DISPATCH` in `arch/Kconfig`.

use kernel::{
    bindings,
    prelude::*, //
};

include!(concat!(
    "../../../arch/",
    env!("SRCARCH"),
    "/include/asm/syscall_user_dispatch.rs"
));
