/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * N: so many processes that have libvirt mapped and do nothing; prints a line when all are there,
 * and ends with them when its input ends.
 */

#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <libvirt/libvirt.h>

int main(int argc, char **argv)
{
	int i, count = argc > 1 ? atoi(argv[1]) : 1;
	pid_t parent = getpid();

	virInitialize();
	for (i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 1;
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (getppid() == parent)
				pause();
			_exit(0);
		}
	}
	puts("all");
	fflush(stdout);
	getchar();
	return 0;
}
