/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/* What is this machine's: registers, and the machine code that calls a function. */

struct pt_regs {
	u64 regs[31], sp, pc, pstate;
};

#define IP(ctx) ((ctx)->pc)
#define SP(ctx) ((ctx)->sp)
#define RESULT(ctx) ((ctx)->regs[0])
#define ARG(ctx, n) ((ctx)->regs[n])
#define TAKE_ARGS(to, ctx) do { \
	(to)[0] = (ctx)->regs[0]; \
	(to)[1] = (ctx)->regs[1]; \
	(to)[2] = (ctx)->regs[2]; \
	(to)[3] = (ctx)->regs[3]; \
	(to)[4] = (ctx)->regs[4]; \
	(to)[5] = (ctx)->regs[5]; \
	(to)[6] = (ctx)->regs[6]; \
	(to)[7] = (ctx)->regs[7]; \
} while (0)

/* At an entry: where the function will return to. */
ALWAYS u64 return_address(struct pt_regs *ctx, u32 plan_flags)
{
	return ctx->regs[30];
}

/*
 * Whether a call that was entered with that stack pointer can have been left. Where its return
 * address is nobody knows: it came in a register. With the stack pointer above, it was left, or the
 * thread is on another stack now.
 */
ALWAYS bool was_left(struct pt_regs *ctx, u64 sp, u64 page, u32 plan_flags)
{
	return SP(ctx) > sp;
}

/* At a return: the stack pointer as it was at the entry. */
ALWAYS u64 entry_sp(struct pt_regs *ctx, u32 plan_flags)
{
	return SP(ctx);
}

/* Where an entry of a linkage table finds the address to jump to; 0: there is no such entry. */
ALWAYS u64 slot_of(u64 entry)
{
	u32 code[3] = {};
	u32 page, load;
	s64 pages;

	if (read_user(code, sizeof(code), entry))
		return 0;
	page = code[0];
	load = code[1];
	if (page == 0xd503245f) {	/* bti c */
		entry += 4;
		page = code[1];
		load = code[2];
	}
	/* adrp x16, page; ldr x17, [x16, distance] */
	if ((page & 0x9f00001f) != 0x90000010 || (load & 0xffc003ff) != 0xf9400211)
		return 0;
	pages = (page >> 5 & 0x7ffff) << 2 | (page >> 29 & 3);
	pages -= pages >> 20 << 21;
	return (entry & ~0xfffULL) + (pages << 12) + ((load >> 10 & 0xfff) << 3);
}

/*
 * Whether the function was called by the library that it is in; caller: its return address;
 * cookie: plan row, offset in the text, size of the text. As on x86-64 the instruction before the
 * return address must be a call of this very function, but for plumbing.
 */
ALWAYS bool library_calls(struct pt_regs *ctx, u64 function, u64 caller, u64 cookie,
			  u32 plan_flags)
{
	u64 text = function - (u32)(cookie >> 16), size = (cookie >> 48) << 12;
	u64 slot, target = 0;
	u32 call = 0;
	s64 distance;

	if (caller - text >= size || read_user(&call, sizeof(call), caller - 4) ||
	    call >> 26 != 0x25)		/* bl */
		return false;
	distance = call & 0x3ffffff;
	distance -= distance >> 25 << 26;
	target = caller - 4 + (distance << 2);
	if (target == function)
		return true;
	if (target - text >= size)
		return false;
	if (plan_flags & PLAN_PLUMBING)
		return true;
	slot = slot_of(target);
	if (!slot || read_user(&target, sizeof(target), slot))
		return false;
	return target == function;
}
