/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls virDomainSetMemory so often: `writer COUNT [RATE]`, flat out or RATE times a second, or
 * until SIGTERM. Prints {"pid":..., "uid":..., "made":...}.
 */

#include "caller.h"
#include <signal.h>
#include <time.h>

static volatile sig_atomic_t ended;

static void end(int signal)
{
	(void)signal;
	ended = 1;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 0, rate = argc > 2 ? atol(argv[2]) : 0, made = 0;
	virDomainPtr domain = find_domain(open_test(), "test");
	struct timespec next;

	check(count > 0, "reading the number of calls");
	signal(SIGTERM, end);
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (made < count && !ended) {
		check(!virDomainSetMemory(domain, 4096 + made++ % 4096), "virDomainSetMemory");
		if (!rate)
			continue;
		next.tv_nsec += 1000000000 / rate;
		next.tv_sec += next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	printf("{\"pid\":%d,\"uid\":%d,\"made\":%ld}\n", getpid(), getuid(), made);
	return 0;
}
