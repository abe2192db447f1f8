// SPDX-License-Identifier: GPL-2.0

//! Functions of a kernel, moved into this process, where the processor itself can run them.
//!
//! The instructions stay what they are. What they refer to is moved with them: variables to slots,
//! what is per processor to slots as well, and calls outwards to stubs. What the kernel patches at
//! boot is patched.

use crate::{
    image::Image,
    outward::{Outward, OUTWARD},
};
use anyhow::{bail, ensure, Context as _, Result};
use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Code, Decoder, DecoderOptions, Instruction,
    InstructionBlock, OpKind, Register,
};
use nix::sys::mman::{mmap_anonymous, MapFlags, ProtFlags};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
};

const SIZE: usize = 1 << 20;
/// Where the parts are.
const STUBS: usize = 256 << 10;
const SLOTS: usize = 512 << 10;
/// How long a slot is: longer than what is read of any variable.
const SLOT: usize = 512;

/// The value of `USER_PTR_MAX` with four levels of page tables.
pub const LIMIT: u64 = 0x7fff_ffff_f000;

/// How the kernel has patched itself.
#[derive(Clone, Copy)]
pub struct Patched {
    /// Whether all keys are on.
    pub keys: bool,
    /// Whether the processor has all features.
    pub features: bool,
}

/// Where a load may fault: it goes on elsewhere, with a register set.
#[derive(Clone, Copy)]
pub struct Resume {
    pub at: u64,
    pub to: u64,
    pub set: Option<(usize, i16)>,
}

pub struct Transplant {
    base: usize,
    next_slot: usize,
    slots: HashMap<String, u64>,
    moved: BTreeMap<u64, u64>,
    pub faults: Vec<Resume>,
}

impl Transplant {
    /// Moves the functions that some instructions are in. `called` is what stubs call, with the
    /// number of an outward function and its arguments.
    pub fn new(
        image: &Image,
        instructions: &BTreeSet<u64>,
        patched: Patched,
        called: extern "sysv64" fn(u64, *const u64) -> u64,
    ) -> Result<Self> {
        // Below 2 GiB, as an address of the kernel image is in the code.
        // SAFETY: Anonymous, at an address that is free.
        let base = unsafe {
            mmap_anonymous(
                None,
                NonZeroUsize::new(SIZE).context("no size")?,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_32BIT,
            )
        }?;
        let mut it = Self {
            base: base.as_ptr() as usize,
            next_slot: 0,
            slots: HashMap::new(),
            moved: BTreeMap::new(),
            faults: Vec::new(),
        };
        let stubs = it.put_stubs(image, called);
        let mut functions = BTreeSet::new();
        for &at in instructions {
            let symbol = image.symbol_at(at).context("code without a name")?;
            functions.insert((symbol.start, symbol.size));
        }
        let mut code = Vec::new();
        for (start, size) in functions {
            let bytes = image.bytes(start, size as usize)?;
            for instruction in Decoder::with_ip(64, bytes, start, DecoderOptions::NONE).iter() {
                code.push(it.moved_instruction(image, instruction, patched, &stubs)?);
            }
        }
        let block = InstructionBlock::new(&code, it.base as u64);
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let result = BlockEncoder::encode(64, block, options).map_err(anyhow::Error::msg)?;
        ensure!(result.code_buffer.len() < STUBS, "too much code");
        it.write(0, &result.code_buffer);
        for (instruction, &offset) in code.iter().zip(&result.new_instruction_offsets) {
            it.moved
                .insert(instruction.ip(), result.rip + u64::from(offset));
        }
        for (&at, fault) in &image.faults {
            if let (Some(&at), Some(&to)) = (it.moved.get(&at), it.moved.get(&fault.resume)) {
                let set = fault.set;
                it.faults.push(Resume { at, to, set });
            }
        }
        Ok(it)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= SIZE);
        // SAFETY: It is in the mapping, which is only ours.
        unsafe {
            (self.base as *mut u8)
                .add(at)
                .copy_from(bytes.as_ptr(), bytes.len())
        };
    }

    /// A stub for each outward function: its number and arguments go to `called`.
    fn put_stubs(
        &mut self,
        image: &Image,
        called: extern "sysv64" fn(u64, *const u64) -> u64,
    ) -> HashMap<u64, u64> {
        let mut stubs = HashMap::new();
        for (number, outward) in OUTWARD.iter().enumerate() {
            let Ok((address, _)) = image.symbol(outward.name) else {
                continue;
            };
            // The arguments in registers, below the return address and those on the stack.
            let mut code = vec![0x55, 0x48, 0x89, 0xe5]; // push %rbp; mov %rsp, %rbp
            code.extend([0x41, 0x51, 0x41, 0x50, 0x51, 0x52, 0x56, 0x57]); // push %r9 to %rdi
            code.extend([0x48, 0x89, 0xe6, 0x48, 0x83, 0xe4, 0xf0]); // mov %rsp, %rsi; align
            code.extend([0xbf, number as u8, 0, 0, 0, 0x48, 0xb8]); // mov $, %edi; mov $, %rax
            code.extend((called as usize).to_le_bytes());
            code.extend([0xff, 0xd0, 0xc9, 0xc3]); // call *%rax; leave; ret
            let at = STUBS + number * 64;
            self.write(at, &code);
            stubs.insert(address, (self.base + at) as u64);
        }
        stubs
    }

    /// The memory of a variable, by the name of its region.
    pub fn slot(&mut self, name: &str) -> u64 {
        if let Some(&slot) = self.slots.get(name) {
            return slot;
        }
        let slot = self.base + SLOTS + self.next_slot * SLOT;
        self.next_slot += 1;
        assert!(slot + SLOT <= self.base + SIZE, "no slot is left");
        self.slots.insert(name.to_owned(), slot as u64);
        slot as u64
    }

    /// Where an instruction is now.
    pub fn moved(&self, at: u64) -> Option<u64> {
        self.moved.get(&at).copied()
    }

    fn moved_instruction(
        &mut self,
        image: &Image,
        mut it: Instruction,
        patched: Patched,
        stubs: &HashMap<u64, u64>,
    ) -> Result<Instruction> {
        let at = it.ip();
        let nop = || {
            let mut nop = Instruction::with(Code::Nopd);
            nop.set_ip(at);
            nop
        };
        if let Some(branch) = image.branches.get(&at) {
            if patched.keys == branch.inverted {
                return Ok(nop());
            }
            let mut jump = Instruction::with_branch(Code::Jmp_rel32_64, branch.target)?;
            jump.set_ip(at);
            return Ok(jump);
        }
        if let Some([alternative]) = image.alternatives.get(&at).map(Vec::as_slice) {
            if it.code() == Code::Mov_r64_imm64 && patched.features {
                let other = crate::explore::decode(&alternative.replacement, at)?;
                it.set_immediate64(other.immediate64());
            }
            return Ok(it);
        }
        if it.len() == 10 && image.runtime.contains_key(&(it.next_ip() - 8)) {
            it.set_immediate64(LIMIT);
            return Ok(it);
        }
        if it.op0_kind() == OpKind::NearBranch64 {
            let target = it.near_branch_target();
            let name = image.symbol_at(target).map_or("", |it| &it.name);
            if name.ends_with("__x86_return_thunk") {
                ensure!(it.code() == Code::Jmp_rel32_64, "no way to return");
                let mut ret = Instruction::with(Code::Retnq);
                ret.set_ip(at);
                return Ok(ret);
            }
            if let Some(&stub) = stubs.get(&target) {
                it.set_near_branch64(stub);
            }
            return Ok(it);
        }
        let gs = it.segment_prefix() == Register::GS;
        if gs {
            it.set_segment_prefix(Register::None);
        }
        // A variable, by its address (as clang has it) or by the distance to it (as gcc has it).
        let by_itself = it.op_kinds().any(|kind| kind == OpKind::Memory)
            && it.memory_base() == Register::None
            && it.memory_index() == Register::None;
        if it.is_ip_rel_memory_operand() || by_itself {
            let target = it.memory_displacement64();
            let symbol = image
                .symbol_at(target)
                .context("an address without a name")?;
            let prefix = if gs { "percpu " } else { "" };
            let slot = self.slot(&format!("{prefix}{}", symbol.name));
            it.set_memory_displacement64(slot + target - symbol.start);
        }
        for n in 0..it.op_count() {
            if it.op_kind(n) == OpKind::Immediate32to64 {
                let value = it.immediate(n);
                let known = image.symbol_at(value).filter(|it| it.size > 0);
                if let Some(symbol) = known {
                    let slot = self.slot(&symbol.name) + value - symbol.start;
                    it.set_immediate_i32(n, i32::try_from(slot)?);
                }
            }
        }
        Ok(it)
    }
}

/// An outward function, by the number that its stub has.
pub fn outward(number: u64) -> Result<&'static Outward> {
    match OUTWARD.get(number as usize) {
        Some(outward) => Ok(outward),
        None => bail!("no stub has the number {number}"),
    }
}
