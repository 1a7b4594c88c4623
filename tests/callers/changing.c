/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls with a string that another thread keeps changing, shortening and making unreadable; the
 * arguments are its size and the number of calls.
 */

#include "caller.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

static char *text;
static size_t size;		/* with its NUL, multiple of a page */
static atomic_bool done;

static void *change(void *data)
{
	(void)data;
	while (!done) {
		memset(text, 'a', size - 1);
		text[size / 2] = 0;
		memset(text, 'b', size - 1);
		mprotect(text, size, PROT_NONE);
		mprotect(text, size, PROT_READ | PROT_WRITE);
		text[1] = 0;
		memset(text, 'c', size - 1);
		madvise(text, size, MADV_DONTNEED);	/* zeros from now on */
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	check(argc == 3, "counting arguments");
	virSetErrorFunc(NULL, no_message);
	check(!virInitialize(), "virInitialize");
	size = strtoul(argv[1], NULL, 0);
	text = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(text != MAP_FAILED, "mmap");
	pthread_create(&thread, NULL, change, NULL);
	for (int i = 0; i < atoi(argv[2]); i++)
		check(!virDomainLookupByName(NULL, text), "refusing without a connection");
	done = true;
	pthread_join(thread, NULL);
	return 0;
}
