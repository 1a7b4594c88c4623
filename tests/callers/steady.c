/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls virDomainGetName for three seconds between "begin" and "end" on standard output; then
 * prints the milliseconds it took.
 */

#include <time.h>
#include "caller.h"

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

int main(void)
{
	virDomainPtr domain = find_domain(open_test(), "test");
	long long start;

	virDomainGetName(domain);
	check(write(1, "begin\n", 6) == 6, "write");
	start = now();
	while (now() < start + 3000)
		virDomainGetName(domain);
	check(write(1, "end\n", 4) == 4, "write");
	printf("%lld\n", now() - start);
	return 0;
}
