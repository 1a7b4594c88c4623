/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is x86-64's in the library's C; the rest is in enter-x86-64.S and the stubs. */

/* The stack pointer when the function was called: the return address is there. */
static inline uint64_t entry_sp(struct call *call)
{
	return (uint64_t)return_slot(call);
}

/* An argument beyond the sixth: on the stack, behind the return address. */
static inline uint64_t further_argument(struct call *call, unsigned i)
{
	return return_slot(call)[i - 5];
}

/* The slot that a call which returns to `back` read its function's address from; 0: none. */
static inline uint64_t called_slot(uint64_t back)
{
	const uint8_t *code = (const uint8_t *)back;
	int32_t distance;

	if (code[-6] != 0xff || code[-5] != 0x15)	/* call *slot(%rip) */
		return 0;
	memcpy(&distance, code - 4, 4);
	return back + distance;
}

/* The code that such a call goes to, if that is in the instruction; 0. */
static inline uint64_t called_code(uint64_t back)
{
	int32_t distance;

	if (((const uint8_t *)back)[-5] != 0xe8)	/* call table entry */
		return 0;
	memcpy(&distance, (const uint8_t *)back - 4, 4);
	return back + distance;
}

/* The slot that the entry of a linkage table leads through; 0: it is none. */
static inline uint64_t slot_of_entry(uint64_t entry)
{
	const uint8_t *code = (const uint8_t *)entry;
	int32_t distance;

	if (!memcmp(code, "\xf3\x0f\x1e\xfa", 4))	/* endbr64 */
		code += 4;
	code += *code == 0xf2;				/* bnd */
	if (code[0] != 0xff || code[1] != 0x25)		/* jmp *slot(%rip) */
		return 0;
	memcpy(&distance, code + 2, 4);
	return (uint64_t)code + 6 + distance;
}
