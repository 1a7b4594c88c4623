/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For each line on standard input: a call of virDomainGetName, then the line on standard output;
 * the first by the main thread, which then ends, the others by another thread.
 */

#include <pthread.h>
#include "caller.h"

static pthread_t main_thread;
static virDomainPtr domain;

static int step(void)
{
	char line[32];

	if (!fgets(line, sizeof(line), stdin))
		return 0;
	check(!strcmp(virDomainGetName(domain), "test"), "virDomainGetName");
	fputs(line, stdout);
	fflush(stdout);
	return 1;
}

static void *go_on(void *unused)
{
	check(!pthread_join(main_thread, NULL), "pthread_join");
	while (step())
		;
	return unused;
}

int main(void)
{
	pthread_t other;

	domain = find_domain(open_test(), "test");
	main_thread = pthread_self();
	puts("ready");
	fflush(stdout);
	step();
	check(!pthread_create(&other, NULL, go_on, NULL), "pthread_create");
	pthread_exit(NULL);
}
