/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/*
 * A hit of any probed function comes in; records of the bytes that its copy plan names go out to a ring buffer.
 *
 * With SESSION one program is both of an entry and of a return, and at an entry it decides whether this call has a return probe at all. It
 * has none where that could kill: the kernel, when it arms one, throws away those that look dead to it, as the stack pointer is above them,
 * and kills the process when such a call returns after all. A coroutine or a signal handler on another stack makes them look so. One that is
 * armed alone is safe, whatever happens to the stack; inside of it only what returns before the program's own code runs.
 *
 * Nothing here knows libvirt: which row of `plans` belongs to a function is the attach cookie. Both programs are loaded
 * sleepable where the kernel can, so that pages which are not resident are faulted in (may_wait). probes/kernel/records.py reads the records,
 * probes/plans/functions.py writes the rows; their layouts must agree with the structs here (tests/unit/probes/kernel/test_records.py).
 */

#define MAX_OPS 32
#define MAX_FRAMES 64		/* the kernel nests at most 64 return probes */
#define FIXED 512		/* bytes of a record at places known from the plan alone */
#define RECORD 8192		/* bytes of a record, at most; with strings behind the fixed part */
#define CHUNK 4096
#define MAX_NAMES 8
#define INLINE_MAX 1024		/* bytes of a string in its call's own record, at most */

#ifdef MAY_GOTO
#define WALK_STEPS 16384
#else
#define WALK_STEPS 128		/* the verifier goes through each, which takes a millisecond */
#endif
#define WALK_PIECE 2032		/* bytes of a string or an array in a step of a walk, at most */
#define WALK_FULL 2048		/* bytes of a walk's record that leave no room for another step */
#define WALK_MORE MAX_OPS	/* in place of an operation, in the records of a walk; the last one is WALK_LAST */
#define WALK_LAST (MAX_OPS + 1)

enum op_kind { OP_END, OP_BLOCK, OP_STRING, OP_ONCE, OP_LIST, OP_ELEMENT, OP_ARRAY, OP_LEAVE, OP_PRODUCT };
#define OP_IF 128		/* with OP_STRING in a walk */
enum record_kind { REC_ENTRY = 1, REC_RETURN, REC_CHUNK, REC_TASK, REC_VERDICT, REC_DENIED };
enum plan_flag {
	PLAN_WRITE_RING = 1,	/* records go to the ring of calls that change something, unless `condition` tells otherwise */
	PLAN_WANTED = 2,	/* not filtered out by function */
	PLAN_PRIVATE = 4,	/* an inner function: recorded only inside a wanted call, no level of depth */
	PLAN_NO_RETURN = 8,	/* has no return probe */
	PLAN_JUMPS = 16,	/* one of libvirt's that ends in a jump to another such one, or that other one */
	PLAN_KEEP_ARGS = 32,	/* the return plan needs the entry's argument registers */
	PLAN_OPENS = 128,	/* makes a connection: what is at an address may have become another one */
	PLAN_SERVES = 512,	/* PRIVATE: what runs in it is done for somebody else: its record, in the ring of tasks, begins to say for whom */
	PLAN_SERVED = 1024,	/* PRIVATE: its record, in the ring of tasks, goes on to say so, unless its first argument is NULL */
	PLAN_ALWAYS = 2048,	/* PRIVATE: recorded outside of calls too, and of every process */
	PLAN_32BIT = 256,	/* of a 32-bit library: return addresses have four bytes */
	PLAN_NO_OBJECT = 64,	/* the object is known at return only: the object filter can't decide at entry */
	PLAN_PLUMBING = 4096,	/* changes nothing: where it can't be told who called it, it was libvirt */
};
enum record_flag {
	REC_WRITE_RING = 1,
	REC_ENTRY_LOST = 2,
	REC_UNARMED = 2,	/* on entry: has no return probe */
	REC_LONG = 4,		/* chunks of long strings follow, unless they were lost */
	REC_TRUNCATED = 8,	/* the variable part was full before the plan's end */
	REC_SERVING = 32,	/* made for somebody else: `task` is that of a PLAN_SERVES */
	REC_ONCE = 16,		/* has something that is sent once: calls inside this one rely on it, and end before it */
	REC_INNER_LOST = 128,	/* a record that belongs to the call was lost: on entry its verdict, on return one of an inner function */
	REC_CALLER = 64,	/* made inside another call, not by the function's own library: `caller` says by whom */
	/* REC_ENTRY, in six bits of the upper byte: calls around it that were probed; those on its level or above will not return */
	REC_LEVEL = 8,
	REC_WANTED = 1 << 15,	/* by a process that passes the filters; else it is for the reader to tell */
};
enum counter {			/* per user, of reads and of writes */
	LOST_ENTRY, LOST_RETURN, LOST_BOTH, LOST_CHUNK, LOST_PRIVATE, LOST_THREAD, LOST_TASK, COUNTERS = 8
};
/*
 * Rings: of calls that only read, of those that change something, of tasks. Root has three, and all others have three, so that no
 * user can fill root's. What one of the others has on its way in a ring is at most half of what is still free there: however
 * many fill it, there is room for the next. So it is with what root's daemons do for others, in root's rings.
 */
enum ring { RING_READ, RING_WRITE, RING_TASK, RINGS };

/* lengths of a string that are no lengths */
#define STR_UNREADABLE -1
#define STR_NO_ROOM -2
#define STR_SAME -3		/* ONCE: this thread has sent what is at this address, and it has not changed */
#define STR_NULL -4		/* of a walk: the address is NULL */
#define ONCES 2			/* addresses that a thread remembers to have sent */

/*
 * Operations behind the plan's first OP_END are a walk: what does not fit into the call's own record, or is not known to be there before
 * other things were read. Theirs is the fixed part, as registers, after the record was sent; `then` is the operation that follows.
 * What they copy goes out in records of its own, in order, each thing behind a struct item. BLOCK and STRING are as above, and:
 * LIST	address of a list at src, number of elements (s32) at len, 0: a NULL ends it; at most `keep` are taken; off: bytes of an element;
 *	dst: where the address of the element and (u32, 8 behind it) the number of those left are kept
 * ELEMENT	the next one of the list at src: `off` bytes of it to dst; len: bytes of an element; none left: go on at `keep`
 * ARRAY	dst bits times the number (s32) at len, in all at most `keep` bytes
 * LEAVE	go on at len if the u64 at src is 0 (keep: all ones), or the s32 there is negative (off: all ones)
 * PRODUCT	of the numbers (s32) at src and len, to dst
 * STRING	with OP_IF: only where the u32 at dst is len
 */
struct op {
	u8 kind;
	u8 then;		/* of a walk: the next operation. STRING elsewhere: if not 0, the u32 eight bytes before the address must be it */
	u16 src;		/* offset in the record's fixed part of the u64 that is the base address */
	u16 dst;		/* offset in the fixed part: of the copy (BLOCK), of the s32 length (STRING) */
	u16 len;		/* bytes: of the block; of the string in the call's own record, at most; ONCE: operations to skip */
	s32 off;		/* added to the base address */
	u32 keep;		/* STRING: bytes in all, those in chunks included, at most; 0: only its length is wanted.
				   ONCE: which of the addresses that a thread remembers */
};

enum condition {		/* what makes a call one that changes something */
	ALWAYS_SO,
	ANY_BIT,		/* the argument has one of condition_bits */
	EQUALS,			/* the argument is condition_bits */
};

struct plan {
	u32 flags;
	u32 fixed;		/* size of the fixed part in bytes, multiple of 8 */
	u16 condition;
	u8 condition_arg;	/* 0 to 3 */
	u8 walk;		/* its first operation; 0: none */
	u32 condition_bits;
	u64 objects;		/* bit n: operation n copies a name that the object filter looks at */
	struct op ops[MAX_OPS];
};

struct frame {
	u64 sp;			/* of the return address's slot */
	u64 time;		/* ns, CLOCK_MONOTONIC */
	u32 row;
	u32 seq;
	u8 depth;		/* of the call; of a PRIVATE one: of a call inside it */
	u8 flags;		/* FRAME_* */
	u8 ring;
	u8 record_flags;	/* REC_CALLER, REC_UNARMED */
	u8 returns;		/* has a return probe */
	u8 pad[3];
	u64 args[6];
};
#define FRAME_WANTED 1		/* has records */
#define FRAME_ENTRY_LOST 2
#define FRAME_PRIVATE 4
#define FRAME_JUMPS 8
#define FRAME_INSIDE 16		/* it or a call around it has records: errors raised in it matter */
#define FRAME_SERVES 32
#define FRAME_CROSSED 64	/* the program has made a call since, maybe on another stack */
#define NEAR (1 << 17)		/* bytes of stack between a call and one inside of it, at most */

struct head {			/* of every record; offsets in bytes */
	u8 kind;		/* 0 */
	u8 depth;		/* 1 */
	u16 flags;		/* 2 */
	u32 row;		/* 4: REC_CHUNK: operation; */
	u64 time;		/* 8: ns, CLOCK_MONOTONIC */
	u64 task;		/* 16: id of the REC_TASK that describes the thread, or of the PLAN_SERVES that it is in */
	u32 tid;		/* 24 */
	u32 seq;		/* 28: of the call in its thread */
	u32 bad;		/* 32: bit n: operation n could not read its address */
	u32 tgid;		/* 36 */
};
struct entry {
	struct head h;
	u64 sp;			/* 40; of a PLAN_SERVES instead: id of the REC_TASK that describes the thread itself */
	u64 args[6];		/* 48 */
	u64 caller;		/* 96: return address, with REC_CALLER */
};
struct ret {
	struct head h;
	u64 entry_time;		/* 40 */
	u64 value;		/* 48 */
	u64 args[6];		/* 56: if PLAN_KEEP_ARGS */
	u64 sp;			/* 104: likewise; of the return address's slot */
};
struct chunk {
	struct head h;		/* row = operation */
	u32 offset;		/* 40: of these bytes in the string */
	s32 got;		/* 44: bytes read there, with the NUL; CHUNK: there are more; below 0: unreadable */
	u8 text[CHUNK];		/* 48 */
};

/* What the enforcer says of a call before it goes on or back, as enforcer.h has it. */
struct verdict {
	u64 args[6];		/* 0 */
	u64 sp;			/* 48: where a call would have its return address */
	u32 number;		/* 56: of the function in the bundled table */
	u32 action;		/* 60: VERDICT_* */
	u64 function;		/* 64: strings from here on */
	u64 rule;		/* 72 */
	u64 message;		/* 80 */
	u64 note;		/* 88 */
	u64 result;		/* 96: what the caller of a denied call gets */
};
#define VERDICT_DENY 3
#define VERDICT_LOOKING 4	/* the enforcer is about to call libvirt itself */
#define ROW_LOOKING 0xffffffff	/* of its frame; args: where the enforcer's code is, and how many bytes */
#define SP_REACH (1 << 16)	/* bytes of stack between a call and the enforcer's verdict on it, at most */
struct item {			/* of a walk's record */
	s32 got;		/* 0: bytes, or of a LIST elements, that were read; below 0: why there are none */
	u32 count;		/* 4: LIST, ARRAY: elements in all, before any limit */
	u64 address;		/* 8 */
};
#define CHUNK_STEPS 320
#define LENGTH_LIMIT (1 << 20)

#define CMDLINE 1024
struct task_record {
	struct head h;
	u64 start;		/* 40: ns, CLOCK_BOOTTIME, of the process */
	u64 cgroup;		/* 48: inode of its cgroup v2 directory */
	u32 ppid;		/* 56 */
	u32 uid;		/* 60: effective */
	u32 gid;		/* 64 */
	u32 loginuid;		/* 68 */
	u32 ns_pid;		/* 72: pid as the process sees it */
	u32 cmdline;		/* 76: bytes of it that follow */
	u32 real_uid;		/* 80 */
	u32 pad;
	char comm[16];		/* 88 */
	char text[CMDLINE];	/* 104 */
};

/* A record in the making. In memory, of which the verifier assumes nothing: on the stack every count would be a state of its own. */
struct capture {
	u32 pos;		/* of the next byte in the variable part */
	u32 bad;
	u32 flags;		/* REC_TRUNCATED, REC_ONCE */
	u32 names;		/* strings that the object filter looks at */
	u32 longs;		/* strings of which there is more */
	u32 next;		/* operation */
	u64 once[ONCES];	/* addresses that ONCE met */
};

struct follow {			/* a long string on its way out in chunks, or a name against the object globs */
	u64 address;		/* 0: none; of globs: their states */
	u32 offset;		/* bytes done */
	u32 keep;
	u32 next;		/* of capture.longs; of capture.names */
	u32 lost;		/* chunks */
	u32 bytes;		/* in chunks */
	u32 user;		/* whose they are */
	u32 loser;		/* whose the loss is */
	u32 pad;
};

struct walk {
	u32 next;		/* operation */
	u32 pos;		/* of the next byte in the record */
	u32 sent;		/* bytes in earlier records */
	u32 done;		/* bytes of a string that is longer than a step */
};

struct thread {
	u64 task;		/* id of its last REC_TASK; 0: none yet */
	u64 serving;		/* id of the PLAN_SERVES that it is in; 0: none */
	u64 once[ONCES];	/* last addresses of which everything was sent, while no connection was opened */
	u64 generation;		/* settings.generation then */
	u64 serving_sp;		/* of PLAN_SERVES: where its return address was */
	u64 unarmed_sp;		/* of a call without return probe that others may be inside of; 0: none */
	u64 jump_sp;		/* of one that may end in a jump, and did nothing since; 0: none */
	u64 inner_lost;		/* when a record of an inner function was lost; ns, CLOCK_MONOTONIC */
	char comm[16];
	u32 exec_id;
	u32 uid;		/* effective */
	u32 real_uid;
	u32 user;		/* in `users` */
	u32 rings;		/* its first one */
	u32 verdict_lost;	/* REC_INNER_LOST: on the call that comes next */
	u32 tid;
	u32 tgid;
	u32 seq;
	u16 frames;
	u8 wanted;
	u8 known;
	u32 rest;		/* not 0: there is more than the record that was just sent */
	u32 steps;		/* of the loop that runs */
	struct capture capture;
	struct follow follow;
	struct walk walk;
	u8 longs[MAX_OPS];	/* operations */
	u32 names[MAX_NAMES];	/* where in `buf` the strings are that the object filter looks at */
	struct frame frame[MAX_FRAMES + 1];	/* the last one is that of a call too deep to be kept */
	struct chunk chunk;
	u8 buf[RECORD + 2 * INLINE_MAX];	/* behind RECORD: only for the verifier, which knows masks */
};

#define MAX_USERS 4096
#define USER_ROOT 0
#define USER_SERVED 1		/* root's daemons, while they do what others asked for; what is lost of it, by whichever daemon, where only some are wanted */
#define USER_FIRST 2
#define USER_OTHERS (MAX_USERS - 1)	/* those that found no place, and those that are not known */
#define USER_PLACES 8		/* where a user may be found */
struct flow {			/* of a user's records in a ring; bytes */
	u64 mark;		/* where the ring was written when `now` began */
	u64 before;		/* sent before that, since the mark before it: at least what of it is still unread */
	u64 now;		/* sent since */
};
struct user {
	u32 uid;		/* effective; 0: root, or a free place */
	u32 pad;
	u64 lost[2 * COUNTERS];	/* of RING_READ, RING_WRITE */
	struct flow flow[RINGS + 1];	/* the last one only for the verifier, which knows masks */
};

struct settings {
	u32 ready;		/* 0 until every probe is attached */
	u32 self;		/* tracer's pid: never traced */
	u32 nested;		/* 1: calls inside calls are wanted */
	u32 pids;		/* number of pid filters; a process passes one of each kind */
	u32 uids;
	u32 comms;
	u32 tree;		/* 1: only descendants of the tracer */
	u32 object;		/* 1: the object filter is on */
	u32 writes;		/* 1: only calls that change something */
	u32 pad;
	u64 glob_start;		/* bits of the object globs' first states */
	u64 glob_stay;		/* bits of states that any byte keeps: those of a star */
	u64 glob_char;		/* bits of states behind a wildcard: the rest of a UTF-8 character keeps them */
	u64 glob_end;		/* bits of accepting states */
	u64 generation;		/* of connections: how often one was opened, on the whole host; written here */
	u64 losses;		/* how often anything but LOST_CHUNK was counted in `users`; written here */
};


#define MAP(fd) ((void *)bpf_pseudo_fd(1, fd))
#define ALWAYS static __attribute__((always_inline))

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static u64 (*ring_query)(void *ring, u64 what) = (void *)BPF_FUNC_ringbuf_query;
static long (*ring_output)(void *ring, void *data, u64 size, u64 flags) = (void *)BPF_FUNC_ringbuf_output;
static void *(*current_task)(void) = (void *)BPF_FUNC_get_current_task_btf;
static void *(*task_storage)(void *map, void *task, void *value, u64 flags) = (void *)BPF_FUNC_task_storage_get;
static long (*read_user)(void *dst, u32 size, u64 address) = (void *)BPF_FUNC_probe_read_user;
static long (*read_user_str)(void *dst, u32 size, u64 address) = (void *)BPF_FUNC_probe_read_user_str;
static long (*read_kernel)(void *dst, u32 size, const void *address) = (void *)BPF_FUNC_probe_read_kernel;
static u64 (*attach_cookie)(void *ctx) = (void *)BPF_FUNC_get_attach_cookie;
static u64 (*function_ip)(void *ctx) = (void *)BPF_FUNC_get_func_ip;
#ifdef SLEEPABLE
static long (*copy_user)(void *dst, u32 size, u64 address) = (void *)BPF_FUNC_copy_from_user;
#endif

/* Keeps the compiler from proving a bound that the verifier then can't see any more. */
#define HIDE(x) asm volatile("" : "+r"(x))
/* Makes it read memory anew: a number from a register would have a state of its own for each round of the loop it came from. */
#define FORGET() asm volatile("" ::: "memory")

/*
 * A loop of many rounds. Where the kernel has an instruction that bounds loops (6.9), the verifier need not go through all of them, if it
 * finds nothing in registers that differs between them; so the counter is in memory.
 */
#ifdef MAY_GOTO
#define MAY_GO_ON() ({ __label__ no, end; bool yes = true; \
	asm volatile goto("1: .byte 0xe5; .byte 0; .long ((%l[no] - 1b - 8) / 8) & 0xffff; .short 0" :::: no); \
	goto end; no: yes = false; end:; yes; })
#define FOR_STEPS(t, limit) for ((t)->steps = 0; MAY_GO_ON() && (t)->steps++ < (limit);)
#else
#define FOR_STEPS(t, limit) for (u32 step = 0; step < (limit); step++)
#endif

/*
 * From 6.13 on the kernel gives programs of this kind one stack per CPU, though these sleep: a hit that waits for a page would find
 * it overwritten by the next one there, and the kernel would crash. Not so with a tail call (helper 12) in the code, even where it
 * is never reached and the verifier takes it out.
 */
#define OWN_STACK() do { u64 zero; asm volatile("%0 = 0\n\tif %0 == 0 goto +1\n\tcall 12" : "=r"(zero)); } while (0)

ALWAYS void count(struct settings *set, u32 user, u32 ring, u32 what, u64 records)
{
	struct user *u = map_lookup(MAP(FD_USERS), &user);
	u64 which = (ring & 1) * COUNTERS + what;

	HIDE(which);		/* older verifiers lose the bounds of what the compiler makes of it */
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

/* Whose a loss is: what a daemon does for somebody may not be wanted, and who that was is not asked here. */
ALWAYS u32 loser(const struct thread *t)
{
	return t->wanted ? t->user : USER_SERVED;
}

/* 0: root's own, which may take all there is. */
ALWAYS u32 flow_of(const struct thread *t)
{
	return t->serving && t->user == USER_ROOT ? USER_SERVED : t->user;
}

/* Whether the thread's user may have so many bytes more on their way; the end of what began has twice the room. */
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

/* A record, if there is room; the ring's lock may be out of reach for a moment though there is. */
ALWAYS long output_fairly(const struct thread *t, u32 which, void *data, u64 size, bool ends)
{
	void *ring = ring_of(t, which);

	if (!ring || !has_room(t, which, size, ends))
		return -1;
	if (!ring_output(ring, data, size, BPF_RB_NO_WAKEUP))
		return 0;
	if (ring_query(ring, BPF_RB_AVAIL_DATA) + 2 * RECORD > ring_query(ring, BPF_RB_RING_SIZE))
		return -1;
	return ring_output(ring, data, size, BPF_RB_NO_WAKEUP);
}

#ifdef SLEEPABLE
/*
 * Whether a page that is not resident may be waited for: in the host's root's processes. What others have mapped may be a file system
 * of theirs (FUSE), which need not answer; and while one such program waits, no probe on this host can be taken away, by whichever tool.
 */
ALWAYS bool may_wait(void)
{
	/* not through typed pointers: for each of their loads the verifier looks through all names of types that the kernel has */
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

/* The bytes with their NUL, or an error; where a page is not resident and may be waited for, it is brought in and tried once more. */
ALWAYS long read_string(void *dst, u32 size, u64 address)
{
	long n = read_user_str(dst, size, address);

#ifdef SLEEPABLE
	if (n < 0 && may_wait()) {
		u8 byte;

		copy_user(&byte, 1, address);
		copy_user(&byte, 1, address + size - 1);	/* may be beyond the string and not there */
		n = read_user_str(dst, size, address);
	}
#endif
	return n;
}

/* Descendants of the tracer: it is a subreaper, so an orphan's line of parents still ends at it. */
ALWAYS bool in_tree(void *task, u32 root)
{
	u32 i;

	for (i = 0; i < 64; i++) {
		u32 tgid = 0;

		if (read_kernel(&tgid, sizeof(tgid), task + TASK_TGID) || tgid <= 1)
			return false;
		if (tgid == root)
			return true;
		if (read_kernel(&task, sizeof(task), task + TASK_REAL_PARENT) || !task)
			return false;
	}
	return false;
}

ALWAYS bool passes(const struct settings *set, void *task, const char *comm, u32 tgid, u32 uid)
{
	if (set->tree && !in_tree(task, set->self))
		return false;
	if (set->pids && !map_lookup(MAP(FD_PIDS), &tgid))
		return false;
	if (set->uids && !map_lookup(MAP(FD_UIDS), &uid))
		return false;
	if (set->comms && !map_lookup(MAP(FD_COMMS), comm))
		return false;
	return true;
}

/* A number that no other task has: one processor does not come here twice in a nanosecond. */
ALWAYS u64 new_id(u64 now)
{
	return (now << 8) | (bpf_get_smp_processor_id() & 0xff);
}

/* Says who the thread is, once per thread and again after an exec, a change of user or of name. */
ALWAYS void describe_task(struct settings *set, struct thread *t, void *task, u32 ring, u64 pid_tgid, u64 now)
{
	struct task_record *r = (void *)t->buf;
	void *leader, *parent, *mm, *cred;
	u64 arg_start = 0, arg_end = 0, size;

	__builtin_memset(r, 0, __builtin_offsetof(struct task_record, text));
	r->h.kind = REC_TASK;
	r->h.flags = t->wanted ? REC_WANTED : 0;
	r->h.time = now;
	r->h.task = new_id(now);
	r->h.tid = (u32)pid_tgid;
	r->h.tgid = pid_tgid >> 32;
	r->uid = t->uid;
	r->real_uid = t->real_uid;
	if (!read_kernel(&cred, sizeof(cred), task + TASK_CRED))
		read_kernel(&r->gid, sizeof(r->gid), cred + CRED_EGID);
	r->cgroup = bpf_get_current_cgroup_id();
	__builtin_memcpy(r->comm, t->comm, sizeof(r->comm));
	if (!read_kernel(&leader, sizeof(leader), task + TASK_GROUP_LEADER)) {
		read_kernel(&r->start, sizeof(r->start), leader + TASK_START_BOOTTIME);
		if (!read_kernel(&parent, sizeof(parent), leader + TASK_REAL_PARENT))
			read_kernel(&r->ppid, sizeof(r->ppid), parent + TASK_TGID);
	}
	r->loginuid = ~0U;
#ifdef TASK_LOGINUID
	read_kernel(&r->loginuid, sizeof(r->loginuid), task + TASK_LOGINUID);
#endif
	if (!read_kernel(&mm, sizeof(mm), task + TASK_MM) && mm) {
		read_kernel(&arg_start, sizeof(arg_start), mm + MM_ARG_START);
		read_kernel(&arg_end, sizeof(arg_end), mm + MM_ARG_END);
	}
	size = arg_end - arg_start;
	if (arg_end <= arg_start)
		size = 0;
	else if (size > CMDLINE)
		size = CMDLINE;
	HIDE(size);
	size &= 2 * CMDLINE - 1;
	if (size > CMDLINE)
		size = CMDLINE;
	if (size && read_block(r->text, size, arg_start))
		size = 0;
	r->cmdline = size;
	size = (size + __builtin_offsetof(struct task_record, text) + 7) & ~7ULL;
	size &= 2 * CMDLINE - 1;
	if (output_fairly(t, RING_TASK, r, size, false)) {
		t->task = 0;		/* the next hit tries again; until then the reader asks /proc */
		t->known = 0;
		count(set, loser(t), ring, LOST_TASK, 1);
		return;
	}
	t->task = r->h.task;
	t->known = 1;
}

struct comm {
	u64 half[2];
};

/* The thread's state, up to date with who it is, which is told if it is wanted or the plan asks for it; NULL: nothing to do for this hit. */
ALWAYS struct thread *get_thread(struct settings *set, u32 ring, u32 plan_flags, u64 pid_tgid, u64 now)
{
	void *task = current_task(), *cred;
	struct thread *t = task_storage(MAP(FD_THREADS), task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct comm comm, *old;
	u32 exec_id, uid, real_uid;

	bpf_get_current_comm(&comm, sizeof(comm));
	exec_id = *(u32 *)(task + TASK_EXEC_ID);
	cred = *(void **)(task + TASK_CRED);
	uid = *(u32 *)(cred + CRED_EUID);	/* the host's number, and 70 ns less than the helper */
	real_uid = *(u32 *)(cred + CRED_UID);
	if (!t) {
		if ((plan_flags & (PLAN_WANTED | PLAN_PRIVATE)) == PLAN_WANTED &&
		    passes(set, task, (void *)&comm, pid_tgid >> 32, uid))
			count(set, USER_OTHERS, ring, LOST_THREAD, 1);
		return 0;
	}
	plan_flags &= PLAN_SERVES | PLAN_ALWAYS;
	old = (void *)t->comm;
	if (t->known && t->exec_id == exec_id && t->uid == uid && t->real_uid == real_uid && old->half[0] == comm.half[0] &&
	    old->half[1] == comm.half[1] && (t->task || !plan_flags))
		return t;
	if (t->exec_id != exec_id) {
		t->frames = 0;
		t->serving = t->unarmed_sp = t->jump_sp = 0;
		t->once[0] = t->once[1] = 0;
		t->exec_id = exec_id;
	}
	t->uid = uid;
	t->real_uid = real_uid;
	t->user = find_user(uid);
	t->rings = uid ? RINGS : 0;
	t->tid = (u32)pid_tgid;
	t->tgid = pid_tgid >> 32;
	*old = comm;
	t->wanted = passes(set, task, t->comm, pid_tgid >> 32, uid);
	t->known = 1;
	t->task = 0;
	if (t->wanted || plan_flags)
		describe_task(set, t, task, ring, pid_tgid, now);
	return t;
}

#define FIELD(t, offset, type) (*(type *)((t)->buf + ((offset) & (FIXED - 1) & ~(sizeof(type) - 1))))

/* One string of at most `keep` bytes into the variable part; returns what its length slot says. */
ALWAYS s32 take_string(struct thread *t, u64 address, u32 keep)
{
	struct capture *c = &t->capture;
	u32 at = c->pos;
	long n;

	if (at > RECORD - INLINE_MAX - 16) {
		c->flags |= REC_TRUNCATED;
		return STR_NO_ROOM;
	}
	HIDE(at);
	at &= RECORD - 1;
	if (keep > INLINE_MAX)
		keep = INLINE_MAX;
	HIDE(keep);
	keep &= 2 * INLINE_MAX - 1;
	n = read_string(t->buf + at, keep + 1, address);
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
	u32 step;

	c->pos = p->fixed;
	c->next = 0;
	c->bad = c->flags = c->names = c->longs = 0;
	if (t->generation != set->generation) {
		t->generation = set->generation;
		t->once[0] = t->once[1] = 0;
	}
	c->once[0] = t->once[0];
	c->once[1] = t->once[1];

	for (step = 0; step < MAX_OPS; step++) {
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
			u32 which = op->keep & (ONCES - 1);

			c->once[which] = address;
			FIELD(t, op->dst, s32) = 0;
			if (address && address == t->once[which]) {
				FIELD(t, op->dst, s32) = STR_SAME;
				c->next += op->len;
			} else if (address) {
				c->flags |= REC_ONCE;
			}
		} else if (op->kind == OP_STRING) {
			s32 n = 0;

			if (op->then && FIELD(t, op->src - 8, u32) != op->then) {
				n = STR_NULL;
			} else if (address) {
				n = take_string(t, address + op->off, op->len);
				if (n == STR_UNREADABLE)
					c->bad |= 1U << i;
				else if (n >= op->len)
					t->longs[c->longs++ & (MAX_OPS - 1)] = i;
				if (n > 0 && p->objects >> i & 1)
					t->names[c->names++ & (MAX_NAMES - 1)] = c->pos - ((n + 8) & ~7UL);
			}
			FIELD(t, op->dst, s32) = n;
		}
	}
}

/*
 * Choices without a branch, which the verifier would follow both ways in every round of a loop: all ones if x < 0, else 0; and
 * what can be made of it. HIDE() keeps the compiler from finding the branch again.
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

/* What chunks took, sent or lost. Each branch here, and whatever stays in a register meanwhile, would cost the verifier a loop's time. */
ALWAYS void account(const struct thread *t)
{
	u32 user = t->follow.user, loser = t->follow.loser, ring = t->chunk.h.flags & REC_WRITE_RING;
	struct user *u = map_lookup(MAP(FD_USERS), &user), *l = map_lookup(MAP(FD_USERS), &loser);

	if (u)
		__sync_fetch_and_add(&u->flow[ring].now, t->follow.bytes);
	if (l)
		__sync_fetch_and_add(&l->lost[ring * COUNTERS + LOST_CHUNK], t->follow.lost);
}

/*
 * What did not fit into the call's own record: the rest of long strings, up to `keep`, and how long they are.
 * The loop's state is in memory, of which the verifier assumes nothing: its rounds look alike to it.
 */
ALWAYS void follow_strings(struct thread *t, const struct plan *p, u32 ring)
{
	struct follow *w = &t->follow;
	struct chunk *c = &t->chunk;
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
		data = (data + __builtin_offsetof(struct chunk, text) + 7) & ~7U;
		HIDE(data);
		data &= 2 * CHUNK - 1;
		w->bytes += data;
		w->lost -= if_negative(ring_output(out, c, data, BPF_RB_NO_WAKEUP));
	}
}

/* What a walk has put together so far goes out. */
ALWAYS void send_walked(struct thread *t, void *out, u32 row)
{
	struct walk *w = &t->walk;
	struct chunk *c = &t->chunk;
	u64 size = w->pos;

	c->h.row = row;
	c->offset = w->sent;
	c->got = size;
	w->sent += size;
	w->pos = 0;
	size += __builtin_offsetof(struct chunk, text);
	HIDE(size);
	size &= 2 * CHUNK - 1;
	t->follow.bytes += size;
	t->follow.lost -= if_negative(ring_output(out, c, size, BPF_RB_NO_WAKEUP));
}

/* The operations behind the plan's first OP_END, see struct op. State is in memory, for the reason that follow_strings() gives. */
ALWAYS void walk(struct thread *t, const struct plan *p, u32 ring)
{
	struct walk *w = &t->walk;
	struct chunk *c = &t->chunk;
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
			more = (if_negative(n) & op->off) | (~not_0(address) & op->keep);
			w->next = pick(more, op->len, op->then);
			n = at_least_0(n) * at_least_0(FIELD(t, op->len, s32));
			FIELD(t, op->dst, u64) = smaller(n, 0x7fffffff);
			continue;
		}
		item->count = FIELD(t, op->len, s32);
		if (kind == OP_STRING) {
			address += (op->off + w->done) & not_0(address);
			n = read_string(item + 1, WALK_PIECE + 1, address);
			more = if_negative(n);
			n = pick(more, pick(not_0(address), STR_UNREADABLE, STR_NULL), at_least_0(n - 1));
			size = at_least_0(smaller(n, (s64)op->keep - w->done));
			w->done += WALK_PIECE;
			more = if_negative(WALK_PIECE - 1 - n) & if_negative((s64)w->done - LENGTH_LIMIT);
			w->done &= more;
			w->next = pick(more, op - p->ops, op->then);
		} else if (kind == OP_ARRAY) {
			n = smaller((at_least_0((s32)item->count) * op->dst + 7) >> 3, op->keep);
			size = n & not_0(address);
			HIDE(size);
			size &= WALK_FULL - 1;
			more = read_block(item + 1, size, address + op->off);
			size &= ~if_negative(more);
			n = pick(not_0(address), pick(if_negative(more), STR_UNREADABLE, n), STR_NULL);
		} else if (kind == OP_LIST) {
			n = op->len ? smaller(at_least_0((s32)item->count), op->keep) : op->keep;
			n &= not_0(address);
			FIELD(t, op->dst, u64) = address - op->off;
			FIELD(t, op->dst + 8, u32) = n;
			n |= STR_NULL & ~not_0(address);
			size = 0;
		} else {
			size = op->len;
			dst = op->dst & (FIXED - 1);
			if (kind == OP_ELEMENT) {
				u32 left = FIELD(t, op->src + 8, u32);

				if (!left) {
					w->next = op->keep;
					continue;
				}
				FIELD(t, op->src + 8, u32) = left - 1;
				address += size;
				FIELD(t, op->src, u64) = address;
				size = op->off;
			} else {
				address += op->off & not_0(address);
			}
			HIDE(size);
			size &= FIXED - 1;
			more = if_negative(read_block(t->buf + dst, size, address));
			n = pick(more, pick(not_0(address), STR_UNREADABLE, STR_NULL), size);
			read_kernel(item + 1, size, t->buf + dst);
			if (more)
				read_kernel(t->buf + dst, size, 0);	/* zeros: what hangs on it must read as NULL */
			size &= ~more;
		}
		/* through memory: else every way to here would go on as a state of its own */
		item->got = n;
		item->address = address;
		w->pos = at + ((size + sizeof(*item) + 7) & ~7U);
		FORGET();
		op = &p->ops[w->next & (MAX_OPS - 1)];
		more = not_0((s64)FIELD(t, op->dst, u32) - op->len) & -(s64)(op->kind >> 7);
		w->next = pick(more, op->then, w->next);
	}
	send_walked(t, out, WALK_LAST);
}

/*
 * Whether a name in the record matches one of the object globs, run as one automaton: a bit of `state` is a place in a pattern.
 * Its memory is the thread's, for the reason that follow_strings() gives.
 */
ALWAYS bool object_matches(const struct settings *set, struct thread *t)
{
	struct follow *w = &t->follow;

	w->next = 0;
	w->offset = t->names[0];
	w->address = set->glob_start;
	FOR_STEPS(t, MAX_NAMES * 64) {
		u32 byte;
		u64 *accepts, stay;

		if (w->next >= t->capture.names)
			return false;
		byte = t->buf[w->offset++ & (RECORD - 1)];
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
	account(t);		/* only now: each branch before a loop would double what the verifier goes through */
}

ALWAYS long send(struct thread *t, u32 ring, u32 plan_flags, bool ends)
{
	u64 size = t->capture.pos;

	HIDE(size);
	size &= RECORD - 1;
	if (output_fairly(t, plan_flags & (PLAN_SERVES | PLAN_SERVED) ? RING_TASK : ring & 1, t->buf, size, ends))
		return -1;
	t->once[0] = t->capture.once[0];
	t->once[1] = t->capture.once[1];
	return 0;
}

/* Whether the function whose return slot is at `sp` was jumped to by one with a return probe: it returns to the kernel's page. */
ALWAYS bool is_tail_call(u64 sp, u32 plan_flags)
{
	void *task = (void *)bpf_get_current_task(), *mm = 0, *area = 0;
	u64 slot = 0, page = 0;

	if (read_kernel(&mm, sizeof(mm), task + TASK_MM) || read_kernel(&area, sizeof(area), mm + MM_XOL_AREA) || !area ||
	    read_kernel(&page, sizeof(page), area + XOL_VADDR) || read_user(&slot, sizeof(slot), sp))
		return false;
	if (plan_flags & PLAN_32BIT)
		slot = (u32)slot;
	return slot - page < 4096;
}

#ifdef SESSION
/*
 * Frames are those of return probes that the kernel has, and of the enforcer. Where the kernel has none, the call was not armed for
 * lack of memory.
 */
ALWAYS void drop_dead_frames(struct thread *t, u64 sp, bool armed)
{
	u32 n = t->frames;
	struct frame *f = &t->frame[(n - 1) & (MAX_FRAMES - 1)];

	if (n && f->row == ROW_LOOKING && f->sp <= sp)
		t->frames = n - 1;
	else if (n && f->row != ROW_LOOKING && !armed)
		t->frames = 0;
	FORGET();
}

/* Of the last return probe that is armed in the thread: where its return address is; 0: none is. */
ALWAYS u64 armed_at(void *task)
{
	void *state = *(void **)(task + TASK_UTASK), *last;

	if (!state)
		return 0;
	last = *(void **)(state + UTASK_RETURNS);
	return last ? *(u64 *)(last + RETURN_STACK) : 0;
}

/* Whether the call at sp may have a return probe, inside the one of frame f (NULL: none), while the last one is armed at `armed`. */
ALWAYS bool may_arm(const struct settings *set, const struct thread *t, struct frame *f, u64 sp, u64 armed, u32 plan_flags, u32 depth)
{
	if (!armed)
		return true;
	if (!f || f->row == ROW_LOOKING || f->sp != armed || f->sp - sp - 1 >= NEAR)
		return false;
	if (plan_flags & PLAN_PRIVATE)
		return true;		/* returns before anything else runs */
	if (f->flags & FRAME_SERVES || t->serving)
		return true;		/* a daemon's threads have one stack each */
	return set->nested && depth && !(f->flags & FRAME_CROSSED);
}

/* The call that the one at sp is inside of, as far as can be seen; NULL: none. */
ALWAYS struct frame *enclosing(struct thread *t, u64 sp, u32 plan_flags)
{
	u32 n = t->frames;
	struct frame *f = &t->frame[(n - 1) & (MAX_FRAMES - 1)];

	if (!n || f->sp < sp || (f->sp == sp && !is_tail_call(sp, plan_flags)))
		return 0;		/* on another stack, or dead */
	return f;
}

/* Takes away the frame of the call that returns, and what is above it; NULL: it is none that was seen to begin. */
ALWAYS struct frame *pop_frame(struct thread *t, u64 sp, u32 row)
{
	u32 i, n = t->frames;

	for (i = 0; i < MAX_FRAMES; i++) {
		struct frame *f = &t->frame[--n & (MAX_FRAMES - 1)];

		if (n >= MAX_FRAMES)
			break;
		if (f->sp == sp && f->row == row) {
			t->frames = n;
			return f;
		}
	}
	return 0;
}
#else
ALWAYS struct frame *enclosing(struct thread *t, u64 sp, u32 plan_flags)
{
	return t->frames ? &t->frame[(t->frames - 1) & (MAX_FRAMES - 1)] : 0;
}

/* Drops the frames of calls that will not return: the stack is above them, or another call uses their place on it. */
ALWAYS void drop_dead_frames(struct thread *t, u64 sp, u32 plan_flags)
{
	u32 i;

	for (i = 0; i < MAX_FRAMES; i++) {
		u32 n = t->frames;
		struct frame *f = &t->frame[(n - 1) & (MAX_FRAMES - 1)];

		if (!n || f->sp > sp)
			break;
		if (f->sp == sp && f->row != ROW_LOOKING) {
			if (is_tail_call(sp, plan_flags))
				break;
		}
		t->frames = n - 1;
		FORGET();
	}
	FORGET();
}

/* Pops the frame of the call that returns, and those of inner calls that did not; NULL: it is none that was seen to begin. */
ALWAYS struct frame *pop_frame(struct thread *t, u64 sp, u32 row)
{
	u32 i, found = 0;

	for (i = 0; i < MAX_FRAMES; i++) {
		u32 n = t->frames - 1;
		struct frame *f = &t->frame[n & (MAX_FRAMES - 1)];

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
	return found ? &t->frame[t->frames & (MAX_FRAMES - 1)] : 0;
}
#endif

/* Whether the address is in the text of the library that the function is in. */
ALWAYS bool is_in_text(struct pt_regs *ctx, u64 cookie, u64 address)
{
	return address - (ctx->ip - (u32)(cookie >> 16)) < (cookie >> 48) << 16;
}

/* Where an entry of a linkage table finds the address to jump to; 0: there is no such entry. */
ALWAYS u64 slot_of(struct pt_regs *ctx, u64 entry)
{
	u64 code = 0;

	read_user(&code, sizeof(code), entry);
	if ((u32)code == 0xfa1e0ff3 || (u32)code == 0xfb1e0ff3) {	/* endbr64, endbr32 */
		entry += 4;
		read_user(&code, sizeof(code), entry);
	}
	if ((u8)code == 0xf2) {		/* bnd */
		entry++;
		code = 0;
		read_user(&code, sizeof(code), entry);
	}
	if ((u16)code == 0x25ff)	/* jmp *distance(%rip) */
		return entry + 6 + (s32)(code >> 16);
	if ((u16)code == 0xa3ff)	/* jmp *distance(%ebx), of a 32-bit library */
		return (u32)(ctx->bx + (s32)(code >> 16));
	return 0;
}

/*
 * Whether the function was called by the library that it is in; cookie: plan row, offset in the text, size of the text. A return
 * address there is not enough: a callback of the program that ends in a jump to the function leaves libvirt's, but libvirt called
 * something else: the callback, or an inner function that ended in a jump to it. So the instruction there must be a call of this very
 * function, but for plumbing, which inner functions end in a jump to as well.
 */
ALWAYS bool called_by_library(struct pt_regs *ctx, u64 cookie, u32 plan_flags)
{
	u64 caller = 0, text = ctx->ip - (u32)(cookie >> 16), size = (cookie >> 48) << 16, slot, target;
	struct {
		u8 zero, prefix, code, mode;
		s32 distance;
	} call = {};			/* the instruction, right-aligned */

	read_user(&caller, sizeof(caller), ctx->sp);
	if (plan_flags & PLAN_32BIT)
		caller = (u32)caller;
	if (caller - text >= size || read_user(&call.prefix, 7, caller - 7))
		return false;
	target = caller + call.distance;
	if (call.mode == 0xe8) {	/* call function: a local one or its entry in the linkage table */
		if (target == ctx->ip)
			return true;
		if (target - text >= size)
			return false;
		if (plan_flags & PLAN_PLUMBING)
			return true;
		slot = slot_of(ctx, target);
	} else if (call.code == 0xff && call.mode == 0x15) {	/* call *distance(%rip): the linkage table's slot, which is near */
		if (plan_flags & PLAN_PLUMBING)
			return call.distance + (1 << 27) >= 0 && call.distance < 1 << 27;
		slot = target;
	} else {
		return false;
	}
	target = 0;
	if (!slot || read_user(&target, plan_flags & PLAN_32BIT ? 4 : 8, slot))
		return false;
	return target == ctx->ip;
}

/*
 * Whether a function that is entered inside the call of frame f was called by libvirt, or by the enforcer that is looking for what the
 * call is about. Where nothing tells, it was the program: a call too many is better than one that hides.
 */
ALWAYS bool is_inner(struct pt_regs *ctx, u64 cookie, u32 plan_flags, const struct frame *f)
{
	u64 caller = 0;

	if (f->row == ROW_LOOKING) {
		read_user(&caller, sizeof(caller), ctx->sp);
		if (caller - f->args[0] < f->args[1])
			return true;
	}
	if (f->sp == ctx->sp)		/* jumped to; the return address is a page of the kernel's */
		return plan_flags & PLAN_PLUMBING || (plan_flags & PLAN_JUMPS && f->flags & FRAME_JUMPS);
	return called_by_library(ctx, cookie, plan_flags);
}

/* Whether the plan's condition makes this a call that only reads. */
ALWAYS bool only_reads(const struct plan *p, struct pt_regs *ctx)
{
	u32 value = ctx->di, second = ctx->si, third = ctx->dx, fourth = ctx->cx;

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
	u64 cookie = attach_cookie(ctx), pid_tgid = bpf_get_current_pid_tgid(), now;
	u32 row = cookie & 0xffff, n, flags = 0, record_flags = 0, ring, wanted, zero = 0;
	struct settings *set = map_lookup(MAP(FD_SETTINGS), &zero);
	struct plan *p = map_lookup(MAP(FD_ENTRY_PLANS), &row);
	struct thread *t;
	struct frame *f;
	struct entry *e;
	bool returns, jumped = false;
	u8 depth = 0;
#ifdef SESSION
	u64 armed;
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
	now = bpf_ktime_get_ns();
	t = get_thread(set, ring, wanted ? p->flags : p->flags & ~PLAN_WANTED, pid_tgid, now);
	if (!t || (!t->wanted && !t->serving && !(p->flags & (PLAN_SERVES | PLAN_ALWAYS))))
		return false;
	returns = !(p->flags & PLAN_NO_RETURN);
#ifdef SESSION
	armed = armed_at(current_task());
	drop_dead_frames(t, ctx->sp, armed);
	jumped = t->jump_sp == ctx->sp && p->flags & PLAN_JUMPS;
	if (t->unarmed_sp <= ctx->sp)
		t->unarmed_sp = 0;
#else
	drop_dead_frames(t, ctx->sp, p->flags);
#endif
	if (t->serving_sp <= ctx->sp)
		t->serving = 0;		/* its return had no probe, or was not seen */
	e = (void *)t->buf;
	e->caller = 0;
	f = enclosing(t, ctx->sp, p->flags);
	if (f) {
		flags = f->flags & FRAME_INSIDE;
		depth = f->depth + !(f->flags & FRAME_PRIVATE);
		if (p->flags & PLAN_PRIVATE) {
			ring = f->ring;
		} else if (!jumped && !is_inner(ctx, cookie, p->flags, f)) {
			if (depth) {	/* a return address in the library itself was refused, and is none of another one */
				read_user(&e->caller, p->flags & PLAN_32BIT ? 4 : 8, ctx->sp);
				record_flags = is_in_text(ctx, cookie, e->caller) ? 0 : REC_CALLER;
			}
			depth = 0;
		}
	} else if (!(p->flags & PLAN_PRIVATE)) {	/* no frames tell */
		depth = jumped || called_by_library(ctx, cookie, p->flags);
		if (!depth && t->unarmed_sp) {
			read_user(&e->caller, p->flags & PLAN_32BIT ? 4 : 8, ctx->sp);
			record_flags = is_in_text(ctx, cookie, e->caller) ? 0 : REC_CALLER;
		}
	}
	if (p->flags & PLAN_PRIVATE) {
		if (p->flags & PLAN_SERVES) {
			t->serving = new_id(bpf_ktime_get_ns());
			t->serving_sp = ctx->sp;
			flags |= FRAME_SERVES;
		} else if (p->flags & PLAN_SERVED ? !t->serving || !ctx->di : !flags && !(p->flags & PLAN_ALWAYS)) {
			return false;
		}
		flags |= FRAME_PRIVATE | FRAME_WANTED;
	} else if (wanted && (!depth || set->nested)) {
		flags |= FRAME_WANTED | FRAME_INSIDE;
	}
	if (p->flags & PLAN_JUMPS)
		flags |= FRAME_JUMPS;
	n = t->frames;
#ifdef SESSION
	returns = returns && n < MAX_FRAMES && (flags & FRAME_WANTED || p->flags & PLAN_OPENS);
	returns = returns && may_arm(set, t, f, ctx->sp, armed, p->flags, depth);
	if (!(p->flags & PLAN_PRIVATE)) {
		t->jump_sp = !returns && p->flags & PLAN_JUMPS ? ctx->sp : 0;
		if (!returns && !t->unarmed_sp)
			t->unarmed_sp = ctx->sp;
		if (!returns && !depth && n)
			t->frame[(n - 1) & (MAX_FRAMES - 1)].flags |= FRAME_CROSSED;
		if (!returns && p->flags & PLAN_OPENS)
			__sync_fetch_and_add(&set->generation, 1);
	}
#else
	/* The kernel arms no more return probes than there are frames: a call that is deeper has a record, but no end. */
	returns = returns && n < MAX_FRAMES;
#endif
	if (!returns)
		record_flags |= REC_UNARMED;
	FORGET();
	n = t->frames;
	f = &t->frame[n & (2 * MAX_FRAMES - 1)];
	f->sp = ctx->sp;
	f->time = now;
	f->row = row;
	f->depth = depth;
	f->ring = ring;
	f->flags = flags;
	f->record_flags = record_flags;
	f->returns = returns;
	FORGET();		/* or each way to here would go on as a state of its own */
	ring = f->ring;
	flags = f->flags;
	record_flags = f->record_flags;
	if (p->flags & PLAN_KEEP_ARGS) {
		f->args[0] = ctx->di;
		f->args[1] = ctx->si;
		f->args[2] = ctx->dx;
		f->args[3] = ctx->cx;
		f->args[4] = ctx->r8;
		f->args[5] = ctx->r9;
	}
	t->rest = 0;
	if (flags & FRAME_WANTED) {
		e->h.kind = REC_ENTRY;
		e->h.depth = f->depth;
		e->h.flags = ring | record_flags | n << REC_LEVEL | (t->serving ? REC_SERVING : 0) | (t->wanted ? REC_WANTED : 0);
		e->h.row = row;
		e->h.time = now;
		e->h.task = t->serving ? t->serving : t->task;
		e->h.tid = (u32)pid_tgid;
		e->h.tgid = pid_tgid >> 32;
		e->h.seq = f->seq = ++t->seq;
		e->args[0] = ctx->di;
		e->args[1] = ctx->si;
		e->args[2] = ctx->dx;
		e->args[3] = ctx->cx;
		e->args[4] = ctx->r8;
		e->args[5] = ctx->r9;
		e->sp = ctx->sp;
		e->h.flags |= t->verdict_lost;
		t->verdict_lost = 0;
		FORGET();
		if (p->flags & PLAN_SERVES)
			e->sp = t->task;
		run_plan(set, t, p);
		e->h.bad = t->capture.bad;
		e->h.flags |= t->capture.flags | (t->capture.longs || p->walk ? REC_LONG : 0);
		if (set->object && !(p->flags & (PLAN_PRIVATE | PLAN_NO_OBJECT)) && !(t->capture.bad & p->objects) &&
		    !object_matches(set, t)) {
			flags &= ~(FRAME_WANTED | FRAME_INSIDE);
#ifdef SESSION
			if (!(p->flags & PLAN_OPENS))
				f->returns = 0;
			if (!t->unarmed_sp)
				t->unarmed_sp = ctx->sp;
#endif
		} else if (send(t, ring, p->flags, false)) {
			count(set, loser(t), ring, p->flags & PLAN_PRIVATE ? LOST_PRIVATE : LOST_ENTRY, 1);
			flags |= FRAME_ENTRY_LOST;
			if (p->flags & PLAN_PRIVATE)
				t->inner_lost = now;
			else if (!f->returns)
				count(set, loser(t), ring, LOST_BOTH, 1);
		} else {
			t->rest = t->capture.longs | p->walk;
		}
	}
	if (p->flags & PLAN_SERVES)
		flags &= ~FRAME_WANTED;		/* its end has no record, and says nothing of calls in it */
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
	struct frame *f;
	struct ret *r;

	OWN_STACK();
	if (!set || !p || !t)
		return;			/* no thread: the call was under way when the probes came, or before a fork */
	if (p->flags & PLAN_OPENS)
		__sync_fetch_and_add(&set->generation, 1);
	if (p->flags & PLAN_SERVES)
		t->serving = 0;
	f = pop_frame(t, ctx->sp - (p->flags & PLAN_32BIT ? 4 : 8), row);
	if (!f || !(f->flags & FRAME_WANTED))
		return;
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
	r->value = ctx->ax;
	if (f->flags & FRAME_ENTRY_LOST)
		r->h.flags |= REC_ENTRY_LOST;
	if (t->inner_lost >= f->time)
		r->h.flags |= REC_INNER_LOST;
	run_plan(set, t, p);
	r->h.bad = t->capture.bad;
	r->h.flags |= t->capture.flags | (t->capture.longs || p->walk ? REC_LONG : 0);
	if (send(t, f->ring, 0, true)) {
		count(set, loser(t), f->ring, f->flags & FRAME_PRIVATE ? LOST_PRIVATE : f->flags & FRAME_ENTRY_LOST ? LOST_BOTH : LOST_RETURN, 1);
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
	if (function_ip(ctx) == ctx->ip)
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
 * The enforcer's verdict on a call. One that goes on is told by its sp from then on; one that was denied never reaches its function,
 * so its arguments are copied here, by the same plan.
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
	struct frame *f;
	struct entry *e;

	OWN_STACK();
	if (!set || !set->ready || !p || pid_tgid >> 32 == set->self || read_block(&v, sizeof(v), ctx->di))
		return 0;
	if (v.sp - ctx->sp > SP_REACH)
		return 0;		/* no verdict on a call of this thread */
	of_function = map_lookup(MAP(FD_VERDICT_ROWS), &v.number);
	if (!of_function || *of_function > 0xffff)
		return 0;
	row = *of_function;
	call = map_lookup(MAP(FD_ENTRY_PLANS), &row);
	now = bpf_ktime_get_ns();
	if (!call)
		return 0;
	/* a call that goes on is counted at its own entry */
	t = get_thread(set, RING_WRITE, v.action == VERDICT_DENY ? call->flags & PLAN_WANTED : 0, pid_tgid, now);
	if (!t || (!t->wanted && !t->serving))
		return 0;
	n = t->frames;
	f = &t->frame[(n - 1) & (MAX_FRAMES - 1)];
	if (v.action == VERDICT_LOOKING) {
		/* a frame for the enforcer: the calls that it makes are inside of it */
		if (n >= MAX_FRAMES)
			return 0;
		f = &t->frame[n & (MAX_FRAMES - 1)];
		f->sp = v.sp;
		f->row = ROW_LOOKING;
		f->args[0] = ctx->ip - (u32)(cookie >> 16);
		f->args[1] = (cookie >> 48) << 16;
		f->depth = n ? t->frame[(n - 1) & (MAX_FRAMES - 1)].depth : 0;
		f->flags = 0;
		t->frames = n + 1;
		return 0;
	}
	if (n && f->row == ROW_LOOKING && f->sp == v.sp)
		t->frames = n - 1;
	if (!(call->flags & PLAN_WANTED))
		return 0;
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
	e->args[0] = ctx->di;
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
	e->args[0] = v.args[0];
	e->args[1] = v.args[1];
	e->args[2] = v.args[2];
	e->args[3] = v.args[3];
	e->args[4] = v.args[4];
	e->args[5] = v.args[5];
	run_plan(set, t, call);
	e->h.bad = t->capture.bad;
	e->h.flags |= t->capture.flags;
#ifdef MAY_GOTO			/* else the verifier would take as long for this as for all the rest */
	if (t->capture.longs | call->walk)
		e->h.flags |= REC_LONG;
#endif
	if (set->object && !(call->flags & PLAN_NO_OBJECT) && !(t->capture.bad & call->objects) && !object_matches(set, t))
		return 0;
	if (send(t, RING_WRITE, 0, false)) {
		count(set, loser(t), RING_WRITE, LOST_ENTRY, 1);	/* of which there will be no return */
		count(set, loser(t), RING_WRITE, LOST_BOTH, 1);
		return 0;
	}
#ifdef MAY_GOTO
	if (t->capture.longs | call->walk)
		send_rest(t, call, RING_WRITE);
#endif
	return 0;
}
