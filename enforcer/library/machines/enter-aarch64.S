/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The shared slow path, as in enter-x86-64.S: a call comes in from a stub, with its number in w17;
 * it goes on to the real function exactly as it came, or back to the caller with a result. Here
 * eight registers hold integer arguments, and the return address is in x30: it is stored where the
 * other architecture has it, just above struct call.
 */
#include "abi-aarch64.h"

#define ARGS 0		/* x0 to x5 */
#define MORE 48		/* x6, x7 */
#define SSE 64
#define NUMBER 192
#define RESULT 200
#define RETURN 216	/* behind struct call; then x8, x29 */

	.text
	.p2align 4
	.globl enforcer_enter
	.hidden enforcer_enter
	.type enforcer_enter, %function
enforcer_enter:
	.cfi_startproc
	sub sp, sp, #SAVED
	.cfi_adjust_cfa_offset SAVED
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
	add sp, sp, #SAVED
	.cfi_adjust_cfa_offset -SAVED
	br x16
	.cfi_adjust_cfa_offset SAVED
1:	ldr x0, [sp, #RESULT]
	add sp, sp, #SAVED
	.cfi_adjust_cfa_offset -SAVED
	ret
	.cfi_endproc
	.size enforcer_enter, . - enforcer_enter

/* dlopen() and dlsym(), as in enter-x86-64.S */
#define DEEPBIND 8
	.p2align 4
	.globl dlopen
	.type dlopen, %function
dlopen:
	.cfi_startproc
	bti c
	and w1, w1, #~DEEPBIND
	adrp x16, real_dlopen
	ldr x16, [x16, #:lo12:real_dlopen]
	cbnz x16, 1f
	adr x17, 3f
	b find_in_loader
3:	adrp x16, real_dlopen
	ldr x16, [x16, #:lo12:real_dlopen]
1:	br x16
	.cfi_endproc
	.size dlopen, . - dlopen

	.p2align 4
	.globl dlsym
	.type dlsym, %function
dlsym:
	.cfi_startproc
	bti c
	cmn x0, #1
	b.eq 1f
	cbz x1, 1f
	ldrb w16, [x1]
	cmp w16, #'v'
	b.ne 1f
	ldrb w16, [x1, #1]
	cmp w16, #'i'
	b.ne 1f
	ldrb w16, [x1, #2]
	cmp w16, #'r'
	b.eq find_stub
1:	adrp x16, real_dlsym
	ldr x16, [x16, #:lo12:real_dlsym]
	cbnz x16, 2f
	adr x17, 3f
	b find_in_loader
3:	adrp x16, real_dlsym
	ldr x16, [x16, #:lo12:real_dlsym]
2:	br x16
	.cfi_endproc
	.size dlsym, . - dlsym

/* find_loader(), with the arguments kept; it goes on at x17, since x30 is the caller's */
	.p2align 4
	.type find_in_loader, %function
find_in_loader:
	.cfi_startproc
	stp x29, x30, [sp, #-48]!
	.cfi_adjust_cfa_offset 48
	.cfi_rel_offset x30, 8
	stp x0, x1, [sp, #16]
	str x17, [sp, #32]
	bl find_loader
	ldr x17, [sp, #32]
	ldp x0, x1, [sp, #16]
	ldp x29, x30, [sp], #48
	.cfi_adjust_cfa_offset -48
	.cfi_restore x30
	br x17
	.cfi_endproc
	.size find_in_loader, . - find_in_loader
	.section .note.GNU-stack, "", %progbits
