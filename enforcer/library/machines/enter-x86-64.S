/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The shared slow path: a call comes in from a stub, with its number in r11; it goes on to the real
 * function exactly as it came, or back to the caller with a result. What is on the stack stays
 * where it is.
 *
 * Saved is what can hold arguments or means something to a callee (rax: number of vector registers,
 * r10: static chain).
 */
#define ARGS 0
#define RAX 48
#define R10 56
#define SSE 64
#define NUMBER 192
#define RESULT 200
#define SIZE 216	/* struct call; keeps the stack aligned to 16 */

	.text
	.p2align 4
	.globl enforcer_enter
	.hidden enforcer_enter
	.type enforcer_enter, @function
enforcer_enter:
	.cfi_startproc
	subq $SIZE, %rsp
	.cfi_adjust_cfa_offset SIZE
	movq %rdi, ARGS(%rsp)
	movq %rsi, ARGS + 8(%rsp)
	movq %rdx, ARGS + 16(%rsp)
	movq %rcx, ARGS + 24(%rsp)
	movq %r8, ARGS + 32(%rsp)
	movq %r9, ARGS + 40(%rsp)
	movq %rax, RAX(%rsp)
	movq %r10, R10(%rsp)
	movaps %xmm0, SSE(%rsp)
	movaps %xmm1, SSE + 16(%rsp)
	movaps %xmm2, SSE + 32(%rsp)
	movaps %xmm3, SSE + 48(%rsp)
	movaps %xmm4, SSE + 64(%rsp)
	movaps %xmm5, SSE + 80(%rsp)
	movaps %xmm6, SSE + 96(%rsp)
	movaps %xmm7, SSE + 112(%rsp)
	movl %r11d, %r11d
	movq %r11, NUMBER(%rsp)
	movq %rsp, %rdi
	call enforcer_decide
	movq %rax, %r11
	testq %rax, %rax
	jz 1f
	movq ARGS(%rsp), %rdi
	movq ARGS + 8(%rsp), %rsi
	movq ARGS + 16(%rsp), %rdx
	movq ARGS + 24(%rsp), %rcx
	movq ARGS + 32(%rsp), %r8
	movq ARGS + 40(%rsp), %r9
	movq RAX(%rsp), %rax
	movq R10(%rsp), %r10
	movaps SSE(%rsp), %xmm0
	movaps SSE + 16(%rsp), %xmm1
	movaps SSE + 32(%rsp), %xmm2
	movaps SSE + 48(%rsp), %xmm3
	movaps SSE + 64(%rsp), %xmm4
	movaps SSE + 80(%rsp), %xmm5
	movaps SSE + 96(%rsp), %xmm6
	movaps SSE + 112(%rsp), %xmm7
	addq $SIZE, %rsp
	.cfi_adjust_cfa_offset -SIZE
	jmp *%r11
	.cfi_adjust_cfa_offset SIZE
1:	movq RESULT(%rsp), %rax
	addq $SIZE, %rsp
	.cfi_adjust_cfa_offset -SIZE
	ret
	.cfi_endproc
	.size enforcer_enter, . - enforcer_enter

/*
 * dlopen(path, flags): without RTLD_DEEPBIND, by which a plugin would look for libvirt's functions
 * in libvirt first. It goes on as a jump: the loader asks who has called.
 */
#define DEEPBIND 8
	.p2align 4
	.globl dlopen
	.type dlopen, @function
dlopen:
	.cfi_startproc
	endbr64
	andl $~DEEPBIND, %esi
	movq real_dlopen(%rip), %r11
	testq %r11, %r11
	jnz 1f
	call find_in_loader
	movq real_dlopen(%rip), %r11
1:	jmp *%r11
	.cfi_endproc
	.size dlopen, . - dlopen

/*
 * dlsym(handle, name): a function of libvirt is its stub; all else, and what comes next behind the
 * caller, is the loader's business.
 */
	.p2align 4
	.globl dlsym
	.type dlsym, @function
dlsym:
	.cfi_startproc
	endbr64
	cmpq $-1, %rdi
	je 1f
	testq %rsi, %rsi
	jz 1f
	cmpb $'v', (%rsi)
	jne 1f
	cmpb $'i', 1(%rsi)
	jne 1f
	cmpb $'r', 2(%rsi)
	je find_stub
1:	movq real_dlsym(%rip), %r11
	testq %r11, %r11
	jnz 2f
	call find_in_loader
	movq real_dlsym(%rip), %r11
2:	jmp *%r11
	.cfi_endproc
	.size dlsym, . - dlsym

/* find_loader(), with the arguments kept */
	.p2align 4
	.type find_in_loader, @function
find_in_loader:
	.cfi_startproc
	pushq %rdi
	.cfi_adjust_cfa_offset 8
	pushq %rsi
	.cfi_adjust_cfa_offset 8
	call find_loader
	popq %rsi
	.cfi_adjust_cfa_offset -8
	popq %rdi
	.cfi_adjust_cfa_offset -8
	ret
	.cfi_endproc
	.size find_in_loader, . - find_in_loader
	.section .note.GNU-stack, "", @progbits
