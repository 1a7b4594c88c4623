/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two callers going flat out on read-only calls for so many seconds, while a third makes 23 calls
 * that change something, evenly spread. Each is a process of its own; prints {"pid":...,
 * "function":..., "made":...} for each function that it called.
 */

#define _GNU_SOURCE
#include "caller.h"
#include <sched.h>
#include <sys/wait.h>
#include <time.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void say(const char *function, long made)
{
	printf("{\"pid\":%d,\"function\":\"%s\",\"made\":%ld}\n", getpid(), function, made);
}

static void read_flat_out(double seconds, int cpu)
{
	virDomainPtr domain = find_domain(open_test(), "test");
	double end = now() + seconds;
	long made = 0;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);	/* both on one where there is one */
	while (now() < end)
		for (int i = 0; i < 1000; i++, made++)
			check(virDomainGetName(domain), "virDomainGetName");
	say("virConnectOpen", 1);
	say("virDomainLookupByName", 1);
	say("virDomainGetName", made);
}

static void write_now_and_then(double seconds)
{
	virDomainPtr domain = find_domain(open_test(), "test");

	for (int i = 0; i < CALLS; i++) {
		check(!(i & 1 ? virDomainResume(domain) : virDomainSuspend(domain)),
		      "virDomainSuspend");
		usleep(seconds * 1e6 / CALLS);
	}
	say("virConnectOpen", 1);
	say("virDomainLookupByName", 1);
	say("virDomainSuspend", (CALLS + 1) / 2);
	say("virDomainResume", CALLS / 2);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 0;
	int status;

	check(seconds > 0, "reading the number of seconds");
	for (int i = 0; i < 3; i++)
		if (!fork()) {
			if (i < 2)
				read_flat_out(seconds, i);
			else
				write_now_and_then(seconds);
			fflush(stdout);
			_exit(0);
		}
	while (wait(&status) > 0)
		check(!status, "a caller");
	return 0;
}
