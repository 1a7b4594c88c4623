/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `confined CALLS`: so many calls of virConnectNumOfDomains, and as many of a thread under seccomp,
 * whose filter lets everything pass. */

#include "caller.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>

static virConnectPtr conn;
static long calls;

static void make_calls(void)
{
	for (long i = 0; i < calls; i++)
		check(virConnectNumOfDomains(conn) == 1, "virConnectNumOfDomains");
}

static void *run(void *data)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { .len = 1, .filter = &allow };

	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
			!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0),
		"prctl");
	make_calls();
	return data;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	check(argc == 2, "reading the number of calls");
	calls = atol(argv[1]);
	conn = open_test();
	make_calls();
	pthread_create(&thread, NULL, run, NULL);
	pthread_join(thread, NULL);
	printf("%ld\n", calls);
	return 0;
}
