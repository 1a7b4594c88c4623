/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is aarch64's in the library's C; the rest is in enter-aarch64.S and the stubs. */

/* Bytes that enter-aarch64.S puts on the stack: struct call, and behind it x30, x8 and x29. */
#define SAVED 240

#ifndef __ASSEMBLER__

/* The stack pointer when the function was called: behind what enter-aarch64.S has put there. */
static inline uint64_t entry_sp(struct call *call)
{
	return (uint64_t)call + SAVED;
}

/* An argument beyond the sixth: two more are in registers, the others on the stack. */
static inline uint64_t further_argument(struct call *call, unsigned i)
{
	if (i < 8)
		return call->more[i - 6];
	return ((uint64_t *)entry_sp(call))[i - 8];
}

/* The slot that a call which returns to `back` read its function's address from: none is read. */
static inline uint64_t called_slot(uint64_t back)
{
	(void)back;
	return 0;
}

/* The code that such a call goes to, if that is in the instruction; 0. */
static inline uint64_t called_code(uint64_t back)
{
	uint32_t branch;

	memcpy(&branch, (const void *)(back - 4), 4);
	if (branch >> 26 != 0x25)			/* bl table entry */
		return 0;
	return back - 4 + (int64_t)(int32_t)(branch << 6) / 16;
}

/* The slot that the entry of a linkage table leads through; 0: it is none. */
static inline uint64_t slot_of_entry(uint64_t entry)
{
	const uint32_t *code = (const uint32_t *)entry;
	uint32_t adrp, load;
	int64_t page;

	code += *code == 0xd503245f;			/* bti c */
	adrp = code[0];
	load = code[1];
	/* adrp x16; ldr x17, [x16, #] */
	if ((adrp & 0x9f00001f) != 0x90000010 || (load & 0xffc003ff) != 0xf9400211)
		return 0;
	page = (int64_t)(int32_t)((adrp >> 5 & 0x7ffff) << 13) >> 13;
	page = page * 4 + (adrp >> 29 & 3);
	return ((uint64_t)code & -4096ULL) + page * 4096 + (load >> 10 & 0xfff) * 8;
}

#endif
