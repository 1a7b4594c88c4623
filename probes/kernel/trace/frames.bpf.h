/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/* Calls under way in a thread: which one a return belongs to, and which may have a return probe. */

/* Whether the address is in the text of the library that the function is in. */
ALWAYS bool is_in_text(struct pt_regs *ctx, u64 cookie, u64 address)
{
	return address - (IP(ctx) - (u32)(cookie >> 16)) < (cookie >> 48) << 12;
}

/* At a function's entry: whether the library that it is in has called it. */
ALWAYS bool called_by_library(struct pt_regs *ctx, u64 cookie, u32 plan_flags)
{
	return library_calls(ctx, IP(ctx), return_address(ctx, plan_flags), cookie, plan_flags);
}

/* Where a call inside n others is kept; no branch, as the verifier would follow both ways. */
ALWAYS struct frame *place_of(struct frames *fs, u64 n)
{
	u64 kept = !!(n & MAX_FRAMES) - 1ULL, i = (n & (MAX_FRAMES - 1)) + 1;

	HIDE(kept);
	return &fs->deep + (i & kept);
}

/* The kernel's page, to which functions with a return probe return; 0: there is none. */
ALWAYS u64 return_page(void)
{
	void *task = (void *)bpf_get_current_task(), *mm = 0, *area = 0;
	u64 page = 0;

	if (read_kernel(&mm, sizeof(mm), task + TASK_MM) ||
	    read_kernel(&area, sizeof(area), mm + MM_XOL_AREA) || !area ||
	    read_kernel(&page, sizeof(page), area + XOL_VADDR))
		return 0;
	return page;
}

/* Whether the function that is entered was jumped to by one with a return probe. */
ALWAYS bool is_tail_call(struct pt_regs *ctx, u32 plan_flags)
{
	u64 page = return_page();

	return page && return_address(ctx, plan_flags) - page < 4096;
}

#ifndef PAIR
/*
 * Whether a return address that is gone from the stack is gone for good. It is, unless the program
 * copies stacks to and fro, as greenlets do: the reader has seen that none of what is mapped would
 * do so, when the process had as much code as now.
 */
ALWAYS bool copies_no_stacks(void *task)
{
	u32 tgid = *(u32 *)(task + TASK_TGID);
	struct plain *known = map_lookup(MAP(FD_PLAIN), &tgid);
	void *mm = 0, *leader = 0;
	u64 code = 0, start = 0;

	if (!known || read_kernel(&mm, sizeof(mm), task + TASK_MM) ||
	    read_kernel(&code, sizeof(code), mm + MM_EXEC_VM) ||
	    read_kernel(&leader, sizeof(leader), task + TASK_GROUP_LEADER) ||
	    read_kernel(&start, sizeof(start), leader + TASK_START_BOOTTIME))
		return false;
	return known->code == code && known->start == start / TICK_NS;
}
#endif

#ifdef SESSION
/*
 * Frames are those of return probes that the kernel has, and of the enforcer. Where the kernel has
 * none, the call was not armed for lack of memory.
 */
ALWAYS void drop_dead_frames(struct thread *t, struct frames *fs, u64 sp, bool armed)
{
	u32 n = t->frames;
	struct frame *f = &fs->at[(n - 1) & (MAX_FRAMES - 1)];

	if (n && f->row == ROW_LOOKING && f->sp <= sp)
		t->frames = n - 1;
	else if (n && f->row != ROW_LOOKING && !armed)
		t->frames = 0;
	FORGET();
}

/*
 * Of the last return probe that is armed in the thread, and not left for good: where its return
 * address is; 0: there is none. The kernel keeps those that were left until it arms one at their
 * place on the stack or above; where it can't be told whether one was, it is not.
 */
ALWAYS u64 armed_at(struct pt_regs *ctx, struct thread *t, struct frames *fs, void *task,
		    u32 plan_flags)
{
	void *state = *(void **)(task + TASK_UTASK), *last;
	u64 at = 0, page;
	bool plain;
	u32 i;

	t->left = 0;
	if (!state)
		return 0;
	last = *(void **)(state + UTASK_RETURNS);
	if (!last)
		return 0;
	page = return_page();
	plain = copies_no_stacks(task);
	for (i = 0; i < MOST_LEFT; i++) {
		u32 n = t->frames;
		struct frame *f = &fs->at[(n - 1) & (MAX_FRAMES - 1)];

		at = *(u64 *)(last + RETURN_STACK);
		if (!page || !was_left(ctx, at, page, plan_flags))
			return at;
		if (!plain) {
			t->left = 1;
			return at;
		}
		if (n && f->row != ROW_LOOKING && f->sp == at)
			t->frames = n - 1;
		FORGET();
		last = *(void **)(last + RETURN_NEXT);
		if (!last)
			return 0;
	}
	return at;
}

/*
 * Whether the call at sp may have a return probe, inside the one of frame f (NULL: none), while the
 * last one is armed at `armed`.
 */
ALWAYS bool may_arm(const struct settings *set, const struct thread *t, struct frame *f, u64 sp,
		    u64 armed, u32 plan_flags, u32 depth)
{
	if (!armed)
		return true;
	if (!f || f->row == ROW_LOOKING || f->sp != armed)
		return false;
	if (f->sp == sp)
		return true;		/* jumped to: they return as one */
	if (f->sp - sp >= NEAR)
		return false;
	if (plan_flags & PLAN_PRIVATE)
		return true;		/* returns before anything else runs */
	if (f->flags & FRAME_SERVES || t->serving)
		return true;		/* a daemon's threads have one stack each */
	return set->nested && depth && !(f->flags & FRAME_CROSSED);
}

/* The call that the one that is entered is inside of, as far as can be seen; NULL: none. */
ALWAYS struct frame *enclosing(struct pt_regs *ctx, struct thread *t, struct frames *fs,
			       u32 plan_flags)
{
	u64 sp = SP(ctx);
	u32 n = t->frames;
	struct frame *f = &fs->at[(n - 1) & (MAX_FRAMES - 1)];

	if (!n || f->sp < sp || (f->sp == sp && !is_tail_call(ctx, plan_flags)))
		return 0;		/* on another stack, or dead */
	return f;
}

/*
 * Takes away the frame of the call that returns, and what is above it; NULL: it is none that was
 * seen to begin.
 */
ALWAYS struct frame *pop_frame(struct thread *t, struct frames *fs, u64 sp, u32 row)
{
	u32 i, n = t->frames;

	for (i = 0; i < MAX_FRAMES; i++) {
		struct frame *f = &fs->at[--n & (MAX_FRAMES - 1)];

		if (n >= MAX_FRAMES)
			break;
		if (f->sp == sp && f->row == row) {
			t->frames = n;
			return f;
		}
	}
	return 0;
}
#elif defined(RETS)
/*
 * Frames are those of calls whose functions have a probe on each instruction by which they return,
 * and of the enforcer. Several stacks may have some. Who is at the place of one on its stack, or
 * above it, has left it for good; or it copies stacks: then another call may return there as well,
 * and none of the thread can be told any more.
 */
ALWAYS void drop_dead_frames(struct thread *t, struct frames *fs, void *task, u64 sp)
{
	bool plain = false;
	u32 i;

	if (t->left) {
		if (!copies_no_stacks(task))
			return;
		plain = true;
		t->left = 0;
	}
	if (t->frames >= MAX_FRAMES)
		t->frames = 0;		/* on stacks that are no more */
	for (i = 0; i < MAX_FRAMES; i++) {
		u32 n = t->frames;
		struct frame *f = &fs->at[(n - 1) & (MAX_FRAMES - 1)];

		if (!n)
			break;
		if (!(f->flags & FRAME_ENDED) && (f->row != ROW_LOOKING || f->sp > sp)) {
			if (sp - f->sp >= NEAR)
				break;
			if (!(f->flags & FRAME_PRIVATE) && !plain && !copies_no_stacks(task)) {
				t->left = 1;
				t->frames = 0;
				break;
			}
			plain = plain || !(f->flags & FRAME_PRIVATE);
		}
		t->frames = n - 1;
		FORGET();
	}
	FORGET();
}

/* The call that the one that is entered is inside of; NULL: none. */
ALWAYS struct frame *enclosing(struct pt_regs *ctx, struct thread *t, struct frames *fs,
			       u32 plan_flags)
{
	u64 sp = SP(ctx);
	u32 i, n = t->frames;

	for (i = 0; i < MOST_LEFT; i++) {
		struct frame *f = &fs->at[(n - 1) & (MAX_FRAMES - 1)];

		if (!n)
			break;
		if (!(f->flags & FRAME_ENDED) && f->sp - sp < NEAR)
			return f;
		n--;
	}
	return 0;
}

/* Ends the frame of the call that returns, and drops those inside of it; NULL: it is none that was
 * seen to begin. */
ALWAYS struct frame *pop_frame(struct thread *t, struct frames *fs, u64 sp, u32 row)
{
	u32 i, n = t->frames, top = n;
	u64 last = fs->at[(top - 1) & (MAX_FRAMES - 1)].sp;

	for (i = 0; i < MAX_FRAMES; i++) {
		struct frame *f = &fs->at[--n & (MAX_FRAMES - 1)];

		if (n >= MAX_FRAMES)
			break;
		if (f->sp == sp && f->row == row && !(f->flags & FRAME_ENDED)) {
			if (n + 1 == top || sp - last < NEAR)
				t->frames = n;
			else		/* those above are on another stack */
				f->flags |= FRAME_ENDED;
			return f;
		}
	}
	return 0;
}
#else
ALWAYS struct frame *enclosing(struct pt_regs *ctx, struct thread *t, struct frames *fs,
			       u32 plan_flags)
{
	return t->frames ? &fs->at[(t->frames - 1) & (MAX_FRAMES - 1)] : 0;
}

/*
 * Drops the frames of calls that will not return: the stack is above them, or another call uses
 * their place on it.
 */
ALWAYS void drop_dead_frames(struct pt_regs *ctx, struct thread *t, struct frames *fs,
			     u32 plan_flags)
{
	u64 sp = SP(ctx);
	u32 i;

	for (i = 0; i < MAX_FRAMES; i++) {
		u32 n = t->frames;
		struct frame *f = &fs->at[(n - 1) & (MAX_FRAMES - 1)];

		if (!n || f->sp > sp)
			break;
		if (f->sp == sp && f->row != ROW_LOOKING) {
			if (is_tail_call(ctx, plan_flags))
				break;
		}
		t->frames = n - 1;
		FORGET();
	}
	FORGET();
}

/*
 * Pops the frame of the call that returns, and those of inner calls that did not; NULL: it is none
 * that was seen to begin.
 */
ALWAYS struct frame *pop_frame(struct thread *t, struct frames *fs, u64 sp, u32 row)
{
	u32 i, found = 0;

	for (i = 0; i < MAX_FRAMES; i++) {
		u32 n = t->frames - 1;
		struct frame *f = &fs->at[n & (MAX_FRAMES - 1)];

		if (n >= MAX_FRAMES || f->sp > sp)
			break;
		t->frames = n;
		FORGET();
		if (f->sp == sp && f->row == row) {
			found = 1;
			break;
		}
	}
	FORGET();
	return found ? &fs->at[t->frames & (MAX_FRAMES - 1)] : 0;
}
#endif
