/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/* Who a thread is, and whether its process is wanted. */

/* Descendants of the tracer: it is a subreaper, so an orphan's line of parents still ends at it. */
ALWAYS bool in_tree(void *task, u32 root)
{
	FOR_ROUNDS(64) {
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

#ifdef SESSION
/* Whether a system call that its program did not make may end the task. */
ALWAYS bool is_confined(void *task)
{
#ifdef TASK_SECCOMP
	return *(u32 *)(task + TASK_SECCOMP) != 0;
#else
	return false;
#endif
}
#endif

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

#define UPID 16	/* bytes of struct upid: a number and a pointer */

/* What the process is called in its own pid namespace, the innermost, and which that is. */
ALWAYS void number_inside(struct task_record *r, void *leader)
{
	void *pid = 0, *ns = 0;
	u32 level = 0;

	if (read_kernel(&pid, sizeof(pid), leader + TASK_THREAD_PID) || !pid ||
	    read_kernel(&level, sizeof(level), pid + PID_LEVEL))
		return;
	pid += PID_NUMBERS + (u64)level * UPID;
	if (!read_kernel(&ns, sizeof(ns), pid + UPID_NS) &&
	    !read_kernel(&r->pid_ns, sizeof(r->pid_ns), ns + PID_NS_INUM))
		read_kernel(&r->ns_pid, sizeof(r->ns_pid), pid + UPID_NR);
}

/* Says who the thread is, once per thread and again after an exec, a change of user or of name. */
ALWAYS void describe_task(struct settings *set, struct thread *t, void *task, u32 ring,
			  u64 pid_tgid, u64 now)
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
		number_inside(r, leader);
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
		/* the next hit tries again; until then the reader asks /proc */
		t->task = 0;
		t->known = 0;
		count(set, loser(t), ring, LOST_TASK, 1);
		return;
	}
	t->task = r->h.task;
	t->known = 1;
}

#define CLOCK_LOOK 100000	/* ns from one look of a thread to the next */
#define CLOCK_STEP 5000000	/* ns; what is less, the reader finds out early enough */

/*
 * Looks whether the clock was set since the reader did: what is called from now on has its new
 * time, however late the reader is told. `now`: CLOCK_MONOTONIC, a moment ago.
 */
ALWAYS void look_at_clock(struct settings *set, struct thread *t, u64 now)
{
#ifdef TAI
	s64 tai, most, least;

	if (!set->clock || now - t->clock_seen < CLOCK_LOOK)
		return;
	t->clock_seen = now;
	tai = tai_ns() - set->clock;
	most = tai - now;
	least = tai - bpf_ktime_get_ns();	/* or it waited for a processor in between */
	if ((least > CLOCK_STEP || most < -CLOCK_STEP) &&
	    (!set->clock_set || now < set->clock_set))
		set->clock_set = now;
#endif
}

struct comm {
	u64 half[2];
};

/* What the task's storage could not be had for is lost. */
ALWAYS void count_thread(struct settings *set, u32 user, u32 ring, u32 plan_flags)
{
	if ((plan_flags & (PLAN_WANTED | PLAN_PRIVATE)) == PLAN_WANTED)
		count(set, user, ring, LOST_THREAD, 1);
}

/* Calls under way in the thread; NULL: there is no memory for them. */
ALWAYS struct frames *frames_of_task(struct settings *set, struct thread *t, u32 ring,
				     u32 plan_flags)
{
	struct frames *fs = task_storage(MAP(FD_FRAMES), current_task(), 0,
					 BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!fs && t->wanted)
		count_thread(set, loser(t), ring, plan_flags);
	return fs;
}

/*
 * The thread's state, up to date with who it is, which is told if it is wanted or the plan asks for
 * it; NULL: nothing to do for this hit.
 */
ALWAYS struct thread *get_thread(struct settings *set, void *task, u32 ring, u32 plan_flags,
				 u64 pid_tgid)
{
	void *cred;
	struct thread *t = task_storage(MAP(FD_THREADS), task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct comm comm, *old;
	u64 first, second;
	u32 exec_id, uid, real_uid;

	/* as the credentials, loaded without a helper, which takes as long as all the rest */
	first = *(u64 *)(task + TASK_COMM);
	second = *(u64 *)(task + TASK_COMM + 8);
	exec_id = *(u32 *)(task + TASK_EXEC_ID);
	cred = *(void **)(task + TASK_CRED);
	/* the host's number, and 70 ns less than the helper */
	uid = *(u32 *)(cred + CRED_EUID);
	real_uid = *(u32 *)(cred + CRED_UID);
	if (!t) {
		bpf_get_current_comm(&comm, sizeof(comm));
		if (passes(set, task, (void *)&comm, pid_tgid >> 32, uid))
			count_thread(set, USER_OTHERS, ring, plan_flags);
		return 0;
	}
	plan_flags &= PLAN_SERVES | PLAN_ALWAYS;
	if (t->known && t->exec_id == exec_id && t->uid == uid && t->real_uid == real_uid &&
	    t->seen_comm[0] == first && t->seen_comm[1] == second &&
	    (t->task || !plan_flags))
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
	t->seen_comm[0] = first;
	t->seen_comm[1] = second;
	bpf_get_current_comm(&comm, sizeof(comm));
	old = (void *)t->comm;
	*old = comm;
	t->wanted = passes(set, task, t->comm, pid_tgid >> 32, uid);
	t->known = 1;
	t->task = 0;
	if (t->wanted || plan_flags)
		describe_task(set, t, task, ring, pid_tgid, bpf_ktime_get_ns());
	return t;
}
