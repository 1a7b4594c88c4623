/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls under a rule in children of a process whose other threads make such calls all the time, and
 * in a signal handler that interrupts them; each child's call must be denied. Prints how many were.
 * Threads have a connection of their own: libvirt locks it where a call fails, and a lock that
 * another thread holds stays locked in the child, enforced or not.
 */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>
#include "caller.h"

#define CHILDREN 101

static virDomainPtr domain, of_threads;
static atomic_ulong in_handler, allowed;
static atomic_bool stop;

static void on_alarm(int number)
{
	(void)number;
	if (virDomainSuspend(domain) != -1)
		allowed++;
	in_handler++;
}

static void *work(void *data)
{
	(void)data;
	while (!stop)
		if (virDomainSuspend(of_threads) != -1)
			allowed++;
	return NULL;
}

int main(void)
{
	struct itimerval often = { { 0, 500 }, { 0, 500 } };
	struct itimerval never = { { 0, 0 }, { 0, 0 } };
	pthread_t threads[2];
	sigset_t alarm;
	int denied = 0;

	domain = find_domain(open_test(), "test");
	of_threads = find_domain(open_test(), "test");
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	for (int i = 0; i < 2; i++)
		check(!pthread_create(&threads[i], NULL, work, NULL), "pthread_create");
	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = fork();
		int status;

		if (!pid)
			_exit(virDomainSuspend(domain) == -1 ? 7 : 8);
		check(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
		denied += WIFEXITED(status) && WEXITSTATUS(status) == 7;
	}
	stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	signal(SIGALRM, on_alarm);
	pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (in_handler < CALLS)
		virDomainGetName(domain);
	setitimer(ITIMER_REAL, &never, NULL);
	printf("denied %d allowed %lu handler %s\n", denied, (unsigned long)allowed,
	       in_handler >= CALLS ? "yes" : "no");
	return 0;
}
