/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The shared slow path, as in enter-x86-64.S: a call comes in from a stub, with its number in w17; it goes on to the real function
 * exactly as it came, or back to the caller with a result. Here eight registers hold integer arguments, and the return address is
 * in x30: it is stored where the other architecture has it, just above struct call.
 */
#define ARGS 0		/* x0 to x5 */
#define MORE 48		/* x6, x7 */
#define SSE 64
#define NUMBER 192
#define RESULT 200
#define RETURN 216	/* behind struct call; then x8, x29 */
#define SIZE 240

	.text
	.p2align 4
	.globl enforcer_enter
	.hidden enforcer_enter
	.type enforcer_enter, %function
enforcer_enter:
	.cfi_startproc
	sub sp, sp, #SIZE
	.cfi_adjust_cfa_offset SIZE
	stp x0, x1, [sp, #ARGS]
	stp x2, x3, [sp, #ARGS + 16]
	stp x4, x5, [sp, #ARGS + 32]
	stp x6, x7, [sp, #MORE]
	stp q0, q1, [sp, #SSE]
	stp q2, q3, [sp, #SSE + 32]
	stp q4, q5, [sp, #SSE + 64]
	stp q6, q7, [sp, #SSE + 96]
	mov w17, w17
	str x17, [sp, #NUMBER]
	stp x30, x8, [sp, #RETURN]
	.cfi_rel_offset x30, RETURN
	str x29, [sp, #RETURN + 16]
	.cfi_rel_offset x29, RETURN + 16
	mov x0, sp
	bl enforcer_decide
	mov x16, x0
	ldp x30, x8, [sp, #RETURN]
	ldr x29, [sp, #RETURN + 16]
	cbz x0, 1f
	ldp x0, x1, [sp, #ARGS]
	ldp x2, x3, [sp, #ARGS + 16]
	ldp x4, x5, [sp, #ARGS + 32]
	ldp x6, x7, [sp, #MORE]
	ldp q0, q1, [sp, #SSE]
	ldp q2, q3, [sp, #SSE + 32]
	ldp q4, q5, [sp, #SSE + 64]
	ldp q6, q7, [sp, #SSE + 96]
	add sp, sp, #SIZE
	.cfi_adjust_cfa_offset -SIZE
	br x16
	.cfi_adjust_cfa_offset SIZE
1:	ldr x0, [sp, #RESULT]
	add sp, sp, #SIZE
	.cfi_adjust_cfa_offset -SIZE
	ret
	.cfi_endproc
	.size enforcer_enter, . - enforcer_enter
	.section .note.GNU-stack, "", %progbits
