/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/* What does not fit into the call's own record: long strings and lists, in records of their own. */

/*
 * Choices without a branch, which the verifier would follow both ways in every round of a loop: all
 * ones if x < 0, else 0; and what can be made of it. HIDE() keeps the compiler from finding the
 * branch again.
 */
ALWAYS s64 if_negative(s64 x)
{
	HIDE(x);
	x >>= 63;
	HIDE(x);
	return x;
}

ALWAYS s64 at_least_0(s64 x)
{
	return x & ~if_negative(x);
}

ALWAYS s64 smaller(s64 a, s64 b)
{
	return b + ((a - b) & if_negative(a - b));
}

ALWAYS s64 not_0(s64 x)
{
	return if_negative(x | -x);
}

ALWAYS s64 pick(s64 mask, s64 a, s64 b)
{
	return b ^ ((a ^ b) & mask);
}

/*
 * What chunks took, sent or lost. Each branch here, and whatever stays in a register meanwhile,
 * would cost the verifier a loop's time.
 */
ALWAYS void account(const struct thread *t)
{
	u32 user = t->follow.user, loser = t->follow.loser;
	u32 ring = CHUNK_OF(t)->h.flags & REC_WRITE_RING;
	struct user *u = map_lookup(MAP(FD_USERS), &user), *l = map_lookup(MAP(FD_USERS), &loser);

	if (u)
		__sync_fetch_and_add(&u->flow[ring].now, t->follow.bytes);
	if (l)
		__sync_fetch_and_add(&l->lost[ring * COUNTERS + LOST_CHUNK], t->follow.lost);
}

/*
 * What did not fit into the call's own record: the rest of long strings, up to `keep`, and how long
 * they are. The loop's state is in memory, of which the verifier assumes nothing: its rounds look
 * alike to it.
 */
ALWAYS void follow_strings(struct thread *t, const struct plan *p, u32 ring)
{
	struct follow *w = &t->follow;
	struct chunk *c = CHUNK_OF(t);
	void *out = ring_of(t, ring & 1);

	__builtin_memcpy(&c->h, t->buf, sizeof(c->h));
	c->h.kind = REC_CHUNK;
	w->next = 0;
	w->address = 0;
	if (!out)
		return;
	FOR_STEPS(t, CHUNK_STEPS) {
		s64 n, data, more;

		if (!w->address) {
			const struct op *op;

			if (w->next >= t->capture.longs)
				break;
			c->h.row = t->longs[w->next++ & (MAX_OPS - 1)];
			op = &p->ops[c->h.row & (MAX_OPS - 1)];
			w->address = FIELD(t, op->src, u64) + op->off;
			w->offset = op->len;
			w->keep = op->keep;
		}
		n = read_string(c->text, CHUNK, w->address + w->offset);
		c->offset = w->offset;
		c->got = n;
		data = at_least_0(smaller((s64)w->keep - w->offset, n - 1));
		w->offset += at_least_0(n - 1);
		more = if_negative(CHUNK - 1 - n) & if_negative((s64)w->offset - LENGTH_LIMIT);
		w->address &= more;
		if (more && !data)
			continue;
		data = (data + 7) & ~7U;
		HIDE(data);
		data &= CHUNK_MASK;
		data += __builtin_offsetof(struct chunk, text);
		w->bytes += data;
		w->lost -= if_negative(ring_output(out, c, data, BPF_RB_NO_WAKEUP));
	}
}

/* What a walk has put together so far goes out. */
ALWAYS void send_walked(struct thread *t, void *out, u32 row)
{
	struct walk *w = &t->walk;
	struct chunk *c = CHUNK_OF(t);
	u64 size = w->pos;

	c->h.row = row;
	c->offset = w->sent;
	c->got = size;
	w->sent += size;
	w->pos = 0;
	HIDE(size);
	size &= CHUNK_MASK;
	size += __builtin_offsetof(struct chunk, text);
	t->follow.bytes += size;
	t->follow.lost -= if_negative(ring_output(out, c, size, BPF_RB_NO_WAKEUP));
}

/*
 * The operations behind the plan's first OP_END, see struct op. State is in memory, for the reason
 * that follow_strings() gives.
 */
ALWAYS void walk(struct thread *t, const struct plan *p, u32 ring)
{
	struct walk *w = &t->walk;
	struct chunk *c = CHUNK_OF(t);
	void *out = ring_of(t, ring & 1);

	__builtin_memcpy(&c->h, t->buf, sizeof(c->h));
	c->h.kind = REC_CHUNK;
	w->next = p->walk;
	w->pos = w->sent = w->done = 0;
	if (!out)
		return;
	FOR_STEPS(t, WALK_STEPS) {
		const struct op *op = &p->ops[w->next & (MAX_OPS - 1)];
		u32 kind = op->kind & ~OP_IF, at, size, dst;
		struct item *item;
		u64 address;
		s64 n, more;

		if (kind == OP_END)
			break;
		if (w->pos >= WALK_FULL)
			send_walked(t, out, WALK_MORE);
		at = w->pos;
		HIDE(at);
		at &= WALK_FULL - 8;
		item = (void *)(c->text + at);
		address = FIELD(t, op->src, u64);
		n = FIELD(t, op->src, s32);
		w->next = op->then;
		if (kind >= OP_LEAVE) {
			more = (if_negative(n) & LEAVE_IF_NEGATIVE(op)) |
			       (~not_0(address) & LEAVE_IF_NULL(op));
			w->next = pick(more, LEAVE_TO(op), op->then);
			n = at_least_0(n) * at_least_0(FIELD(t, COUNT(op), s32));
			FIELD(t, op->dst, u64) = smaller(n, 0x7fffffff);
			continue;
		}
		item->count = FIELD(t, COUNT(op), s32);
		if (kind == OP_STRING) {
			address += (op->off + w->done) & not_0(address);
			n = read_string(item + 1, WALK_PIECE + 1, address);
			more = if_negative(n);
			n = pick(more, pick(not_0(address), STR_UNREADABLE, STR_NULL),
				 at_least_0(n - 1));
			size = at_least_0(smaller(n, (s64)op->keep - w->done));
			w->done += WALK_PIECE;
			more = if_negative(WALK_PIECE - 1 - n) &
			       if_negative((s64)w->done - LENGTH_LIMIT);
			w->done &= more;
			w->next = pick(more, op - p->ops, op->then);
		} else if (kind == OP_ARRAY) {
			n = smaller((at_least_0((s32)item->count) * ARRAY_BITS(op) + 7) >> 3,
				    op->keep);
			size = n & not_0(address);
			HIDE(size);
			size &= WALK_FULL - 1;
			more = read_block(item + 1, size, address + op->off);
			size &= ~if_negative(more);
			n = pick(not_0(address), pick(if_negative(more), STR_UNREADABLE, n),
				 STR_NULL);
		} else if (kind == OP_LIST) {
			n = COUNT(op) ? smaller(at_least_0((s32)item->count), op->keep) : op->keep;
			n &= not_0(address);
			FIELD(t, op->dst, u64) = address - ELEMENT_BYTES(op);
			FIELD(t, op->dst + 8, u32) = n;
			n |= STR_NULL & ~not_0(address);
			size = 0;
		} else {
			size = op->len;
			dst = op->dst & (FIXED - 1);
			if (kind == OP_ELEMENT) {
				u32 left = FIELD(t, op->src + 8, u32);

				if (!left) {
					w->next = ELEMENT_END(op);
					continue;
				}
				FIELD(t, op->src + 8, u32) = left - 1;
				address += size;
				FIELD(t, op->src, u64) = address;
				size = ELEMENT_BYTES(op);
			} else {
				address += op->off & not_0(address);
			}
			HIDE(size);
			size &= FIXED - 1;
			more = if_negative(read_block(t->buf + dst, size, address));
			n = pick(more, pick(not_0(address), STR_UNREADABLE, STR_NULL), size);
			read_kernel(item + 1, size, t->buf + dst);
			if (more)	/* zeros: what hangs on it must read as NULL */
				read_kernel(t->buf + dst, size, 0);
			size &= ~more;
		}
		/* through memory: else every way to here would go on as a state of its own */
		item->got = n;
		item->address = address;
		w->pos = at + ((size + sizeof(*item) + 7) & ~7U);
		FORGET();
		op = &p->ops[w->next & (MAX_OPS - 1)];
		more = not_0((s64)FIELD(t, op->dst, u32) - STRING_VALUE(op)) &
		       -(s64)(op->kind >> 7);
		w->next = pick(more, op->then, w->next);
	}
	send_walked(t, out, WALK_LAST);
}
