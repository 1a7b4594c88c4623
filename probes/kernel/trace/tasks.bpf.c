/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/*
 * The kernel's tracepoints of processes come in; a record of each fork, exec and end, of signals
 * that may end a process, and of those that the kernel ends for want of memory goes out to a ring.
 *
 * An exec's record says what was executed, since nobody can be asked any more when a process of
 * milliseconds is looked at. Members of the kernel's structs are where its own type information
 * says (probes/kernel/loading/offsets.py); probes/kernel/records.py reads the records, and
 * contract.py asserts that its layouts are those of the structs here.
 */

#define ARGUMENTS 1024		/* bytes of a command line */
#define PATH 1024		/* bytes of a program's path */
#define NAME 256		/* bytes of one name in it, with its NUL */
#define DEEPEST 48		/* names and mounts on the way to the root */

enum task_kind { TASK_FORK = 1, TASK_EXEC, TASK_EXIT, TASK_SIGNAL, TASK_OOM };
enum task_flag {
	TASK_LAST = 1,		/* EXIT: the process has no other thread */
	TASK_DELETED = 2,	/* EXEC: its program's file has no name any more */
	TASK_CUT = 4,		/* EXEC: the path's beginning is missing */
};

struct task_event {		/* of every record; offsets in bytes */
	u8 kind;		/* 0 */
	u8 flags;		/* 1 */
	u16 pad;
	u32 pid;		/* 4: of the process; SIGNAL: to which it is sent */
	u64 time;		/* 8: ns, CLOCK_MONOTONIC */
	u32 tid;		/* 16 */
	u32 ppid;		/* 20: FORK: who forked; EXEC: its parent; SIGNAL: who sent it, 0:
				   the kernel */
	u64 start;		/* 24: ns, CLOCK_BOOTTIME: when the process began */
};
struct exec_event {
	struct task_event t;
	u64 cgroup;		/* 32: inode of its cgroup v2 directory */
	u64 inode;		/* 40: of the program's file */
	u32 device;		/* 48: as the kernel has it: major << 20 | minor */
	u32 uid;		/* 52: effective */
	u32 gid;		/* 56: effective */
	u32 real_uid;		/* 60 */
	u32 loginuid;		/* 64 */
	u16 path;		/* 68: bytes of the path: its names, each with a NUL, the last one
				   first */
	u16 arguments;		/* 70: bytes of the command line behind it */
	char comm[16];		/* 72 */
	u8 text[2 * PATH + ARGUMENTS];	/* 88; not all of it, but the verifier knows masks only */
};
struct signal_event {
	struct task_event t;
	u32 signal;		/* 32 */
	s32 code;		/* 36: si_code */
	u32 uid;		/* 40: real, of who sent it, as the rest */
	u32 pad;
	char comm[16];		/* 48 */
};

struct walk {			/* up to the root; in memory: the verifier assumes nothing of it */
	u32 pos;
	u32 done;
};
struct scratch {
	struct exec_event e;
	struct walk walk;
};

#define MAP(fd) ((void *)bpf_pseudo_fd(1, fd))
#define ALWAYS static __attribute__((always_inline))
#define HIDE(x) asm volatile("" : "+r"(x))

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*ring_output)(void *ring, void *data, u64 size, u64 flags) =
	(void *)BPF_FUNC_ringbuf_output;
static u64 (*ring_query)(void *ring, u64 what) = (void *)BPF_FUNC_ringbuf_query;
static long (*read_user)(void *dst, u32 size, u64 address) = (void *)BPF_FUNC_probe_read_user;
static long (*read_kernel)(void *dst, u32 size, const void *address) =
	(void *)BPF_FUNC_probe_read_kernel;
static long (*read_kernel_str)(void *dst, u32 size, const void *address) =
	(void *)BPF_FUNC_probe_read_kernel_str;

/* What is in a member of a struct of the kernel's; 0: it could not be read. */
#define MEMBER(type, base, offset) ({ type value = 0; \
	read_kernel(&value, sizeof(value), (void *)(base) + (offset)); value; })
#define READ(base, offset) MEMBER(void *, base, offset)
#define READ_INT(base, offset) MEMBER(u32, base, offset)

struct args { u64 arg[5]; };

/*
 * Root has a ring, and all others have one, so that nobody can fill root's. Processes come and go
 * all the time: the reader is woken for them only when an eighth of a ring is full.
 */
ALWAYS void send(void *data, u64 size, u32 real_uid)
{
	void *ring = real_uid ? MAP(FD_USERS_TASKS) : MAP(FD_TASKS);
	u64 full = ring_query(ring, BPF_RB_RING_SIZE) / 8;
	u32 who = !!real_uid;
	u64 *lost;

	if (!ring_output(ring, data, size, ring_query(ring, BPF_RB_AVAIL_DATA) < full ?
			 BPF_RB_NO_WAKEUP : BPF_RB_FORCE_WAKEUP))
		return;
	lost = map_lookup(MAP(FD_TASKS_LOST), &who);
	if (lost)
		__sync_fetch_and_add(lost, 1);
}

ALWAYS u32 real_uid_of(void *task)
{
	return READ_INT(READ(task, TASK_REAL_CRED), CRED_UID);
}

ALWAYS void describe(struct task_event *e, u32 kind, void *task)
{
	void *leader = READ(task, TASK_GROUP_LEADER);

	e->kind = kind;
	e->flags = 0;
	e->pad = 0;
	e->time = bpf_ktime_get_ns();
	e->pid = READ_INT(task, TASK_TGID);
	e->tid = READ_INT(task, TASK_PID);
	e->ppid = 0;
	e->start = (u64)READ(leader, TASK_START_BOOTTIME);
}

int on_fork(struct args *ctx)
{
	void *parent = (void *)ctx->arg[0], *child = (void *)ctx->arg[1];
	struct task_event e;

	describe(&e, TASK_FORK, child);
	e.ppid = READ_INT(parent, TASK_TGID);
	if (e.pid != e.tid)	/* a thread */
		return 0;
	send(&e, sizeof(e), real_uid_of(child));
	return 0;
}

int on_exit(struct args *ctx)
{
	void *task = (void *)ctx->arg[0];
	struct task_event e;

	describe(&e, TASK_EXIT, task);
	if (!READ_INT(READ(task, TASK_SIGNAL_STRUCT), SIGNAL_LIVE))
		e.flags = TASK_LAST;
	send(&e, sizeof(e), real_uid_of(task));
	return 0;
}

/*
 * The names from the file up to the root of its mount namespace, as /proc shows it to who looks
 * from there. Whoever may rename a folder on the way may have it in two places; it is always one
 * of theirs.
 */
ALWAYS void read_path(struct scratch *s, void *file)
{
	struct exec_event *e = &s->e;
	void *mount = READ(file, FILE_MOUNT) - MOUNT_VFS;
	void *dentry = READ(file, FILE_DENTRY);
	u32 i;

	if (!READ(dentry, DENTRY_HASHED))
		e->t.flags |= TASK_DELETED;
	s->walk.pos = s->walk.done = 0;
	for (i = 0; i < DEEPEST; i++) {
		void *parent = READ(dentry, DENTRY_PARENT), *above;
		u32 pos;
		long n;

		if (dentry == READ(mount, MOUNT_ROOT)) {
			above = READ(mount, MOUNT_PARENT);
			if (!above || above == mount) {
				s->walk.done = 1;
				break;
			}
			dentry = READ(mount, MOUNT_POINT);
			mount = above;
			continue;
		}
		pos = s->walk.pos;
		HIDE(pos);
		if (pos > PATH - NAME)
			break;
		n = read_kernel_str(e->text + pos, NAME, READ(dentry, DENTRY_NAME));
		if (n <= 0)
			break;
		s->walk.pos = pos + n;
		if (!parent || parent == dentry) {	/* in no folder: a memory file */
			s->walk.done = 1;
			break;
		}
		dentry = parent;
	}
	if (!s->walk.done)
		e->t.flags |= TASK_CUT;
}

/* A number of bytes that the verifier knows to be `most` at most, a power of two. */
ALWAYS u64 at_most(u64 size, u64 most)
{
	HIDE(size);
	size &= 2 * most - 1;
	return size > most ? most : size;
}

/* The kernel has just written the command line there. */
ALWAYS u64 read_arguments(struct exec_event *e, void *mm, u64 at)
{
	u64 start = (u64)READ(mm, MM_ARG_START), end = (u64)READ(mm, MM_ARG_END);
	u64 size = end - start;

	if (end <= start)
		return 0;
	size = at_most(size > ARGUMENTS ? ARGUMENTS : size, ARGUMENTS);
	return read_user(e->text + at, size, start) ? 0 : size;
}

int on_exec(struct args *ctx)
{
	void *task = (void *)ctx->arg[0], *cred = READ(task, TASK_CRED), *mm = READ(task, TASK_MM);
	void *file, *inode;
	u32 zero = 0;
	/* the kernel runs a program of this kind once at a time on a CPU */
	struct scratch *s = map_lookup(MAP(FD_TASKS_SCRATCH), &zero);
	struct exec_event *e;
	u64 path, size;

	if (!s)
		return 0;
	e = &s->e;
	describe(&e->t, TASK_EXEC, task);
	e->t.ppid = READ_INT(READ(READ(task, TASK_GROUP_LEADER), TASK_REAL_PARENT), TASK_TGID);
	e->cgroup = bpf_get_current_cgroup_id();
	e->uid = READ_INT(cred, CRED_EUID);
	e->gid = READ_INT(cred, CRED_EGID);
	e->real_uid = READ_INT(cred, CRED_UID);
	e->loginuid = ~0U;
#ifdef TASK_LOGINUID
	e->loginuid = READ_INT(task, TASK_LOGINUID);
#endif
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	file = READ(mm, MM_EXE_FILE);
	inode = READ(file, FILE_INODE);
	e->inode = (u64)READ(inode, INODE_NUMBER);
	e->device = READ_INT(READ(inode, INODE_SB), SB_DEVICE);
	read_path(s, file);
	path = at_most(s->walk.pos, PATH);
	size = read_arguments(e, mm, path);
	e->path = path;
	e->arguments = size;
	send(e, __builtin_offsetof(struct exec_event, text) + path + size, e->real_uid);
	return 0;
}

/* By these a process is ended on purpose, or (trapped) by its own fault, if it has no handler. */
#define BIT(n) (1U << (n))
/* SIGHUP SIGINT SIGQUIT SIGKILL SIGTERM */
#define ON_PURPOSE (BIT(1) | BIT(2) | BIT(3) | BIT(9) | BIT(15))
#define TRAPPED (BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(24) | BIT(25) | BIT(31))
#define SIGACTION 32		/* bytes of struct k_sigaction; its handler comes first */

int on_signal(struct args *ctx)
{
	u32 signal = ctx->arg[0], uid;
	void *info = (void *)ctx->arg[1], *task = (void *)ctx->arg[2];
	u64 current = bpf_get_current_pid_tgid();
	struct signal_event e;

	/* else it was not delivered: it is ignored, or there is one */
	if (signal > 31 || ctx->arg[4])
		return 0;
	if (!(BIT(signal) & ON_PURPOSE) &&
	    (!(BIT(signal) & TRAPPED) ||
	     READ(READ(task, TASK_SIGHAND), SIGHAND_ACTION + SIGACTION * (signal - 1))))
		return 0;
	describe(&e.t, TASK_SIGNAL, task);
	e.signal = signal;
	e.pad = 0;
	/* below 2 it is no pointer: 0: from a process; 1: from the kernel */
	e.code = info > (void *)1 ? READ_INT(info, SIGINFO_CODE) : info ? 0x80 : 0;
	e.uid = bpf_get_current_uid_gid();
	e.t.ppid = e.code > 0 ? 0 : current >> 32;
	bpf_get_current_comm(e.comm, sizeof(e.comm));
	send(&e, sizeof(e), real_uid_of(e.t.ppid ? (void *)bpf_get_current_task() : task));
	return 0;
}

int on_oom(struct args *ctx)
{
	u64 victim = ctx->arg[0];
	struct task_event e;

	if (victim >> 32) {
		describe(&e, TASK_OOM, (void *)victim);
	} else {		/* before 6.9: its number */
		__builtin_memset(&e, 0, sizeof(e));
		e.kind = TASK_OOM;
		e.time = bpf_ktime_get_ns();
		e.pid = e.tid = victim;
	}
	send(&e, sizeof(e), 0);
	return 0;
}
