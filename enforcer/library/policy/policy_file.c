/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Holds the policies in force: compiled files come in; checked, write-protected copies of them go
 * out.
 *
 * Copies are counted while calls use them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "policy_copy.h"

#define SLOTS 32

_Atomic(uint8_t) ruled[FUNCTIONS];

static struct held slots[SLOTS] = { [0 ... SLOTS - 1] = { .users = -1 } };
static struct {
	char path[1024];	/* "": there is none */
	struct held *_Atomic held;
	struct identity refused;	/* the last file that was no good */
	const char *_Atomic problem;	/* why there is none in force */
	const char *_Atomic last_problem;	/* with the file that is there now */
	atomic_bool is_final;		/* nobody may write to it: it is not looked at again */
} policies[POLICIES];
static atomic_bool looking;		/* a thread looks for changes, of all of them */
static bool deny_on_error;
atomic_bool problem_due;		/* the tracer has not been told of a problem */
static _Atomic(int64_t) next_look;	/* ns, CLOCK_MONOTONIC_COARSE */

static struct held *free_slot(void)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		int expected = -1;

		if (atomic_compare_exchange_strong(&slots[i].users, &expected, 1 << 30))
			return &slots[i];
	}
	return NULL;
}

/*
 * Frees the slot once nobody uses it; its own share is 1 << 30, taken away when it is in force no
 * more.
 */
static void give_back(struct held *held, int share)
{
	if (atomic_fetch_sub(&held->users, share) != share)
		return;
	/* the last one: nobody can come, since it is in force no more */
	if (held->head)
		munmap((void *)held->head, held->size);
	drop_counts(held->counts, held->counts_size);
	held->counts = NULL;
	atomic_store(&held->users, -1);
}

struct held *take_policy(unsigned which)
{
	for (;;) {
		struct held *held = atomic_load(&policies[which].held);
		int users;

		if (!held)
			return NULL;
		users = atomic_load(&held->users);
		/* in force: its own share is there; else it has just been replaced */
		if (users < 1 << 29 ||
		    !atomic_compare_exchange_weak(&held->users, &users, users + 1))
			continue;
		if (atomic_load(&policies[which].held) == held)
			return held;
		drop_policy(held);	/* the slot serves another policy by now */
	}
}

void drop_policy(struct held *held)
{
	give_back(held, 1);
}

static void mark_rules(void)
{
	struct held *held[POLICIES];

	for (unsigned which = 0; which < POLICIES; which++)
		held[which] = take_policy(which);
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		uint8_t is_ruled = 0;

		for (unsigned which = 0; which < POLICIES; which++) {
			if (held[which])
				is_ruled |= row_of(held[which]->head, i)->program != 0;
			else	/* nobody may take the call for one that is judged */
				is_ruled |= lacks_policy(which) && !functions[i].plumbing;
		}
		atomic_store_explicit(&ruled[i], is_ruled, memory_order_relaxed);
	}
	for (unsigned which = 0; which < POLICIES; which++)
		if (held[which])
			drop_policy(held[which]);
}

bool lacks_policy(unsigned which)
{
	return atomic_load(&policies[which].problem);
}

bool denies_without_policy(unsigned which)
{
	return deny_on_error && lacks_policy(which);
}

/* What is wrong with the policies, for a verdict's note. */
void describe_problem(char *note, size_t size)
{
	size_t n = 0;

	for (unsigned which = 0; which < POLICIES; which++) {
		const char *last = atomic_load(&policies[which].last_problem);

		if (!last)
			continue;
		n = append(note, size, n, n ? "; " : "");
		n = append(note, size, n, policies[which].path);
		n = append(note, size, n, ": ");
		n = append(note, size, n, last);
	}
}

static void complain(unsigned which, const char *problem)
{
	atomic_store(&policies[which].last_problem, problem);
	atomic_store(&problem_due, true);
	alert(problem, policies[which].path);
}

static void refuse(unsigned which, const char *problem, const struct identity *identity)
{
	/* an old policy stays in force; without one, what on_error says is */
	if (!atomic_load(&policies[which].held))
		atomic_store(&policies[which].problem, problem);
	if (memcmp(identity, &policies[which].refused, sizeof(*identity)) || !identity->inode) {
		policies[which].refused = *identity;
		complain(which, problem);
	}
}

static void load(unsigned which)
{
	int fd = open(policies[which].path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct identity identity = { 0 };
	struct held *held, *old;
	const char *problem;
	uint64_t inode;
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		problem = "it can't be opened";
		goto bad;
	}
	identity = identity_of(&st);
	problem = "it is not a file of root's that only root may write to";
	if (!is_trusted(&st))
		goto bad;
	problem = "it is larger than 1 MiB";
	if (st.st_size > POLICY_BYTES_MAX)
		goto bad;
	problem = "it is damaged";
	if (st.st_size < (off_t)sizeof(struct head))
		goto bad;
	if (!begins_well(fd, st.st_size, &problem))
		goto bad;
	problem = "too many policies are in use";
	held = free_slot();
	if (!held)
		goto bad;
	held->identity = identity;
	held->size = st.st_size;
	held->head = copy_of(fd, st.st_size, &inode);
	problem = "it can't be read";
	if (!held->head || !check_policy(held->head, held->size, &problem)) {
		give_back(held, 1 << 30);
		goto bad;
	}
	close(fd);
	held->counts = make_counts(inode, held->head->rules, &held->counts_size);
	if (held->head->flags & HEAD_ON_ERROR_DENY)
		deny_on_error = true;
	/*
	 * first rules are looked for where there are any by the old or the new policy, then by the
	 * new one alone
	 */
	for (unsigned i = 0; i < FUNCTIONS; i++)
		if (row_of(held->head, i)->program)
			atomic_store_explicit(&ruled[i], 1, memory_order_relaxed);
	old = atomic_exchange(&policies[which].held, held);
	atomic_store(&policies[which].problem, NULL);
	atomic_store(&policies[which].last_problem, NULL);
	atomic_store(&policies[which].is_final, !(st.st_mode & 0222));
	if (old)
		give_back(old, 1 << 30);
	mark_rules();
	return;
bad:
	if (fd >= 0)
		close(fd);
	refuse(which, problem, &identity);
	mark_rules();
}

static bool is_up_to_date(unsigned which, const struct identity *now)
{
	struct held *held = take_policy(which);
	bool same = held && !memcmp(&held->identity, now, sizeof(*now));

	if (held)
		drop_policy(held);
	return same || !memcmp(&policies[which].refused, now, sizeof(*now));
}

static void look(unsigned which)
{
	static const struct identity absent = { .device = UINT64_MAX };
	struct identity now;
	struct stat st;

	if (!policies[which].path[0] || atomic_load(&policies[which].is_final))
		return;
	if (stat(policies[which].path, &st)) {
		/* the system's may never have been there; one that is gone stays in force */
		if (which == 0 && !atomic_load(&policies[which].held) &&
		    (errno == ENOENT || errno == ENOTDIR))
			return;
		if (memcmp(&policies[which].refused, &absent, sizeof(absent))) {
			policies[which].refused = absent;	/* say it once, until it is back */
			if (!atomic_load(&policies[which].held))
				atomic_store(&policies[which].problem, "it can't be opened");
			complain(which, "it can't be opened");
			mark_rules();
		}
		return;
	}
	if (!memcmp(&policies[which].refused, &absent, sizeof(absent)))
		policies[which].refused = (struct identity){ 0 };
	now = identity_of(&st);
	if (!is_up_to_date(which, &now))
		load(which);
	else if (memcmp(&policies[which].refused, &now, sizeof(now)))	/* it is back */
		atomic_store(&policies[which].last_problem, NULL);
}

void look_for_changes(void)
{
	struct timespec now;
	int64_t ns, next = atomic_load_explicit(&next_look, memory_order_relaxed);
	int saved;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	ns = now.tv_sec * SECOND + now.tv_nsec;
	if (LIKELY(ns < next) || !atomic_compare_exchange_strong(&next_look, &next, ns + SECOND))
		return;		/* not yet, or another thread does it */
	saved = errno;
	atomic_store(&objects_due, true);
	/*
	 * else a thread has been at it for a second, or a signal came while this one is; two at
	 * once would mark the rules of either's policy
	 */
	if (!atomic_exchange(&looking, true)) {
		for (unsigned which = 0; which < POLICIES; which++)
			look(which);
		atomic_store(&looking, false);
	}
	errno = saved;
}

/* A fork may have come while another thread was at it: the child has a copy of its state. */
static void in_child(void)
{
	atomic_store(&looking, false);
}

bool has_own_policy(void)
{
	return policies[1].path[0];
}

/* What the environment says; before main(), because the program may change it. */
void read_environment(void)
{
	const char *path = getenv("LIBVIRT_TRACE_POLICY");
	const char *on_error = getenv("LIBVIRT_TRACE_ON_ERROR");

	append(policies[0].path, sizeof(policies[0].path), 0, SYSTEM_POLICY);
	if (path)
		append(policies[1].path, sizeof(policies[1].path), 0, path);
	deny_on_error = on_error && !strcmp(on_error, "deny");
	pthread_atfork(NULL, NULL, in_child);
}
