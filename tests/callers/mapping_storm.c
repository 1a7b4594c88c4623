/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Maps a file for execution and lets go of it, again and again until standard input is closed:
 * `mapping_storm NAMES FILE`; the file has so many names in turn.
 */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define TURNS 4096		/* between two looks at standard input */

int main(int argc, char **argv)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	int names = argc == 3 ? atoi(argv[1]) : 0;
	int fd = names ? open(argv[2], O_RDONLY) : -1;
	char was[4096], name[4096];

	if (fd < 0)
		return 2;
	snprintf(was, sizeof(was), "%s", argv[2]);
	puts("ready");
	fflush(stdout);
	for (unsigned int turn = 0; turn % TURNS || !poll(&input, 1, 0); turn++) {
		void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

		if (code == MAP_FAILED || munmap(code, 4096))
			return 1;
		if (names == 1)
			continue;
		snprintf(name, sizeof(name), "%s.%u", argv[2], turn % names);
		if (rename(was, name))
			return 1;
		snprintf(was, sizeof(was), "%s", name);
	}
	return 0;
}
