/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two threads on one CPU, 3,000 calls each, whose strings and objects lie on pages that must be
 * read from FILE first: while the tracer waits for one thread's page, the other thread calls.
 * Prints the threads' ids; the n-th string of thread t is "t n" and (37 n mod 1500) letters.
 */

#define _GNU_SOURCE
#include "caller.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#define MADE 3000
#define PAGE 4096
#define ROOM (2 * PAGE)		/* of a call in the file: strings cross from one page to the next */
#define NAME 4			/* struct _virDomain: a pointer 32 bytes behind its start */
#define DOMAIN 64		/* bytes of it, and of what GObject keeps before it */
#define PRIVATE 16

static char *text[2];
static int tids[2];
static pthread_barrier_t together;

static char *string(int thread, int n)
{
	return text[thread] + n * ROOM + PAGE - 10;
}

static void **object(int thread, int n)
{
	return (void **)(text[thread] + n * ROOM + PRIVATE);
}

static void write_all(const char *path, virDomainPtr domain)
{
	size_t size = (size_t)MADE * ROOM;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *all;

	check(fd >= 0 && !ftruncate(fd, 2 * size), "open");
	all = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(all != MAP_FAILED, "mmap");
	for (int thread = 0; thread < 2; thread++) {
		text[thread] = all + thread * size;
		for (int n = 0; n < MADE; n++) {
			char *to = string(thread, n);

			memcpy((char *)object(thread, n) - PRIVATE, (char *)domain - PRIVATE,
			       PRIVATE + DOMAIN);
			object(thread, n)[NAME] = to;
			fill(to + sprintf(to, "%d %d", thread, n), 37 * n % 1500);
		}
	}
	/* neither mapped nor cached, and no page brings its neighbours along */
	check(!msync(all, 2 * size, MS_SYNC) && !madvise(all, 2 * size, MADV_RANDOM), "msync");
	check(!madvise(all, 2 * size, MADV_DONTNEED), "madvise");
	check(!posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) &&
		      !posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED),
	      "posix_fadvise");
}

static void *call(void *data)
{
	int thread = (intptr_t)data;

	tids[thread] = gettid();
	pthread_barrier_wait(&together);
	for (int n = 0; n < MADE; n++)
		if (n & 1)
			check(virDomainGetName((virDomainPtr)object(thread, n)),
			      "virDomainGetName");
		else
			check(!virDomainLookupByName(NULL, string(thread, n)),
			      "refusing without a connection");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];
	cpu_set_t one;

	check(argc == 2, "counting arguments");
	write_all(argv[1], find_domain(open_test(), "test"));
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	check(!sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity");
	pthread_barrier_init(&together, NULL, 2);
	for (intptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, call, (void *)i);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	printf("%d\n%d\n", tids[0], tids[1]);
	return 0;
}
