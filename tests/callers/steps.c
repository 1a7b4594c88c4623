/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For each number N on standard input: N calls of virDomainGetName, then N on standard output. */

#include "caller.h"

int main(void)
{
	virDomainPtr domain = find_domain(open_test(), "test");
	char line[32];

	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		for (int i = 0; i < atoi(line); i++)
			check(!strcmp(virDomainGetName(domain), "test"), "virDomainGetName");
		fputs(line, stdout);
		fflush(stdout);
	}
	return 0;
}
