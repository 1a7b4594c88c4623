/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/*
 * What the program and its reader share: bytes of plans, settings and records.
 * probes/kernel/records.py mirrors them.
 */

#define MAX_OPS 32
#define MAX_FRAMES 64		/* the kernel nests at most 64 return probes */
#define FIXED 512		/* bytes of a record at places known from the plan alone */
#define RECORD 6656		/* bytes of a record, at most; with strings behind the fixed part */
#define CHUNK 4088		/* bytes of text in a chunk, at most */
#define CHUNK_MASK 4095
#define MAX_NAMES 8
#define INLINE_MAX 1024		/* bytes of a string in its call's own record, at most */

#ifdef MAY_GOTO
#define WALK_STEPS 16384
#else
#define WALK_STEPS 128		/* the verifier goes through each, which takes a millisecond */
#endif
#define WALK_PIECE 2032		/* bytes of a string or an array in a step of a walk, at most */
#define WALK_FULL 2048		/* bytes of a walk's record that leave no room for another step */
#define WALK_MORE MAX_OPS	/* in place of an operation, in the records of a walk; the last one
				   is WALK_LAST */
#define WALK_LAST (MAX_OPS + 1)

enum op_kind {
	OP_END, OP_BLOCK, OP_STRING, OP_ONCE, OP_LIST, OP_ELEMENT, OP_ARRAY, OP_LEAVE, OP_PRODUCT
};
#define OP_IF 128		/* with OP_STRING in a walk */
enum record_kind { REC_ENTRY = 1, REC_RETURN, REC_CHUNK, REC_TASK, REC_VERDICT, REC_DENIED };
enum plan_flag {
	PLAN_WRITE_RING = 1,	/* records go to the ring of calls that change something, unless
				   `condition` tells otherwise */
	PLAN_WANTED = 2,	/* not filtered out by function */
	PLAN_PRIVATE = 4,	/* an inner function: recorded only inside a wanted call, no level
				   of depth */
	PLAN_NO_RETURN = 8,	/* has no return probe */
	PLAN_JUMPS = 16,	/* one of libvirt's that ends in a jump to another such one, or that
				   other one */
	PLAN_KEEP_ARGS = 32,	/* the return plan needs the entry's argument registers */
	PLAN_NO_OBJECT = 64,	/* the object is known at return only: the object filter can't
				   decide at entry */
	PLAN_OPENS = 128,	/* makes a connection: what is at an address may have become another
				   one */
	PLAN_32BIT = 256,	/* of a 32-bit library: return addresses have four bytes */
	PLAN_SERVES = 512,	/* PRIVATE: what runs in it is done for somebody else: its record,
				   in the ring of tasks, begins to say for whom */
	PLAN_SERVED = 1024,	/* PRIVATE: its record, in the ring of tasks, goes on to say so,
				   unless its first argument is NULL */
	PLAN_ALWAYS = 2048,	/* PRIVATE: recorded outside of calls too, and of every process */
	PLAN_PLUMBING = 4096,	/* changes nothing: where it can't be told who called it, it was
				   libvirt */
	PLAN_AFTER = 8192,	/* of returns: told of by where its callers go on */
};
enum record_flag {
	REC_WRITE_RING = 1,
	REC_ENTRY_LOST = 2,
	REC_UNARMED = 2,	/* on entry: has no return probe */
	REC_LONG = 4,		/* chunks of long strings follow, unless they were lost */
	REC_TRUNCATED = 8,	/* the variable part was full before the plan's end */
	REC_ONCE = 16,		/* has something that is sent once: calls inside this one rely on
				   it, and end before it */
	REC_SERVING = 32,	/* made for somebody else: `task` is that of a PLAN_SERVES */
	REC_CALLER = 64,	/* made inside another call, not by the function's own library:
				   `caller` says by whom */
	REC_INNER_LOST = 128,	/* a record that belongs to the call was lost: on entry its verdict,
				   on return one of an inner function */
	/*
	 * REC_ENTRY, in six bits of the upper byte: calls around it that were probed; those on its
	 * level or above will not return
	 */
	REC_LEVEL = 8,
	REC_WANTED = 1 << 15,	/* by a process that passes the filters; else it is for the reader
				   to tell */
};
enum counter {			/* per user, of reads and of writes */
	LOST_ENTRY, LOST_RETURN, LOST_BOTH, LOST_CHUNK, LOST_PRIVATE, LOST_THREAD, LOST_TASK,
	COUNTERS = 8
};
/*
 * Rings: of calls that only read, of those that change something, of tasks. Root has three, and all
 * others have three, so that no user can fill root's. What one of the others has on its way in a
 * ring is at most half of what is still free there: however many fill it, there is room for the
 * next. So it is with what root's daemons do for others, in root's rings.
 */
enum ring { RING_READ, RING_WRITE, RING_TASK, RINGS };

/* lengths of a string that are no lengths */
#define STR_UNREADABLE -1
#define STR_NO_ROOM -2
#define STR_SAME -3		/* ONCE: this thread has sent what is at this address, and it has
				   not changed */
#define STR_NULL -4		/* of a walk: the address is NULL */
#define ONCES 2			/* addresses that a thread remembers to have sent */

/*
 * Operations behind the plan's first OP_END are a walk: what does not fit into the call's own
 * record, or is not known to be there before other things were read. Theirs is the fixed part, as
 * registers, after the record was sent; `then` is the operation that follows. What they copy goes
 * out in records of its own, in order, each thing behind a struct item. BLOCK and STRING are as
 * above, and:
 * LIST	address of a list at src, number of elements (s32) at COUNT, 0: a NULL ends it; at
 *	most `keep` are taken; dst: where the address of the element and (u32, 8 behind it) the
 *	number of those left are kept
 * ELEMENT	the next one of the list at src: ELEMENT_BYTES of it to dst; none left: go on at
 *		ELEMENT_END
 * ARRAY	ARRAY_BITS times the number (s32) at COUNT, in all at most `keep` bytes
 * LEAVE	go on at LEAVE_TO if the u64 at src is 0 (LEAVE_IF_NULL), or the s32 there is
 *		negative (LEAVE_IF_NEGATIVE)
 * PRODUCT	of the numbers (s32) at src and COUNT, to dst
 * STRING	with OP_IF: only where the u32 at dst is STRING_VALUE
 */
struct op {
	u8 kind;
	u8 then;		/* of a walk: the next operation */
	u16 src;		/* offset in the record's fixed part of the u64 that is the base
				   address */
	u16 dst;		/* offset in the fixed part: of the copy (BLOCK), of the s32 length
				   (STRING) */
	u16 len;		/* bytes: of the block; of the string in the call's own record, at
				   most; ELEMENT: from one to the next */
	s32 off;		/* added to the base address */
	u32 keep;		/* STRING: bytes in all, those in chunks included, at most; 0: only
				   its length is wanted. LIST: elements, at most; ARRAY: bytes */
};
/* what else the fields are, by kind */
#define STRING_ONLY(op) ((op)->then)	/* not in a walk; not 0: what the u32 before src must be */
#define STRING_VALUE(op) ((op)->len)	/* with OP_IF: what the u32 at dst must be */
#define ONCE_SKIP(op) ((op)->len)	/* operations */
#define ONCE_WHICH(op) ((op)->keep)	/* of the addresses that a thread remembers */
#define COUNT(op) ((op)->len)		/* LIST, ARRAY, PRODUCT: offset of a number; 0: none */
#define ARRAY_BITS(op) ((op)->dst)	/* of an element */
#define ELEMENT_BYTES(op) ((op)->off)	/* LIST, ELEMENT: that are copied of each */
#define ELEMENT_END(op) ((op)->keep)	/* the operation that follows the last one */
#define LEAVE_TO(op) ((op)->len)	/* the operation that follows then */
#define LEAVE_IF_NEGATIVE(op) ((op)->off)	/* all ones, or 0 */
#define LEAVE_IF_NULL(op) ((op)->keep)	/* all ones, or 0 */

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
	u64 objects;		/* bit n: operation n copies a name for the object filter */
	u32 counts;		/* of a function whose calls may be counted here: its place in
				   `counts`, from 1; 0: they may not */
	u32 fails;		/* of these, at the return: FAILS_* */
	struct op ops[MAX_OPS];
};

enum fails {			/* what a function returns when it fails; of others, their error
				   tells */
	FAILS_NEVER,
	FAILS_NEGATIVE,		/* an s32 */
	FAILS_MINUS_ONE,	/* an s32 */
	FAILS_ZERO,		/* a u64 */
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
	u8 counted;		/* has no records, but is counted at its return */
	u8 pad[2];
	u64 args[REGISTERS];	/* of what is counted: the function's address and its cookie */
};
#define FRAME_WANTED 1		/* has records */
#define FRAME_ENTRY_LOST 2
#define FRAME_PRIVATE 4
#define FRAME_JUMPS 8
#define FRAME_INSIDE 16		/* it or a call around it has records: errors raised in it matter */
#define FRAME_SERVES 32
#define FRAME_CROSSED 64	/* the program has made a call since, maybe on another stack */
#define FRAME_ENDED 128		/* its call has returned, those of other stacks above it have not */
#define MOST_LEFT 8		/* return probes of calls that were left for good, which the kernel
				   still has; frames looked through for that around a call */
#define NEAR (1 << 17)		/* bytes of stack between a call and one inside of it, at most */

struct head {			/* of every record; offsets in bytes */
	u8 kind;		/* 0 */
	u8 depth;		/* 1 */
	u16 flags;		/* 2 */
	u32 row;		/* 4: REC_CHUNK: operation; */
	u64 time;		/* 8: ns, CLOCK_MONOTONIC */
	u64 task;		/* 16: id of the REC_TASK that describes the thread, or of the
				   PLAN_SERVES that it is in */
	u32 tid;		/* 24 */
	u32 seq;		/* 28: of the call in its thread */
	u32 bad;		/* 32: bit n: operation n could not read its address */
	u32 tgid;		/* 36 */
};
struct entry {
	struct head h;
	u64 sp;			/* 40; of a PLAN_SERVES instead: id of the REC_TASK that describes
				   the thread itself */
	u64 args[REGISTERS];	/* 48 */
	u64 caller;		/* return address, with REC_CALLER; and CALLER_* */
};
#define CALLER_LEFT (1ULL << 63)	/* with REC_UNARMED: as another call may have been left for
					   good, which the reader can tell */
#define CALLER_CONFINED (1ULL << 62)	/* with REC_UNARMED: as the task is under seccomp */
struct ret {
	struct head h;
	u64 entry_time;		/* 40 */
	u64 value;		/* 48 */
	u64 args[REGISTERS];	/* 56: if PLAN_KEEP_ARGS */
	u64 sp;			/* likewise; of the return address's slot */
};
struct chunk {
	struct head h;		/* row = operation */
	u32 offset;		/* 40: of these bytes in the string */
	s32 got;		/* 44: bytes read there, with the NUL; CHUNK: there are more; below
				   0: unreadable */
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
	u64 more[2];		/* 104: arguments seven and eight of a machine that has
				   registers for them */
};
#define VERDICT_DENY 3
#define VERDICT_LOOKING 4	/* the enforcer is about to call libvirt itself */
#define ROW_LOOKING 0xffffffff	/* of its frame; args: where the enforcer's code is, and how many
				   bytes */
#define SP_REACH (1 << 16)	/* bytes of stack between a call and the enforcer's verdict on it,
				   at most */
struct item {			/* of a walk's record */
	s32 got;		/* 0: bytes, or of a LIST elements, that were read; below 0: why
				   there are none */
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
	u32 ns_pid;		/* 72: its number in its own pid namespace; 0: not known */
	u32 cmdline;		/* 76: bytes of it that follow */
	u32 real_uid;		/* 80 */
	u32 pid_ns;		/* 84: which that is, by its inode */
	char comm[16];		/* 88 */
	char text[CMDLINE];	/* 104 */
};

/*
 * A record in the making. In memory, of which the verifier assumes nothing: on the stack every
 * count would be a state of its own.
 */
struct capture {
	u32 pos;		/* of the next byte in the variable part */
	u32 bad;
	u32 flags;		/* REC_TRUNCATED, REC_ONCE */
	u32 names;		/* strings that the object filter looks at */
	u32 longs;		/* strings of which there is more */
	u32 next;		/* operation */
	u64 once[ONCES];	/* addresses that ONCE met */
};

struct follow {			/* a long string on its way out in chunks, or a name against the
				   object globs */
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
	u64 once[ONCES];	/* last addresses of which everything was sent, while no connection
				   was opened */
	u64 generation;		/* settings.generation then */
	u64 serving_sp;		/* of PLAN_SERVES: where its return address was */
	u64 unarmed_sp;		/* of a call without return probe that others may be inside of; 0:
				   none */
	u64 jump_sp;		/* of one that may end in a jump, and did nothing since; 0: none */
	u64 inner_lost;		/* when a record of an inner function was lost; ns,
				   CLOCK_MONOTONIC */
	u64 clock_seen;		/* when it last looked whether the clock was set; likewise */
	u64 judged_sp;		/* of the call that the enforcer let pass last */
	u64 seen_comm[2];	/* what is behind its name, where the kernel has that, may be
				   anything */
	char comm[16];
	u32 exec_id;
	u32 uid;		/* effective */
	u32 real_uid;
	u32 user;		/* in `users` */
	u32 rings;		/* its first one */
	u16 verdict_lost;	/* REC_INNER_LOST: on the call that comes next */
	u16 left;		/* 1: a call may have been left for good, or stacks are copied */
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
	u8 buf[RECORD + INLINE_MAX + 16];	/* behind RECORD: for the verifier */
};

/* What is sent after the call's own record, of which the fixed part is still needed. */
#define CHUNK_OF(t) ((struct chunk *)((t)->buf + FIXED))

/*
 * Calls under way in a thread, beside struct thread: since about Linux 6.19 the kernel has no
 * memory for more than 8 KiB of a task's at once.
 */
struct frames {
	struct frame deep;	/* of a call too deep to be kept */
	struct frame at[MAX_FRAMES];
};

#define MAX_USERS 4096
#define USER_ROOT 0
#define USER_SERVED 1		/* root's daemons, while they do what others asked for; what is lost
				   of it, by whichever daemon, where only some are wanted */
#define USER_FIRST 2
#define USER_OTHERS (MAX_USERS - 1)	/* those that found no place, and those that are not
					   known */
#define USER_PLACES 8		/* where a user may be found */
struct flow {			/* of a user's records in a ring; bytes */
	u64 mark;		/* where the ring was written when `now` began */
	u64 before;		/* sent before that, since the mark before it: at least what of it
				   is still unread */
	u64 now;		/* sent since */
};
struct user {
	u32 uid;		/* effective; 0: root, or a free place */
	u32 pad;
	u64 lost[2 * COUNTERS];	/* of RING_READ, RING_WRITE */
	struct flow flow[RINGS + 1];	/* the last one only for the verifier, which knows masks */
};

/*
 * How long calls took, in buckets that are exact below 128 ns and 1/64 of their power of two wide
 * above, up to 2^42 ns.
 */
#define COUNT_STEPS 6
#define COUNT_BUCKETS 2368
struct counts {			/* of a function's calls that were counted here */
	u64 total;		/* ns */
	u64 max;		/* ns */
	u64 failed;
	u64 left;		/* that did not return */
	u64 calls[COUNT_BUCKETS];
};
#define MAX_BEGUN 4096
struct begun {			/* a call under way that will be counted here */
	u64 tid;		/* 0: none */
	u64 time;		/* ns, CLOCK_MONOTONIC */
	u32 place;		/* in `counts`, from 0 */
	u32 pad;
};

struct plain {			/* a process that copies no stacks */
	u64 start;		/* in ticks of TICK_NS, CLOCK_BOOTTIME */
	u64 code;		/* executable pages that it has mapped */
};
#define TICK_NS 10000000

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
	u32 spare;		/* 1: a return probe ends tasks under seccomp */
	u64 glob_start;		/* bits of the object globs' first states */
	u64 glob_stay;		/* bits of states that any byte keeps: those of a star */
	u64 glob_char;		/* bits of states behind a wildcard: the rest of a UTF-8 character
				   keeps them */
	u64 glob_end;		/* bits of accepting states */
	u64 generation;		/* of connections: how often one was opened, on the whole host;
				   written here */
	u64 losses;		/* how often anything but LOST_CHUNK was counted in `users`; written
				   here */
	s64 clock;		/* from CLOCK_MONOTONIC to CLOCK_TAI, as the reader knows it; ns;
				   0: it does not */
	u64 clock_set;		/* when it was first found to be another; ns, CLOCK_MONOTONIC;
				   0: it was not; written here */
};
