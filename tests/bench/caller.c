/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A number of calls to virDomainGetName on libvirt's test driver comes in, flat out or at a steady
 * pace; what they took goes out.
 *
 *	bench-caller burst CALLS BURSTS PAUSE_MS	prints ns per call, a line a burst;
 *		between bursts a reader may catch up
 *	bench-caller nest CALLS BURSTS PAUSE_MS	the same of calls that have another one inside
 *	bench-caller pace CALLS_PER_SECOND SECONDS	prints the calls and the seconds they took
 *	bench-caller slowest SECONDS	prints the most ns of processor time that a call took
 *	bench-caller list BURSTS	prints ns per domain of lists of all domains
 *	bench-caller stats BURSTS	the same of all domains' statistics
 *	bench-caller threads THREADS CALLS	prints ns of processor time per call of all of them
 *	bench-caller connect COUNT	prints us per connection to the daemon, all held
 */
#define _GNU_SOURCE
#include <libvirt/libvirt.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static long long read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/* On the last CPU: the tracer, which is free to run anywhere, is left the others. */
static void pin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void burst(virDomainPtr domain, long calls, long bursts, long pause_ms)
{
	long long start;
	long i;

	for (; bursts > 0; bursts--) {
		start = now();
		for (i = 0; i < calls; i++)
			virDomainGetName(domain);
		printf("%.1f\n", (double)(now() - start) / calls);
		usleep(pause_ms * 1000);
	}
}

/* The thread's own time: what other programs take away is not counted. */
static void slowest(virDomainPtr domain, double seconds)
{
	long long end = now() + seconds * 1e9, most = 0;

	while (now() < end) {
		long long start = read_clock(CLOCK_THREAD_CPUTIME_ID), took;

		virDomainGetName(domain);
		took = read_clock(CLOCK_THREAD_CPUTIME_ID) - start;
		most = took > most ? took : most;
	}
	printf("%lld\n", most);
}

/* Each calls another function of libvirt's, and neither finds anything. */
static void nest(long calls, long bursts, long pause_ms)
{
	long long start;
	int value;
	long i;

	for (; bursts > 0; bursts--) {
		start = now();
		for (i = 0; i < calls; i++)
			virTypedParamsGetInt(NULL, 0, "none", &value);
		printf("%.1f\n", (double)(now() - start) / calls);
		usleep(pause_ms * 1000);
	}
}

/* From now on the program is under seccomp, whose filter lets everything pass. */
static int confine(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { .len = 1, .filter = &allow };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

/* Calls that go to a daemon. */
static void ask(virDomainPtr domain, long calls, long bursts)
{
	long long start;
	long i;

	for (; bursts > 0; bursts--) {
		start = now();
		for (i = 0; i < calls; i++)
			virDomainIsActive(domain);
		printf("%.1f\n", (double)(now() - start) / calls);
		usleep(200000);
	}
}

/* Each goes through all domains of the host and gives them back. */
static int list(virConnectPtr conn, long bursts)
{
	virDomainPtr *domains;
	long long start;
	int i, count;

	for (; bursts > 0; bursts--) {
		start = now();
		count = virConnectListAllDomains(conn, &domains, 0);
		if (count <= 0)
			return 1;
		for (i = 0; i < count; i++)
			virDomainFree(domains[i]);
		printf("%.1f\n", (double)(now() - start) / count);
		free(domains);
	}
	return 0;
}

static int stats(virConnectPtr conn, long bursts)
{
	virDomainStatsRecordPtr *records;
	long long start;
	int count;

	for (; bursts > 0; bursts--) {
		start = now();
		count = virConnectGetAllDomainStats(conn, 0, &records, 0);
		if (count <= 0)
			return 1;
		printf("%.1f\n", (double)(now() - start) / count);
		virDomainStatsRecordListFree(records);
	}
	return 0;
}

struct work {
	virDomainPtr domain;
	long calls;
};

static void *work(void *argument)
{
	struct work *w = argument;
	long i;

	for (i = 0; i < w->calls; i++)
		virDomainGetName(w->domain);
	return NULL;
}

static int threads(virDomainPtr domain, int count, long calls)
{
	long long start = read_clock(CLOCK_PROCESS_CPUTIME_ID);
	struct work w = { domain, calls };
	pthread_t thread[1024];
	int i;

	if (count > 1024)
		return 1;
	for (i = 0; i < count; i++)
		if (pthread_create(&thread[i], NULL, work, &w))
			return 1;
	for (i = 0; i < count; i++)
		pthread_join(thread[i], NULL);
	printf("%.1f\n", (double)(read_clock(CLOCK_PROCESS_CPUTIME_ID) - start) / (count * calls));
	return 0;
}

static int connections(const char *uri, int count)
{
	struct rlimit limit;
	long long start;
	int i;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 1;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	start = now();
	for (i = 0; i < count; i++)
		if (!virConnectOpen(uri))
			return 1;
	printf("%.1f\n", (now() - start) / 1e3 / count);
	return 0;
}

/*
 * Waits without sleeping: a sleep's end comes 50 us late. What a preemption delayed is made up for
 * at once.
 */
static void pace(virDomainPtr domain, long rate, double seconds)
{
	long calls = rate * seconds, i;
	long long start = now();

	for (i = 0; i < calls; i++) {
		while (now() < start + i * 1000000000LL / rate)
			;
		virDomainGetName(domain);
	}
	printf("%ld %.6f\n", calls, (now() - start) / 1e9);
}

int main(int argc, char **argv)
{
	const char *uri = getenv("BENCH_URI");
	virConnectPtr conn = virConnectOpen(uri ? uri : "test:///default");
	virDomainPtr domain = conn ? virDomainLookupByName(conn, "test") : NULL;
	int failed = 0;

	if (!domain)
		return 1;
	if (!getenv("BENCH_FREE"))
		pin();
	if (getenv("BENCH_CONFINED") && confine())
		return 1;
	virDomainGetName(domain);	/* the first call costs more */
	if (argc == 5 && !strcmp(argv[1], "burst"))
		burst(domain, atol(argv[2]), atol(argv[3]), atol(argv[4]));
	else if (argc == 5 && !strcmp(argv[1], "nest"))
		nest(atol(argv[2]), atol(argv[3]), atol(argv[4]));
	else if (argc == 4 && !strcmp(argv[1], "ask"))
		ask(domain, atol(argv[2]), atol(argv[3]));
	else if (argc == 4 && !strcmp(argv[1], "pace"))
		pace(domain, atol(argv[2]), atof(argv[3]));
	else if (argc == 3 && !strcmp(argv[1], "slowest"))
		slowest(domain, atof(argv[2]));
	else if (argc == 3 && !strcmp(argv[1], "list"))
		failed = list(conn, atol(argv[2]));
	else if (argc == 3 && !strcmp(argv[1], "stats"))
		failed = stats(conn, atol(argv[2]));
	else if (argc == 4 && !strcmp(argv[1], "threads"))
		failed = threads(domain, atoi(argv[2]), atol(argv[3]));
	else if (argc == 3 && !strcmp(argv[1], "connect"))
		failed = connections(uri, atoi(argv[2]));
	else
		return 2;
	virDomainFree(domain);
	virConnectClose(conn);
	return failed;
}
