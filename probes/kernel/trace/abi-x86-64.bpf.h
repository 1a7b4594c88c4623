/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/* What is this machine's: registers, and the machine code that calls a function. */

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip,
		cs, flags, sp, ss;
};

#define IP(ctx) ((ctx)->ip)
#define SP(ctx) ((ctx)->sp)		/* at an entry: of the return address */
#define RESULT(ctx) ((ctx)->ax)
#define ARG(ctx, n) ((n) == 0 ? (ctx)->di : (n) == 1 ? (ctx)->si : (n) == 2 ? (ctx)->dx : (ctx)->cx)
#define TAKE_ARGS(to, ctx) do { \
	(to)[0] = (ctx)->di; \
	(to)[1] = (ctx)->si; \
	(to)[2] = (ctx)->dx; \
	(to)[3] = (ctx)->cx; \
	(to)[4] = (ctx)->r8; \
	(to)[5] = (ctx)->r9; \
} while (0)

/* At an entry: where the function will return to; a failure leaves 0. */
ALWAYS u64 return_address(struct pt_regs *ctx, u32 plan_flags)
{
	u64 address = 0;

	read_user(&address, plan_flags & PLAN_32BIT ? 4 : 8, SP(ctx));
	return address;
}

/*
 * Whether a call that was entered with that stack pointer, and returns to the kernel's page, can
 * have been left: nothing of it is on the stack any more.
 */
ALWAYS bool was_left(struct pt_regs *ctx, u64 sp, u64 page, u32 plan_flags)
{
	u64 slot = 0;

	if (read_user(&slot, plan_flags & PLAN_32BIT ? 4 : 8, sp))
		return false;
	return slot - page >= 4096;
}

/* At a return, which took the return address from the stack: SP() as it was at the entry. */
ALWAYS u64 entry_sp(struct pt_regs *ctx, u32 plan_flags)
{
	return SP(ctx) - (plan_flags & PLAN_32BIT ? 4 : 8);
}

/* Where an entry of a linkage table finds the address to jump to; 0: there is no such entry. */
ALWAYS u64 slot_of(struct pt_regs *ctx, u64 entry)
{
	u64 code = 0;

	read_user(&code, sizeof(code), entry);
	if ((u32)code == 0xfa1e0ff3 || (u32)code == 0xfb1e0ff3) {	/* endbr64, endbr32 */
		entry += 4;
		read_user(&code, sizeof(code), entry);
	}
	if ((u8)code == 0xf2) {		/* bnd */
		entry++;
		code = 0;
		read_user(&code, sizeof(code), entry);
	}
	if ((u16)code == 0x25ff)	/* jmp *distance(%rip) */
		return entry + 6 + (s32)(code >> 16);
	if ((u16)code == 0xa3ff)	/* jmp *distance(%ebx), of a 32-bit library */
		return (u32)(ctx->bx + (s32)(code >> 16));
	return 0;
}

/*
 * Whether the function was called by the library that it is in; caller: its return address;
 * cookie: plan row, offset in the text, size of the text. A return address there is not enough: a
 * callback of the program that ends in a jump to the function leaves libvirt's, but libvirt called
 * something else: the callback, or an inner function that ended in a jump to it. So the instruction
 * there must be a call of this very function, but for plumbing, which inner functions end in a jump
 * to as well.
 */
ALWAYS bool library_calls(struct pt_regs *ctx, u64 function, u64 caller, u64 cookie,
			  u32 plan_flags)
{
	u64 text = function - (u32)(cookie >> 16), size = (cookie >> 48) << 12;
	u64 slot, target;
	struct {
		u8 zero, prefix, code, mode;
		s32 distance;
	} call = {};			/* the instruction, right-aligned */

	if (caller - text >= size || read_user(&call.prefix, 7, caller - 7))
		return false;
	target = caller + call.distance;
	if (call.mode == 0xe8) {
		/* call function: a local one or its entry in the linkage table */
		if (target == function)
			return true;
		if (target - text >= size)
			return false;
		if (plan_flags & PLAN_PLUMBING)
			return true;
		slot = slot_of(ctx, target);
	} else if (call.code == 0xff && call.mode == 0x15) {
		/* call *distance(%rip): the linkage table's slot, which is near */
		if (plan_flags & PLAN_PLUMBING)
			return call.distance + (1 << 27) >= 0 && call.distance < 1 << 27;
		slot = target;
	} else {
		return false;
	}
	target = 0;
	if (!slot || read_user(&target, plan_flags & PLAN_32BIT ? 4 : 8, slot))
		return false;
	return target == function;
}
