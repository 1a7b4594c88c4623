/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * execs N [CGROUP...]: runs itself N times, in as many processes, each of which makes one call,
 * prints {"pid":PID,"ppid":PPID,"number":NUMBER} and ends; in one of the cgroups after the other.
 */

#include <fcntl.h>
#include <sys/wait.h>
#include "caller.h"

extern char **environ;

static int child(const char *number)
{
	unsigned long version;

	check(!virGetVersion(&version, NULL, NULL), "virGetVersion");
	printf("{\"pid\":%d,\"ppid\":%d,\"number\":%s}\n", getpid(), getppid(), number);
	fflush(stdout);
	_exit(0);
}

static void enter(const char *cgroup)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = open(path, O_WRONLY);
	if (write(fd, "0", 1) != 1)
		_exit(97);
	close(fd);
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1, i, status;

	if (argc > 2 && !strcmp(argv[1], "call"))
		return child(argv[2]);
	setsid();	/* processors are shared among sessions: it waits for no other test */
	for (i = 0; i < count; i++) {
		char number[16];
		char *again[] = { argv[0], "call", number, NULL };
		pid_t pid = fork();

		if (!pid) {
			snprintf(number, sizeof(number), "%d", i);
			if (argc > 2)
				enter(argv[2 + i % (argc - 2)]);
			execve(argv[0], again, environ);
			_exit(98);
		}
		check(waitpid(pid, &status, 0) == pid, "waitpid");
		if (status) {
			fprintf(stderr, "execs: %d ended with %#x\n", i, status);
			return 1;
		}
	}
	return 0;
}
