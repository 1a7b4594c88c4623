/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/*
 * A hit of any probed function comes in; records of the bytes that its copy plan names go out to a
 * ring buffer.
 *
 * With SESSION one program is both of an entry and of a return, and at an entry it decides whether
 * this call has a return probe at all. It has none where that could kill: the kernel, when it arms
 * one, throws away those that look dead to it, as the stack pointer is above them, and kills the
 * process when such a call returns after all. A coroutine or a signal handler on another stack
 * makes them look so. One that is armed alone is safe, whatever happens to the stack; inside of it
 * only what returns before the program's own code runs.
 *
 * With RETS there are no return probes, but a probe on each instruction by which a function
 * returns: safe everywhere, and slow, as the processor does that as a single step. With PAIR there
 * are return probes everywhere.
 *
 * Nothing here knows libvirt: which row of `plans` belongs to a function is the attach cookie. Both
 * programs are loaded sleepable where the kernel can, so that pages which are not resident are
 * faulted in (may_wait). probes/kernel/records.py reads the records, probes/plans/functions.py
 * writes the rows; probes/kernel/contract.py asserts that their layouts are those of the structs
 * here.
 */

#include "records.bpf.h"
#include "memory.bpf.h"
#include "who.bpf.h"
#include "plan.bpf.h"
#include "walk.bpf.h"
#include "send.bpf.h"
#include "abi-MACHINE.bpf.h"
#include "frames.bpf.h"
#include "count.bpf.h"

/*
 * Whether a function that is entered inside the call of frame f was called by libvirt, or by the
 * enforcer that is looking for what the call is about. Where nothing tells, it was the program: a
 * call too many is better than one that hides.
 */
ALWAYS bool is_inner(struct pt_regs *ctx, u64 cookie, u32 plan_flags, const struct frame *f)
{
	if (f->row == ROW_LOOKING && return_address(ctx, plan_flags) - f->args[0] < f->args[1])
		return true;
	if (f->sp == SP(ctx))		/* jumped to; the return address is in the kernel's page */
		return plan_flags & PLAN_PLUMBING ||
		       (plan_flags & PLAN_JUMPS && f->flags & FRAME_JUMPS);
	return called_by_library(ctx, cookie, plan_flags);
}

/* Whether the plan's condition makes this a call that only reads. */
ALWAYS bool only_reads(const struct plan *p, struct pt_regs *ctx)
{
	u32 value = ARG(ctx, 0), second = ARG(ctx, 1), third = ARG(ctx, 2), fourth = ARG(ctx, 3);

	/* read before it is known which is meant: the verifier wants constant offsets into ctx */
	HIDE(value);
	HIDE(second);
	HIDE(third);
	HIDE(fourth);
	if (p->condition_arg == 1)
		value = second;
	else if (p->condition_arg == 2)
		value = third;
	else if (p->condition_arg == 3)
		value = fourth;
	if (p->condition == EQUALS)
		return value != p->condition_bits;
	return !(value & p->condition_bits);
}

/* At the entry of a function; whether its return is wanted. */
ALWAYS bool enter(struct pt_regs *ctx)
{
	void *task = current_task();
	u64 cookie = attach_cookie(ctx), now;
	u64 pid_tgid = (u64)*(u32 *)(task + TASK_TGID) << 32 | *(u32 *)(task + TASK_PID);
	u32 row = cookie & 0xffff, n, flags = 0, record_flags = 0, ring, wanted, zero = 0;
	struct settings *set = map_lookup(MAP(FD_SETTINGS), &zero);
	struct plan *p = map_lookup(MAP(FD_ENTRY_PLANS), &row);
	struct thread *t;
	struct frames *fs;
	struct frame *f;
	struct entry *e;
	bool returns, jumped = false;
	u8 depth = 0;
#ifdef SESSION
	u64 armed;
	bool confined;
#endif

	OWN_STACK();
	if (!set || !set->ready || !p || pid_tgid >> 32 == set->self)
		return false;
	ring = p->flags & PLAN_WRITE_RING;
	wanted = p->flags & PLAN_WANTED;
	if (p->condition && only_reads(p, ctx)) {
		ring = 0;
		if (set->writes)
			wanted = 0;
	}
	t = get_thread(set, task, ring, wanted ? p->flags : p->flags & ~PLAN_WANTED, pid_tgid);
	if (!t || (!t->wanted && !t->serving && !(p->flags & (PLAN_SERVES | PLAN_ALWAYS))))
		return false;
	fs = frames_of_task(set, t, ring, p->flags);
	if (!fs)
		return false;
	now = bpf_ktime_get_ns();	/* those that nobody wants need not wait for it */
	look_at_clock(set, t, now);
	FORGET();
	returns = !(p->flags & PLAN_NO_RETURN);
#ifdef SESSION
	armed = armed_at(ctx, t, fs, task, p->flags);
	drop_dead_frames(t, fs, SP(ctx), armed);
#elif defined(RETS)
	drop_dead_frames(t, fs, task, SP(ctx));
#else
	drop_dead_frames(ctx, t, fs, p->flags);
#endif
#ifndef PAIR
	jumped = t->jump_sp == SP(ctx) && p->flags & PLAN_JUMPS;
	if (t->unarmed_sp <= SP(ctx))
		t->unarmed_sp = 0;
#endif
	if (t->serving_sp <= SP(ctx))
		t->serving = 0;		/* its return had no probe, or was not seen */
	e = (void *)t->buf;
	e->caller = 0;
#ifdef COUNTING
#ifdef SESSION
	if (!armed)
#endif
	if (wanted && begin_counted(ctx, set, t, fs, p, task, cookie, now))
		return true;
	t->judged_sp = 0;
#endif
	f = enclosing(ctx, t, fs, p->flags);
#ifdef COUNTING
	if (f && f->counted && p->flags & PLAN_PRIVATE) {
		tell_counted(ctx, set, t, f, task);
		e->caller = 0;
	}
	FORGET();
#endif
	if (f) {
		flags = f->flags & FRAME_INSIDE;
		depth = f->depth + !(f->flags & FRAME_PRIVATE);
		if (p->flags & PLAN_PRIVATE) {
			ring = f->ring;
		} else if (!jumped && !is_inner(ctx, cookie, p->flags, f)) {
			/* a return address in the library was refused, and is none of another */
			if (depth) {
				e->caller = return_address(ctx, p->flags);
				record_flags = is_in_text(ctx, cookie, e->caller) ? 0 : REC_CALLER;
			}
			depth = 0;
		}
	} else if (!(p->flags & PLAN_PRIVATE)) {	/* no frames tell */
		depth = jumped || called_by_library(ctx, cookie, p->flags);
		if (!depth && t->unarmed_sp) {
			e->caller = return_address(ctx, p->flags);
			record_flags = is_in_text(ctx, cookie, e->caller) ? 0 : REC_CALLER;
		}
	}
	if (p->flags & PLAN_PRIVATE) {
		if (p->flags & PLAN_SERVES) {
			t->serving = new_id(bpf_ktime_get_ns());
			t->serving_sp = SP(ctx);
			flags |= FRAME_SERVES;
		} else if (p->flags & PLAN_SERVED ? !t->serving || !ARG(ctx, 0)
						  : !flags && !(p->flags & PLAN_ALWAYS)) {
			return false;
		}
		flags |= FRAME_PRIVATE | FRAME_WANTED;
	} else if (wanted && (!depth || set->nested)) {
		flags |= FRAME_WANTED | FRAME_INSIDE;
	}
	if (p->flags & PLAN_JUMPS)
		flags |= FRAME_JUMPS;
	n = t->frames;
#ifdef PAIR
	/* The kernel arms no more return probes than there are frames: a call that is deeper has a
	 * record, but no end. */
	returns = returns && n < MAX_FRAMES;
#else
	returns = returns && n < MAX_FRAMES && (flags & FRAME_WANTED || p->flags & PLAN_OPENS);
#ifdef SESSION
	confined = set->spare && is_confined(task);
	returns = returns && !confined &&
		may_arm(set, t, f, SP(ctx), armed, p->flags, depth);
#else
	returns = returns && !t->left;
#endif
	if (!(p->flags & PLAN_PRIVATE)) {
		t->jump_sp = !returns && p->flags & PLAN_JUMPS ? SP(ctx) : 0;
		if (!returns && !t->unarmed_sp)
			t->unarmed_sp = SP(ctx);
		if (!returns && !depth && n)
			fs->at[(n - 1) & (MAX_FRAMES - 1)].flags |= FRAME_CROSSED;
		if (!returns && p->flags & PLAN_OPENS)
			__sync_fetch_and_add(&set->generation, 1);
	}
#endif
	if (!returns)
		record_flags |= REC_UNARMED;
	FORGET();
	n = t->frames;
	f = place_of(fs, n);
	f->sp = SP(ctx);
	f->time = now;
	f->row = row;
	f->depth = depth;
	f->ring = ring;
	f->flags = flags;
	f->record_flags = record_flags;
	f->returns = returns;
	f->counted = 0;
	FORGET();		/* or each way to here would go on as a state of its own */
	ring = f->ring;
	flags = f->flags;
	record_flags = f->record_flags;
	if (p->flags & PLAN_KEEP_ARGS) {
		TAKE_ARGS(f->args, ctx);
	}
	t->rest = 0;
	if (flags & FRAME_WANTED) {
		e->h.kind = REC_ENTRY;
		e->h.depth = f->depth;
		e->h.flags = ring | record_flags | n << REC_LEVEL | (t->serving ? REC_SERVING : 0) |
			     (t->wanted ? REC_WANTED : 0);
		e->h.row = row;
		e->h.time = now;
		e->h.task = t->serving ? t->serving : t->task;
		e->h.tid = (u32)pid_tgid;
		e->h.tgid = pid_tgid >> 32;
		e->h.seq = f->seq = ++t->seq;
		TAKE_ARGS(e->args, ctx);
		e->sp = SP(ctx);
#ifndef PAIR
		if (t->left && record_flags & REC_UNARMED)
			e->caller |= CALLER_LEFT;
#endif
#ifdef SESSION
		if (confined && record_flags & REC_UNARMED)
			e->caller |= CALLER_CONFINED;
#endif
		e->h.flags |= t->verdict_lost;
		t->verdict_lost = 0;
		FORGET();
		if (p->flags & PLAN_SERVES)
			e->sp = t->task;
		run_plan(set, t, p);
		e->h.bad = t->capture.bad;
		e->h.flags |= t->capture.flags | (t->capture.longs || p->walk ? REC_LONG : 0);
		if (set->object && !(p->flags & (PLAN_PRIVATE | PLAN_NO_OBJECT)) &&
		    !(t->capture.bad & p->objects) && !object_matches(set, t)) {
			flags &= ~(FRAME_WANTED | FRAME_INSIDE);
#ifndef PAIR
			if (!(p->flags & PLAN_OPENS))
				f->returns = 0;
			if (!t->unarmed_sp)
				t->unarmed_sp = SP(ctx);
#endif
		} else if (send(t, ring, p->flags, false)) {
			count(set, loser(t), ring,
			      p->flags & PLAN_PRIVATE ? LOST_PRIVATE : LOST_ENTRY, 1);
			flags |= FRAME_ENTRY_LOST;
			if (p->flags & PLAN_PRIVATE)
				t->inner_lost = now;
			else if (!f->returns)
				count(set, loser(t), ring, LOST_BOTH, 1);
		} else {
			t->rest = t->capture.longs | p->walk;
		}
	}
	if (p->flags & PLAN_SERVES)	/* its end has no record, and says nothing of calls in it */
		flags &= ~FRAME_WANTED;
	f->flags = flags;
	if (f->returns)
		t->frames = n + 1;
	FORGET();
	if (t->rest)
		send_rest(t, p, f->ring);
	return f->returns;
}

/* At the return from a function. */
ALWAYS void come_back(struct pt_regs *ctx)
{
	u32 row = attach_cookie(ctx) & 0xffff, zero = 0;
	struct settings *set = map_lookup(MAP(FD_SETTINGS), &zero);
	struct plan *p = map_lookup(MAP(FD_RETURN_PLANS), &row);
	struct thread *t = task_storage(MAP(FD_THREADS), current_task(), 0, 0);
	struct frames *fs = task_storage(MAP(FD_FRAMES), current_task(), 0, 0);
	struct frame *f;
	struct ret *r;

	OWN_STACK();
	/* no thread: the call was under way when the probes came, or before a fork */
	if (!set || !p || !t || !fs)
		return;
	if (p->flags & PLAN_OPENS)
		__sync_fetch_and_add(&set->generation, 1);
	if (p->flags & PLAN_SERVES)
		t->serving = 0;
#ifdef RETS
	/* the instruction that returns is yet to come; or it has been */
	f = pop_frame(t, fs, p->flags & PLAN_AFTER ? entry_sp(ctx, 0) : SP(ctx), row);
#else
	f = pop_frame(t, fs, entry_sp(ctx, p->flags), row);
#endif
	if (!f || !(f->flags & FRAME_WANTED))
		return;
#ifdef COUNTING
	if (f->counted) {
		count_call(ctx, t, p, f);
		return;
	}
#endif
	r = (void *)t->buf;
	r->h.kind = REC_RETURN;
	r->h.depth = f->depth;
	r->h.flags = f->ring | (t->wanted ? REC_WANTED : 0);
	r->h.row = row;
	r->h.time = bpf_ktime_get_ns();
	r->h.task = t->serving ? t->serving : t->task;
	r->h.tid = t->tid;
	r->h.tgid = t->tgid;
	r->h.seq = f->seq;
	if (p->flags & PLAN_KEEP_ARGS) {
		__builtin_memcpy(r->args, f->args, sizeof(r->args));
		r->sp = f->sp;
	}
	r->entry_time = f->time;
	r->value = RESULT(ctx);
	if (f->flags & FRAME_ENTRY_LOST)
		r->h.flags |= REC_ENTRY_LOST;
	if (t->inner_lost >= f->time)
		r->h.flags |= REC_INNER_LOST;
	run_plan(set, t, p);
	r->h.bad = t->capture.bad;
	r->h.flags |= t->capture.flags | (t->capture.longs || p->walk ? REC_LONG : 0);
	if (send(t, f->ring, 0, true)) {
		u32 what = f->flags & FRAME_ENTRY_LOST ? LOST_BOTH : LOST_RETURN;

		count(set, loser(t), f->ring, f->flags & FRAME_PRIVATE ? LOST_PRIVATE : what, 1);
		if (f->flags & FRAME_PRIVATE)
			t->inner_lost = r->h.time;
		return;
	}
	if (t->capture.longs | p->walk)
		send_rest(t, p, f->ring);
}

#ifdef SESSION
int on_call(struct pt_regs *ctx)
{
	if (function_ip(ctx) == IP(ctx))
		return !enter(ctx);	/* 1: this call has no return probe */
	come_back(ctx);
	return 0;
}
#else
int on_entry(struct pt_regs *ctx)
{
	enter(ctx);
	return 0;
}

int on_return(struct pt_regs *ctx)
{
	come_back(ctx);
	return 0;
}
#endif

/*
 * The enforcer's verdict on a call. One that goes on is told by its sp from then on; one that was
 * denied never reaches its function, so its arguments are copied here, by the same plan.
 */
int on_verdict(struct pt_regs *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid(), now;
	u64 cookie = attach_cookie(ctx);
	u32 row = cookie & 0xffff, zero = 0, n;
	u64 *of_function;
	struct settings *set = map_lookup(MAP(FD_SETTINGS), &zero);
	struct plan *p = map_lookup(MAP(FD_ENTRY_PLANS), &row), *call;
	struct verdict v;
	struct thread *t;
	struct frames *fs;
	struct frame *f;
	struct entry *e;

	OWN_STACK();
	if (!set || !set->ready || !p || pid_tgid >> 32 == set->self ||
	    read_block(&v, sizeof(v), ARG(ctx, 0)))
		return 0;
	if (v.sp - SP(ctx) > SP_REACH)
		return 0;		/* no verdict on a call of this thread */
	of_function = map_lookup(MAP(FD_VERDICT_ROWS), &v.number);
	if (!of_function || *of_function > 0xffff)
		return 0;
	row = *of_function;
	call = map_lookup(MAP(FD_ENTRY_PLANS), &row);
	if (!call)
		return 0;
	/* a call that goes on is counted at its own entry */
	t = get_thread(set, current_task(), RING_WRITE,
		       v.action == VERDICT_DENY ? call->flags & PLAN_WANTED : 0, pid_tgid);
	if (!t || (!t->wanted && !t->serving))
		return 0;
	fs = frames_of_task(set, t, RING_WRITE, call->flags);
	if (!fs)
		return 0;
	now = bpf_ktime_get_ns();
	look_at_clock(set, t, now);
	FORGET();
	n = t->frames;
	f = &fs->at[(n - 1) & (MAX_FRAMES - 1)];
	if (v.action == VERDICT_LOOKING) {
		/* a frame for the enforcer: the calls that it makes are inside of it */
		if (n >= MAX_FRAMES)
			return 0;
		f = &fs->at[n & (MAX_FRAMES - 1)];
		f->sp = v.sp;
		f->row = ROW_LOOKING;
		f->args[0] = IP(ctx) - (u32)(cookie >> 16);
		f->args[1] = (cookie >> 48) << 12;
		f->depth = n ? fs->at[(n - 1) & (MAX_FRAMES - 1)].depth : 0;
		f->flags = 0;
		f->counted = 0;
		t->frames = n + 1;
		return 0;
	}
	if (n && f->row == ROW_LOOKING && f->sp == v.sp)
		t->frames = n - 1;
	if (!(call->flags & PLAN_WANTED))
		return 0;
	t->judged_sp = v.action != VERDICT_DENY ? v.sp : 0;
	e = (void *)t->buf;
	e->h.kind = REC_VERDICT;
	e->h.depth = 0;
	e->h.flags = REC_WRITE_RING | (t->serving ? REC_SERVING : 0) | (t->wanted ? REC_WANTED : 0);
	e->h.row = cookie & 0xffff;
	e->h.time = now;
	e->h.task = t->serving ? t->serving : t->task;
	e->h.tid = (u32)pid_tgid;
	e->h.tgid = pid_tgid >> 32;
	e->h.seq = ++t->seq;
	e->args[0] = ARG(ctx, 0);
	e->sp = v.sp;
	e->caller = 0;
	run_plan(set, t, p);
	e->h.bad = t->capture.bad;
	if (send(t, RING_WRITE, 0, false)) {
		count(set, loser(t), RING_WRITE, LOST_PRIVATE, 1);
		t->verdict_lost = v.action != VERDICT_DENY ? REC_INNER_LOST : 0;
	}
	if (v.action != VERDICT_DENY)
		return 0;
	e->h.kind = REC_DENIED;
	e->h.flags = REC_WRITE_RING | (t->serving ? REC_SERVING : 0) | (t->wanted ? REC_WANTED : 0);
	e->h.row = row;
	__builtin_memcpy(e->args, v.args, sizeof(v.args));
#if REGISTERS > 6
	__builtin_memcpy(e->args + 6, v.more, sizeof(v.more));
#endif
	run_plan(set, t, call);
	e->h.bad = t->capture.bad;
	e->h.flags |= t->capture.flags;
#ifdef MAY_GOTO			/* else the verifier would take as long for this as for all the
				   rest */
	if (t->capture.longs | call->walk)
		e->h.flags |= REC_LONG;
#endif
	if (set->object && !(call->flags & PLAN_NO_OBJECT) && !(t->capture.bad & call->objects) &&
	    !object_matches(set, t))
		return 0;
	if (send(t, RING_WRITE, 0, false)) {
		/* of which there will be no return */
		count(set, loser(t), RING_WRITE, LOST_ENTRY, 1);
		count(set, loser(t), RING_WRITE, LOST_BOTH, 1);
		return 0;
	}
#ifdef MAY_GOTO
	if (t->capture.longs | call->walk)
		send_rest(t, call, RING_WRITE);
#endif
	return 0;
}
