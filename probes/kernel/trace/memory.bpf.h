/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/* The kernel's helpers; rings with a share for each user; memory of the traced process. */

#define MAP(fd) ((void *)bpf_pseudo_fd(1, fd))
#define ALWAYS static __attribute__((always_inline))

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static u64 (*ring_query)(void *ring, u64 what) = (void *)BPF_FUNC_ringbuf_query;
static long (*ring_output)(void *ring, void *data, u64 size, u64 flags) =
	(void *)BPF_FUNC_ringbuf_output;
static void *(*current_task)(void) = (void *)BPF_FUNC_get_current_task_btf;
static void *(*task_storage)(void *map, void *task, void *value, u64 flags) =
	(void *)BPF_FUNC_task_storage_get;
static long (*read_user)(void *dst, u32 size, u64 address) = (void *)BPF_FUNC_probe_read_user;
static long (*read_user_str)(void *dst, u32 size, u64 address) =
	(void *)BPF_FUNC_probe_read_user_str;
static long (*read_kernel)(void *dst, u32 size, const void *address) =
	(void *)BPF_FUNC_probe_read_kernel;
static u64 (*attach_cookie)(void *ctx) = (void *)BPF_FUNC_get_attach_cookie;
static u64 (*function_ip)(void *ctx) = (void *)BPF_FUNC_get_func_ip;
#ifdef TAI
static u64 (*tai_ns)(void) = (void *)208;	/* ktime_get_tai_ns */
#endif
#ifdef SLEEPABLE
static long (*copy_user)(void *dst, u32 size, u64 address) = (void *)BPF_FUNC_copy_from_user;
#endif

/* Keeps the compiler from proving a bound that the verifier then can't see any more. */
#define HIDE(x) asm volatile("" : "+r"(x))
/*
 * Makes it read memory anew: a number from a register would have a state of its own for each round
 * of the loop it came from.
 */
#define FORGET() asm volatile("" ::: "memory")

/*
 * A loop of many rounds. Where the kernel has an instruction that bounds loops (6.9), the verifier
 * need not go through all of them, if it finds nothing in registers that differs between them; so
 * the counter is in memory.
 */
#ifdef MAY_GOTO
#define MAY_GO_ON() ({ \
	__label__ no, end; bool yes = true; \
	asm volatile goto("1: .byte 0xe5; .byte 0; " \
			  ".long ((%l[no] - 1b - 8) / 8) & 0xffff; .short 0" :::: no); \
	goto end; no: yes = false; end:; yes; })
#define FOR_STEPS(t, limit) for ((t)->steps = 0; MAY_GO_ON() && (t)->steps++ < (limit);)
/* the same of one that ends by itself: the limit is for older kernels */
#define FOR_ROUNDS(limit) while (MAY_GO_ON())
#else
#define FOR_STEPS(t, limit) for (u32 step = 0; step < (limit); step++)
#define FOR_ROUNDS(limit) for (u32 step = 0; step < (limit); step++)
#endif

/*
 * From 6.13 on the kernel gives programs of this kind one stack per CPU, though these sleep: a hit
 * that waits for a page would find it overwritten by the next one there, and the kernel would
 * crash. Not so with a tail call (helper 12) in the code, even where it is never reached and the
 * verifier takes it out.
 */
#define OWN_STACK() do { u64 zero; \
	asm volatile("%0 = 0\n\tif %0 == 0 goto +1\n\tcall 12" : "=r"(zero)); } while (0)

ALWAYS void count(struct settings *set, u32 user, u32 ring, u32 what, u64 records)
{
	struct user *u = map_lookup(MAP(FD_USERS), &user);
	u64 which = (ring & 1) * COUNTERS + what;

	HIDE(which);		/* older verifiers lose the bounds of what the compiler makes of
				   it */
	which &= 2 * COUNTERS - 1;
	if (u)
		__sync_fetch_and_add(&u->lost[which], records);
	__sync_fetch_and_add(&set->losses, 1);
}

/* Where the user is in `users`. */
ALWAYS u32 find_user(u32 uid)
{
	u32 first = (uid * 0x9e3779b1U) >> 16, i;

	if (!uid)
		return USER_ROOT;
	for (i = 0; i < USER_PLACES; i++) {
		u32 place = USER_FIRST + (first + i) % (USER_OTHERS - USER_FIRST);
		struct user *u = map_lookup(MAP(FD_USERS), &place);

		if (!u)
			break;
		if (!u->uid)
			u->uid = uid;	/* of two at once one is told in the other's name */
		if (u->uid == uid)
			return place;
	}
	return USER_OTHERS;
}

ALWAYS void *ring_of(const struct thread *t, u32 which)
{
	u32 i = t->rings + which;

	return map_lookup(MAP(FD_RINGS), &i);
}

/*
 * Whose a loss is: what a daemon does for somebody may not be wanted, and who that was is not asked
 * here.
 */
ALWAYS u32 loser(const struct thread *t)
{
	return t->wanted ? t->user : USER_SERVED;
}

/* 0: root's own, which may take all there is. */
ALWAYS u32 flow_of(const struct thread *t)
{
	return t->serving && t->user == USER_ROOT ? USER_SERVED : t->user;
}

/*
 * Whether the thread's user may have so many bytes more on their way; the end of what began has
 * twice the room.
 */
ALWAYS bool has_room(const struct thread *t, u32 which, u64 size, bool ends)
{
	u32 user = flow_of(t);
	struct user *u = map_lookup(MAP(FD_USERS), &user);
	void *ring = ring_of(t, which);
	struct flow *f;
	u64 read, written, used;

	if (user == USER_ROOT)
		return true;
	if (!u || !ring)
		return false;
	f = &u->flow[which & 3];
	read = ring_query(ring, BPF_RB_CONS_POS);
	written = ring_query(ring, BPF_RB_PROD_POS);
	if (read >= f->mark) {
		f->before = f->now;
		f->now = 0;
		f->mark = written;
	}
	used = (f->before + f->now + size) << !ends;
	if (used + (written - read) > ring_query(ring, BPF_RB_RING_SIZE))
		return false;
	__sync_fetch_and_add(&f->now, size);
	return true;
}

/*
 * A record, if there is room; the ring's lock may be out of reach for a moment though there is.
 * Only one that finds the ring empty wakes the reader, which sleeps when nothing has come for long.
 */
ALWAYS long output_fairly(const struct thread *t, u32 which, void *data, u64 size, bool ends)
{
	void *ring = ring_of(t, which);

	if (!ring || !has_room(t, which, size, ends))
		return -1;
	if (!ring_output(ring, data, size, 0))
		return 0;
	if (ring_query(ring, BPF_RB_AVAIL_DATA) + 2 * RECORD > ring_query(ring, BPF_RB_RING_SIZE))
		return -1;
	return ring_output(ring, data, size, 0);
}

#ifdef SLEEPABLE
/*
 * Whether a page that is not resident may be waited for: in the host's root's processes. What
 * others have mapped may be a file system of theirs (FUSE), which need not answer; and while one
 * such program waits, no probe on this host can be taken away, by whichever tool.
 */
ALWAYS bool may_wait(void)
{
	/*
	 * not through typed pointers: for each of their loads the verifier looks through all names
	 * of types that the kernel has
	 */
	void *task = (void *)bpf_get_current_task(), *cred = 0, *ns = 0;
	u32 uid, euid, level;
	long err = read_kernel(&cred, sizeof(cred), task + TASK_CRED);

	err |= read_kernel(&uid, sizeof(uid), cred + CRED_UID);
	err |= read_kernel(&euid, sizeof(euid), cred + CRED_EUID);
	err |= read_kernel(&ns, sizeof(ns), cred + CRED_USER_NS);
	err |= read_kernel(&level, sizeof(level), ns + USER_NS_LEVEL);
	return !(err | uid | euid | level);
}
#endif

ALWAYS long read_block(void *dst, u32 size, u64 address)
{
	long err = read_user(dst, size, address);

#ifdef SLEEPABLE
	if (err && may_wait())
		err = copy_user(dst, size, address);
#endif
	return err;
}

/*
 * The bytes with their NUL, or an error; where a page is not resident and may be waited for, it is
 * brought in and tried once more.
 */
ALWAYS long read_string(void *dst, u32 size, u64 address)
{
	long n = read_user_str(dst, size, address);

#ifdef SLEEPABLE
	if (n < 0 && may_wait()) {
		u8 byte;

		copy_user(&byte, 1, address);
		/* may be beyond the string and not there */
		copy_user(&byte, 1, address + size - 1);
		n = read_user_str(dst, size, address);
	}
#endif
	return n;
}
