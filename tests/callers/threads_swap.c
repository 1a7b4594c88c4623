/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Eight threads call virDomainGetInfo until standard input ends; then prints how many calls passed,
 * how many were denied, and how many had any other result, which must be none.
 */

#include <pthread.h>
#include <stdatomic.h>
#include "caller.h"

#define THREADS 8

static atomic_bool stop;
static atomic_ulong passed, denied, other;
static virDomainPtr domain;

static void *work(void *data)
{
	(void)data;
	while (!stop) {
		virDomainInfo info;
		int result = virDomainGetInfo(domain, &info);
		virErrorPtr error = result < 0 ? virGetLastError() : NULL;

		if (!result)
			passed++;
		else if (error && error->code == VIR_ERR_ACCESS_DENIED)
			denied++;
		else
			other++;
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];

	domain = find_domain(open_test(), "test");
	for (int i = 0; i < THREADS; i++)
		check(!pthread_create(&threads[i], NULL, work, NULL), "pthread_create");
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF) {
		printf("%lu %lu\n", (unsigned long)passed, (unsigned long)denied);
		fflush(stdout);
	}
	stop = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("other %lu\n", (unsigned long)other);
	return 0;
}
