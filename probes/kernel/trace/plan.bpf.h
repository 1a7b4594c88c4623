/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/* Runs a copy plan: what it names goes into the call's own record. */

#define FIELD(t, offset, type) \
	(*(type *)((t)->buf + ((offset) & (FIXED - 1) & ~(sizeof(type) - 1))))

/* One string of at most `keep` bytes into the variable part; returns what its length slot says. */
ALWAYS s32 take_string(struct thread *t, u64 address, u32 keep)
{
	struct capture *c = &t->capture;
	u64 at = c->pos, room = keep;
	long n;

	HIDE(at);
	if (at > RECORD - INLINE_MAX - 16) {
		c->flags |= REC_TRUNCATED;
		return STR_NO_ROOM;
	}
	HIDE(room);
	if (room > INLINE_MAX)
		room = INLINE_MAX;
	n = read_string(t->buf + at, room + 1, address);
	if (n < 0)
		return STR_UNREADABLE;
	if (n > 0)
		n--;		/* its NUL; some kernels return 0 for "" */
	c->pos = at + ((n + 8) & ~7UL);
	return n;
}

ALWAYS void run_plan(const struct settings *set, struct thread *t, const struct plan *p)
{
	struct capture *c = &t->capture;
	c->pos = p->fixed;
	c->next = 0;
	c->bad = c->flags = c->names = c->longs = 0;
	if (t->generation != set->generation) {
		t->generation = set->generation;
		t->once[0] = t->once[1] = 0;
	}
	c->once[0] = t->once[0];
	c->once[1] = t->once[1];

	FOR_STEPS(t, MAX_OPS) {
		u32 i = c->next++ & (MAX_OPS - 1);
		const struct op *op = &p->ops[i];
		u64 address;
		u32 size;

		if (op->kind == OP_END)
			break;
		address = FIELD(t, op->src, u64);
		if (op->kind == OP_BLOCK) {
			u32 dst = op->dst & (FIXED - 1);

			size = op->len;
			HIDE(size);
			size &= FIXED - 1;
			if (address && read_block(t->buf + dst, size, address + op->off)) {
				c->bad |= 1U << i;
				address = 0;
			}
			if (!address) {
				/* what hangs on it must read as NULL */
				read_kernel(t->buf + dst, size, 0);
			}
		} else if (op->kind == OP_ONCE) {
			u32 which = ONCE_WHICH(op) & (ONCES - 1);

			c->once[which] = address;
			FIELD(t, op->dst, s32) = 0;
			if (address && address == t->once[which]) {
				FIELD(t, op->dst, s32) = STR_SAME;
				c->next += ONCE_SKIP(op);
			} else if (address) {
				c->flags |= REC_ONCE;
			}
		} else if (op->kind == OP_STRING) {
			s32 n = 0;

			if (STRING_ONLY(op) && FIELD(t, op->src - 8, u32) != STRING_ONLY(op)) {
				n = STR_NULL;
			} else if (address) {
				n = take_string(t, address + op->off, op->len);
				if (n == STR_UNREADABLE)
					c->bad |= 1U << i;
				else if (n >= op->len)
					t->longs[c->longs++ & (MAX_OPS - 1)] = i;
				if (n > 0 && p->objects >> i & 1)
					t->names[c->names++ & (MAX_NAMES - 1)] =
						c->pos - ((n + 8) & ~7UL);
			}
			FIELD(t, op->dst, s32) = n;
		}
	}
}
