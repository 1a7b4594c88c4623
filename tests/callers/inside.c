/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a program does while libvirt calls it back: `inside WHAT URI [COMMAND...]`, where URI makes
 * virConnectOpenAuth ask for a name and a password. In the callback it does WHAT, once; a COMMAND
 * is for WHAT to run. Then it makes 23 calls of virDomainGetID. Prints {"pid":..., "tid":...,
 * "opened":...} when the connection is open.
 */

#define _GNU_SOURCE
#include "caller.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char *what, *uri;
static char **again;		/* the command that `exec` becomes */
static virDomainPtr domain;
static jmp_buf out;
static bool is_child;

static bool doing(const char *name)
{
	return !strcmp(what, name);
}

static void call_23(virDomainPtr of)
{
	for (int i = 0; i < CALLS; i++)
		check(virDomainGetName(of), "virDomainGetName");
}

static void on_signal(int number)
{
	(void)number;
	call_23(domain);
}

static void signal_on_another_stack(void)
{
	static char stack[1 << 16];	/* below the main thread's */
	stack_t other = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	check(!sigaltstack(&other, NULL) && !sigaction(SIGUSR1, &action, NULL), "sigaction");
	raise(SIGUSR1);
}

static void *fork_in_thread(void *data)
{
	int status;

	(void)data;
	fflush(stdout);
	if (!fork()) {
		call_23(domain);
		_exit(0);
	}
	wait(&status);
	return NULL;
}

static void do_it(void)
{
	pthread_t thread;

	if (doing("call")) {
		call_23(domain);
	} else if (doing("fork")) {
		is_child = !fork();
		if (is_child)
			call_23(domain);
	} else if (doing("fork-elsewhere")) {
		pthread_create(&thread, NULL, fork_in_thread, NULL);
		pthread_join(thread, NULL);
	} else if (doing("spawn")) {
		pid_t pid;
		int status;

		check(!posix_spawn(&pid, again[0], NULL, NULL, again, environ) &&
			      waitpid(pid, &status, 0) == pid,
		      "posix_spawn");
	} else if (doing("exec") || doing("exec-in-thread")) {
		execv(again[0], again);
	} else if (doing("kill")) {
		kill(getpid(), SIGKILL);
	} else if (doing("exit")) {
		exit(0);
	} else if (doing("end-thread")) {
		pthread_exit(NULL);
	} else if (doing("longjmp")) {
		longjmp(out, 1);
	} else if (doing("signal")) {
		signal_on_another_stack();
	} else if (doing("change-user")) {
		check(!setresgid(65534, 65534, 65534) && !setresuid(65534, 65534, 65534),
		      "setresuid");
	} else if (doing("change-root")) {
		check(!chroot("/proc/self/fdinfo") && !chdir("/"), "chroot");
	} else if (doing("hide-memory")) {
		check(!prctl(PR_SET_DUMPABLE, 0), "prctl");
	} else if (doing("stop")) {
		raise(SIGSTOP);
	} else if (doing("open")) {
		virConnectClose(virConnectOpen("test:///default"));
	}
}

static int ask(virConnectCredentialPtr cred, unsigned int count, void *data)
{
	static bool asked;

	(void)data;
	for (unsigned int i = 0; i < count; i++) {
		cred[i].result = strdup(cred[i].type == VIR_CRED_AUTHNAME ? "fred" : "swordfish");
		cred[i].resultlen = strlen(cred[i].result);
	}
	if (asked)
		return 0;
	asked = true;
	if (doing("tail"))
		return virDomainSuspend(domain);	/* a jump: it returns to libvirt */
	do_it();
	return 0;
}

static void *open_it(void *data)
{
	int types[] = { VIR_CRED_AUTHNAME, VIR_CRED_PASSPHRASE };
	virConnectAuth auth = { types, 2, ask, NULL };
	virConnectPtr volatile conn = NULL;

	if (!setjmp(out))
		conn = virConnectOpenAuth(uri, &auth, 0);
	if (!doing("longjmp"))
		check(conn, "virConnectOpenAuth");
	printf("{\"pid\":%d,\"tid\":%d,\"opened\":%s}\n", getpid(), gettid(),
	       conn ? "true" : "false");
	fflush(stdout);
	if (doing("confine"))	/* to read(), write() and _exit() of the thread */
		check(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), "prctl");
	for (int i = 0; i < CALLS; i++)
		check(virDomainGetID(domain) > 0, "virDomainGetID");
	if (doing("confine"))
		syscall(SYS_exit, 0);
	return data;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	check(argc >= 3, "counting arguments");
	what = argv[1];
	uri = argv[2];
	again = argv + 3;
	domain = find_domain(open_test(), "test");
	if (doing("end-thread") || doing("exec-in-thread")) {
		pthread_create(&thread, NULL, open_it, NULL);
		pthread_join(thread, NULL);
		for (int i = 0; i < CALLS; i++)
			check(virDomainGetID(domain) > 0, "virDomainGetID");
	} else {
		open_it(NULL);
	}
	if (is_child)
		_exit(0);
	while (wait(NULL) > 0)
		;
	return 0;
}
