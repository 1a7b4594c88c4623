/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls functions of libvirt without a handle from where libvirt calls the program: `elsewhere
 * PLACE URI LIBRARY:FUNCTION...`, where the URI makes virConnectOpenAuth ask for a name. Each is
 * called once; then virDomainSuspend and virDomainResume. PLACE: handler (what a failing function
 * calls), nested (a handler in a handler, a hundred deep), auth, event, coroutine (of a handler, on
 * its own stack), jump (a handler that jumps out to another stack for good, a hundred times, the
 * last of which makes the calls).
 */

#define _GNU_SOURCE
#include "caller.h"
#include <dlfcn.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK (1 << 20)
#define JUMPS 100		/* more than the kernel keeps return probes for */

typedef long call(void *, void *, void *, void *, void *, void *, void *, void *);
static virConnectPtr conn;
static virDomainPtr domain;
static call **calls;
static int count, next;
static bool busy, jumping;
static ucontext_t inside, outside;

static void make_calls(void)
{
	busy = true;			/* these fail, too */
	for (int i = 0; i < count; i++)
		calls[i](NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
	virDomainSuspend(domain);
	virDomainResume(domain);
	busy = false;
}

static void in_coroutine(void)
{
	make_calls();
	swapcontext(&inside, &outside);
}

static ucontext_t *coroutine(void (*run)(void))
{
	static char *stack;

	if (!stack)			/* below the main thread's stack, as all such memory */
		stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);
	getcontext(&inside);
	inside.uc_stack.ss_sp = stack;
	inside.uc_stack.ss_size = STACK;
	makecontext(&inside, run, 0);
	return &inside;
}

static void on_error_call(void *data, virErrorPtr error)
{
	(void)data;
	(void)error;
	if (!busy)
		make_calls();
}

static void on_error_swap(void *data, virErrorPtr error)
{
	(void)data;
	(void)error;
	if (!busy)
		swapcontext(&outside, coroutine(in_coroutine));
}

static void fail(void)
{
	virConnectSetKeepAlive(conn, 0, 0);	/* the test driver has none */
}

static void done(void)
{
	make_calls();
	fflush(stdout);
	_exit(0);
}

/* Deeper and deeper: each failing call is left for ever. */
static void again(void)
{
	if (next++ < JUMPS)
		fail();
	jumping = false;
	done();
}

static void on_error_jump(void *data, virErrorPtr error)
{
	static char *stacks;
	static ucontext_t there;

	(void)data;
	(void)error;
	if (!jumping)
		return;
	if (!stacks)
		stacks = mmap(NULL, (JUMPS + 1) * (STACK >> 4), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	getcontext(&there);
	there.uc_stack.ss_sp = stacks + (JUMPS - next) * (STACK >> 4);	/* each below the last */
	there.uc_stack.ss_size = STACK >> 4;
	makecontext(&there, again, 0);
	setcontext(&there);
}

static void on_error_nest(void *data, virErrorPtr error)
{
	(void)data;
	(void)error;
	if (busy)
		return;
	if (next++ < JUMPS)
		fail();
	else
		make_calls();
}

static int on_auth(virConnectCredentialPtr cred, unsigned int n, void *data)
{
	static bool asked;

	(void)data;
	for (unsigned int i = 0; i < n; i++) {
		cred[i].result = strdup(cred[i].type == VIR_CRED_AUTHNAME ? "fred" : "swordfish");
		cred[i].resultlen = strlen(cred[i].result);
	}
	if (!asked)
		make_calls();
	asked = true;
	return 0;
}

static void on_timeout(int timer, void *data)
{
	(void)data;
	make_calls();
	virEventRemoveTimeout(timer);
}

int main(int argc, char **argv)
{
	int types[] = { VIR_CRED_AUTHNAME, VIR_CRED_PASSPHRASE };
	virConnectAuth auth = { types, 2, on_auth, NULL };

	check(argc > 2, "counting arguments");
	calls = calloc(argc, sizeof(*calls));
	for (int i = 3; i < argc; i++) {
		char *name = strchr(argv[i], ':');

		*name++ = 0;
		calls[count] = (call *)dlsym(dlopen(argv[i], RTLD_LAZY), name);
		check(calls[count], name);
		count++;
	}
	check(!virEventRegisterDefaultImpl(), "virEventRegisterDefaultImpl");
	conn = open_test();
	domain = find_domain(conn, "test");
	printf("%d\n", getpid());
	if (!strcmp(argv[1], "auth")) {
		check(virConnectOpenAuth(argv[2], &auth, 0), "virConnectOpenAuth");
	} else if (!strcmp(argv[1], "event")) {
		check(virEventAddTimeout(0, on_timeout, NULL, NULL) >= 0 &&
			      !virEventRunDefaultImpl(),
		      "virEventRunDefaultImpl");
	} else if (!strcmp(argv[1], "jump")) {
		jumping = true;
		virSetErrorFunc(NULL, on_error_jump);
		fail();
	} else if (!strcmp(argv[1], "nested")) {
		virSetErrorFunc(NULL, on_error_nest);
		fail();
	} else {
		virSetErrorFunc(NULL, !strcmp(argv[1], "handler") ? on_error_call : on_error_swap);
		fail();
	}
	return 0;
}
