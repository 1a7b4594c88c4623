/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Starts processes, one after the other, until standard input is closed. `process_storm FILE`: each
 * makes a file of its own from FILE, maps it for execution, removes it and ends. `process_storm
 * FILE exec`: each becomes FILE.
 */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <unistd.h>

static int map_and_remove(const char *path)
{
	char name[4096];
	int from = open(path, O_RDONLY), to;

	snprintf(name, sizeof(name), "%s.%d", path, getpid());
	to = open(name, O_RDWR | O_CREAT | O_EXCL, 0755);
	if (from < 0 || to < 0 || sendfile(to, from, NULL, 1 << 24) <= 0)
		return 1;
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, to, 0) == MAP_FAILED)
		return 1;
	return unlink(name) != 0;
}

int main(int argc, char **argv)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};

	if (argc < 2)
		return 2;
	puts("ready");
	fflush(stdout);
	while (!poll(&input, 1, 0)) {
		pid_t child = fork();
		int status;

		if (!child) {
			if (argc == 2)
				_exit(map_and_remove(argv[1]));
			execl(argv[1], argv[1], NULL);
			_exit(1);
		}
		if (waitpid(child, &status, 0) != child || status)
			return 1;
	}
	return 0;
}
