/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/* Sends a record, and what belongs to it. */

/*
 * Whether a name in the record matches one of the object globs, run as one automaton: a bit of
 * `state` is a place in a pattern. Its memory is the thread's, for the reason that follow_strings()
 * gives.
 */
ALWAYS bool object_matches(const struct settings *set, struct thread *t)
{
	struct follow *w = &t->follow;

	w->next = 0;
	w->offset = t->names[0];
	w->address = set->glob_start;
	FOR_STEPS(t, MAX_NAMES * 64) {
		u32 byte;
		u64 *accepts, stay, at;

		if (w->next >= t->capture.names)
			return false;
		at = w->offset++;
		HIDE(at);
		if (at >= RECORD)
			return true;
		byte = t->buf[at];
		if (!byte) {
			if (w->address & set->glob_end)
				return true;
			w->next++;
			w->offset = t->names[w->next & (MAX_NAMES - 1)];
			w->address = set->glob_start;
			continue;
		}
		accepts = map_lookup(MAP(FD_GLOB), &byte);
		if (!accepts)
			return true;
		stay = set->glob_stay;
		if ((byte & 0xc0) == 0x80)
			stay |= set->glob_char;
		w->address = ((w->address & *accepts) << 1) | (w->address & stay);
	}
	return true;		/* too long to tell here: the reader decides */
}

/* What belongs to the record that was just sent. */
ALWAYS void send_rest(struct thread *t, const struct plan *p, u32 ring)
{
	t->follow.lost = t->follow.bytes = 0;
	t->follow.user = flow_of(t);
	t->follow.loser = loser(t);
	FORGET();
	if (t->capture.longs)
		follow_strings(t, p, ring);
	FORGET();
	if (p->walk)
		walk(t, p, ring);
	FORGET();
	/* only now: each branch before a loop would double what the verifier goes through */
	account(t);
}

ALWAYS long send(struct thread *t, u32 ring, u32 plan_flags, bool ends)
{
	u64 size = t->capture.pos;

	HIDE(size);
	if (size > RECORD)
		size = RECORD;
	if (output_fairly(t, plan_flags & (PLAN_SERVES | PLAN_SERVED) ? RING_TASK : ring & 1,
			  t->buf, size, ends))
		return -1;
	t->once[0] = t->capture.once[0];
	t->once[1] = t->capture.once[1];
	return 0;
}
