/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For each length that is an argument: looks for a domain of that name, which lies right before
 * memory that can't be read; then has the same as a name in a handle and as a result.
 */

#include "caller.h"
#include <sys/mman.h>

#define NAME 4			/* struct _virDomain: a pointer 32 bytes behind its start */

static char *place(size_t length)
{
	size_t page = 4096, room = (length + 1 + page - 1) & ~(page - 1);
	char *start = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	check(start != MAP_FAILED, "mmap");
	check(!mprotect(start + room, page, PROT_NONE), "mprotect");
	start += room - length - 1;
	fill(start, length);
	return start;
}

int main(int argc, char **argv)
{
	virConnectPtr conn = open_test();
	virDomainPtr domain = find_domain(conn, "test");

	for (int i = 1; i < argc; i++) {
		size_t length = strtoul(argv[i], NULL, 0);
		char *text = place(length), **name = (char **)domain + NAME, *saved = *name;

		check(!virDomainLookupByName(conn, text), "looking for nothing");
		*name = text;
		check(virDomainGetName(domain) == text, "virDomainGetName");
		*name = saved;
		printf("%zu\n", length);
	}
	return 0;
}
