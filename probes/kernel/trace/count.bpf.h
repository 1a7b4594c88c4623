/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/*
 * Calls that only read are counted here, where nobody wants to know more of them than how many
 * there were and how long they took: by function, how long, and whether they failed. A call that
 * the reader has to know of all the same, as something of note happens inside of it, goes the usual
 * way from then on.
 */

#ifdef COUNTING
/* What is counted of the function; there are STRIPES of it, so that few processors share one. */
ALWAYS struct counts *counts_of(u32 place)
{
	u32 i = place * STRIPES + (bpf_get_smp_processor_id() & (STRIPES - 1));

	return map_lookup(MAP(FD_COUNTS), &i);
}

ALWAYS u64 bit_length(s64 x)
{
	u64 n = 0, step, bits;

#pragma unroll
	for (bits = 32; bits; bits >>= 1) {
		step = bits & if_negative((1LL << bits) - 1 - x);
		x >>= step;
		n += step;
	}
	return n + x;
}

/* Where the thread's call is noted while it is under way; two threads may want the same place. */
ALWAYS struct begun *begun_at(const struct thread *t)
{
	u32 i = t->tid & (MAX_BEGUN - 1);

	return map_lookup(MAP(FD_BEGUN), &i);
}

/* Notes that a call has begun; false: there is no room, and it goes the usual way. */
ALWAYS bool note_begun(const struct thread *t, u32 place, u64 now)
{
	struct begun *b = begun_at(t);
	struct counts *c;

	if (!b)
		return false;
	if (b->tid == t->tid) {		/* one that it has left for good */
		c = counts_of(b->place);
		if (c)
			__sync_fetch_and_add(&c->left, 1);
	} else if (b->tid || __sync_val_compare_and_swap(&b->tid, 0, t->tid)) {
		return false;
	}
	b->place = place;
	b->time = now;
	return true;
}

ALWAYS void note_ended(const struct thread *t)
{
	struct begun *b = begun_at(t);

	if (b && b->tid == t->tid)
		b->tid = 0;
}

/*
 * Whether the call that is entered will be counted. It is inside of no other, and has a return
 * probe. Where the kernel has its return address at the end, it is looked at only then who has
 * called: to read it takes a tenth of the time.
 */
ALWAYS bool begin_counted(struct pt_regs *ctx, const struct settings *set, struct thread *t,
			  struct frames *fs, const struct plan *p, void *task, u64 cookie, u64 now)
{
	struct frame *f = &fs->at[0];

	if (!p->counts || !t->wanted || t->serving || t->frames || t->unarmed_sp ||
	    t->verdict_lost || t->judged_sp == SP(ctx))
		return false;
#ifdef SESSION
	if (set->spare && is_confined(task))
		return false;
#else
	if (t->left || called_by_library(ctx, cookie, p->flags))
		return false;
#endif
	if (!note_begun(t, p->counts - 1, now))
		return false;
	f->sp = SP(ctx);
	f->time = now;
	f->row = cookie & 0xffff;
	f->seq = ++t->seq;
	f->depth = f->ring = f->record_flags = 0;
	f->flags = FRAME_WANTED | FRAME_INSIDE;
	f->returns = f->counted = 1;
	f->args[0] = IP(ctx);
	f->args[1] = cookie;
	t->frames = 1;
	t->jump_sp = 0;
	return true;
}

/* Whether libvirt itself has made the call, which is not wanted then; it returns to `caller`. */
ALWAYS bool is_librarys(struct pt_regs *ctx, const struct plan *p, const struct frame *f,
			u64 caller)
{
#ifdef SESSION
	return library_calls(ctx, f->args[0], caller, f->args[1], p->flags);
#else
	return false;
#endif
}

/* The call of this frame has returned. */
ALWAYS void count_call(struct pt_regs *ctx, const struct thread *t, const struct plan *p,
		       const struct frame *f)
{
	struct counts *c = counts_of(p->counts - 1);
	u64 took = bpf_ktime_get_ns() - f->time, value = RESULT(ctx), shift, bucket, old, seen;
	u32 i;

	note_ended(t);
	if (!c || is_librarys(ctx, p, f, IP(ctx)))
		return;
	shift = bit_length(took >> COUNT_STEPS >> 1);
	bucket = (shift << COUNT_STEPS) + (took >> (shift & 63));
	HIDE(bucket);
	if (bucket >= COUNT_BUCKETS)
		bucket = COUNT_BUCKETS - 1;
	__sync_fetch_and_add(&c->calls[bucket], 1);
	__sync_fetch_and_add(&c->total, took);
	if (p->fails == FAILS_ZERO ? !value : p->fails == FAILS_MINUS_ONE ? (s32)value == -1 :
	    p->fails == FAILS_NEGATIVE && (s32)value < 0)
		__sync_fetch_and_add(&c->failed, 1);
	old = c->max;
	for (i = 0; i < 8 && took > old; i++) {
		seen = __sync_val_compare_and_swap(&c->max, old, took);
		if (seen == old)
			break;
		old = seen;
	}
}

/* Where the call that is under way will return to; 0: that is not known. */
ALWAYS u64 return_of(const struct frame *f, void *task)
{
#ifdef SESSION
	void *state = *(void **)(task + TASK_UTASK), *last;
	u32 i;

	if (!state)
		return 0;
	last = *(void **)(state + UTASK_RETURNS);
	for (i = 0; i < MOST_LEFT && last; i++) {
		if (*(u64 *)(last + RETURN_STACK) == f->sp)
			return *(u64 *)(last + RETURN_ADDRESS);
		last = *(void **)(last + RETURN_NEXT);
	}
#endif
	return 0;
}

/*
 * The reader has to know of the call after all: its begin is told now, without arguments, and its
 * end will be.
 */
ALWAYS void tell_counted(struct pt_regs *ctx, struct settings *set, struct thread *t,
			 struct frame *f, void *task)
{
	struct entry *e = (void *)t->buf;
	u32 row = f->row;
	struct plan *p = map_lookup(MAP(FD_ENTRY_PLANS), &row);
	u64 size;

	note_ended(t);
	f->counted = 0;
	if (!p || is_librarys(ctx, p, f, return_of(f, task))) {
		f->flags = 0;
		return;
	}
	read_kernel(t->buf, FIXED, 0);		/* zeros: it is not looked at what arguments say */
	e->h.kind = REC_ENTRY;
	e->h.flags = REC_WANTED;
	e->h.row = row;
	e->h.time = f->time;
	e->h.task = t->task;
	e->h.tid = t->tid;
	e->h.tgid = t->tgid;
	e->h.seq = f->seq;
	e->sp = f->sp;
	size = p->fixed;
	HIDE(size);
	size &= 2 * FIXED - 1;
	if (output_fairly(t, RING_READ, t->buf, size, false)) {
		count(set, loser(t), RING_READ, LOST_ENTRY, 1);
		f->flags |= FRAME_ENTRY_LOST;
	}
}
#endif
