/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls that only read, of which some do not return: they are left by a jump, their thread ends in
 * them, or waits there. Prints how many were made of each function, and which failed; on the word
 * "go", and then ends when standard input does.
 *
 *	counted [TIMES]		so many more of virDomainGetName, by two threads at once
 */
#define _GNU_SOURCE
#include "caller.h"
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>

#define NAMES 1009		/* a prime */

enum what { NOTHING, LEAVE, END, WAIT };
static __thread enum what inside;
static __thread sigjmp_buf outside;
static virDomainPtr domain;
static long times;

/* libvirt locks the domain in the middle of the call. */
int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	static int (*real)(pthread_mutex_t *mutex);
	enum what now = inside;

	inside = NOTHING;
	if (now == LEAVE)
		siglongjmp(outside, 1);
	if (now == END)
		pthread_exit(NULL);
	if (now == WAIT) {
		printf("waits\n");
		fflush(stdout);
		pause();
	}
	if (!real)
		real = dlsym(RTLD_NEXT, "pthread_mutex_lock");
	return real(mutex);
}

static void *call(void *what)
{
	virDomainInfo info;

	inside = (enum what)(intptr_t)what;
	if (!sigsetjmp(outside, 0))
		virDomainGetInfo(domain, &info);
	return NULL;
}

static void *flat_out(void *arg)
{
	for (long i = 0; i < times; i++)
		virDomainGetName(domain);
	return arg;
}

static void in_thread(void *(*work)(void *), enum what what, bool join)
{
	pthread_t thread;

	check(!pthread_create(&thread, NULL, work, (void *)(intptr_t)what), "pthread_create");
	check(!join || !pthread_join(thread, NULL), "pthread_join");
}

int main(int argc, char **argv)
{
	virConnectPtr conn = open_test();
	pthread_t other;
	char line[16];
	int i;

	domain = find_domain(conn, "test");
	times = argc > 1 ? atol(argv[1]) : 0;
	printf("ready\n");
	fflush(stdout);
	check(fgets(line, sizeof(line), stdin), "go");
	check(!pthread_create(&other, NULL, flat_out, NULL), "pthread_create");
	flat_out(NULL);
	pthread_join(other, NULL);
	for (i = 0; i < NAMES; i++)
		virDomainGetName(domain);
	for (i = 0; i < CALLS; i++) {
		virDomainLookupByName(conn, "nosuch");
		virDomainGetName(NULL);
		virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_TITLE, "t", NULL, NULL, 0);
		call(NOTHING);
	}
	if (!times) {
		for (i = 0; i < 5; i++)
			call((void *)LEAVE);
		for (i = 0; i < 3; i++)
			in_thread(call, END, true);
	}
	printf("virDomainGetName %ld %d\n", NAMES + CALLS + 2 * times, CALLS);
	printf("virDomainLookupByName %d %d\n", CALLS, CALLS);
	printf("virDomainSetMetadata %d 0\n", CALLS);
	printf("virDomainGetInfo %d 0\n", CALLS + (times ? 0 : 5 + 3 + 1));
	fflush(stdout);
	if (!times)
		in_thread(call, WAIT, false);
	while (fgets(line, sizeof(line), stdin))
		;
	_exit(0);
}
