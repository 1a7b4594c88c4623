/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * So many threads at once, each making 23 calls with a name of its own that is not found; prints
 * each thread's id and name.
 */

#define _GNU_SOURCE
#include "caller.h"
#include <pthread.h>

#define MOST 256

static virConnectPtr conn;
static pthread_barrier_t together;
static int tids[MOST];

static void *call(void *data)
{
	int n = (intptr_t)data;
	char name[32];

	snprintf(name, sizeof(name), "thread %d", n);
	tids[n] = gettid();
	pthread_barrier_wait(&together);
	for (int i = 0; i < CALLS; i++)
		check(!virDomainLookupByName(conn, name), "looking for nothing");
	return NULL;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 0;
	pthread_t threads[MOST];

	check(count > 0 && count <= MOST, "counting threads");
	conn = open_test();
	pthread_barrier_init(&together, NULL, count);
	for (intptr_t i = 0; i < count; i++)
		check(!pthread_create(&threads[i], NULL, call, (void *)i), "pthread_create");
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < count; i++)
		printf("[%d,\"thread %d\"]\n", tids[i], i);
	return 0;
}
