/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Leaves libvirt's calls on one stack, from what a failing one calls back, and makes others on
 * another: `stacks WAY ROUNDS`, 0 rounds: until the standard input ends. WAY: fibers (swapcontext),
 * above, below (a signal handler on a stack that is higher or lower), longjmp (for good), deeper
 * (likewise, from five depths of the stack, and makes the others at three), copies (by longjmp, and
 * comes back: the stack was copied away meanwhile), nested (no other stack), abyss (likewise, a
 * hundred calls deep). Each result is checked; prints [rounds, calls back].
 */

#define _GNU_SOURCE
#include "caller.h"
#include <alloca.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK (1 << 20)

static virConnectPtr conn;
static const char *way;
static long rounds, backs;
static int depth;
static ucontext_t outside, inside;
static jmp_buf out, back;
static char *base, *kept_at, kept[STACK];

static void call_another(void)
{
	check(virConnectNumOfDomains(conn) == 1, "virConnectNumOfDomains");
}

static void fail(void)
{
	check(!virDomainLookupByName(conn, "nosuch"), "virDomainLookupByName");
}

static __attribute__((noinline)) void keep_stack(void)
{
	kept_at = __builtin_frame_address(0);
	memcpy(kept, kept_at, base - kept_at);
}

static void leave_by_copying(void)
{
	if (!setjmp(back)) {
		keep_stack();
		longjmp(out, 1);
	}
}

static __attribute__((noinline)) void put_back(void)
{
	memcpy(kept_at, kept, base - kept_at);
	longjmp(back, 1);
}

/* From below what is put back. */
static __attribute__((noinline)) void come_back(void)
{
	volatile char *room = alloca(base - kept_at + 1024);

	room[0] = 0;
	put_back();
}

static __attribute__((noinline)) void fail_and_copy(void)
{
	base = (char *)__builtin_frame_address(0) + 2 * sizeof(void *);
	fail();
	asm volatile("");
}

static __attribute__((noinline)) void copying_round(void)
{
	if (setjmp(out)) {
		call_another();
		come_back();
	} else {
		fail_and_copy();
	}
}

static void on_signal(int number)
{
	(void)number;
	call_another();
}

static void on_error_call(void *data, virErrorPtr error)
{
	(void)data;
	(void)error;
	backs++;
	if (!strcmp(way, "fibers")) {
		swapcontext(&inside, &outside);
	} else if (!strcmp(way, "longjmp") || !strcmp(way, "deeper")) {
		longjmp(out, 1);
	} else if (!strcmp(way, "copies")) {
		leave_by_copying();
	} else if (!strcmp(way, "nested") || !strcmp(way, "abyss")) {
		call_another();
		if (depth++ < (*way == 'a' ? 99 : 3))
			fail();
		depth--;
	} else {
		raise(SIGUSR1);
	}
}

static void fail_for_ever(void)
{
	for (;;)
		fail();
}

static __attribute__((noinline)) void at_depth(long frames, void (*what)(void))
{
	volatile char room[512];

	room[0] = 0;
	if (frames)
		at_depth(frames - 1, what);
	else
		what();
	room[1] = room[0];
}

static __attribute__((noinline)) void one_round(long done)
{
	bool is_deep = !strcmp(way, "deeper");

	if (!strcmp(way, "copies")) {
		copying_round();
		return;
	}
	if (!strcmp(way, "fibers"))
		swapcontext(&outside, &inside);
	else if ((strcmp(way, "longjmp") && !is_deep) || !setjmp(out))
		at_depth(is_deep ? done % 5 : 0, fail);
	at_depth(is_deep ? done % 3 : 0, call_another);
}

static bool goes_on(long done)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };

	return rounds ? done < rounds : done % 16 || !poll(&input, 1, 0);
}

static void *run(void *alternate)
{
	stack_t other = { .ss_sp = alternate, .ss_size = STACK };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	static long done;		/* a jump leaves it alone */

	conn = open_test();
	virSetErrorFunc(NULL, on_error_call);
	sigaltstack(&other, NULL);
	sigaction(SIGUSR1, &action, NULL);
	getcontext(&inside);
	inside.uc_stack.ss_sp = alternate;
	inside.uc_stack.ss_size = STACK;
	makecontext(&inside, fail_for_ever, 0);
	puts("\"ready\"");
	fflush(stdout);
	for (; goes_on(done); done++)
		one_round(done);
	printf("[%ld, %ld]\n", done, backs);
	fflush(stdout);
	_exit(rounds ? 0 : !done);
}

int main(int argc, char **argv)
{
	char *stacks = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	bool above;
	pthread_attr_t attributes;
	pthread_t thread;

	check(argc == 3, "reading the way and the rounds");
	way = argv[1];
	rounds = atol(argv[2]);
	above = !strcmp(way, "above");
	pthread_attr_init(&attributes);
	pthread_attr_setstack(&attributes, stacks + (above ? 0 : STACK), STACK);
	pthread_create(&thread, &attributes, run, stacks + (above ? STACK : 0));
	pthread_join(thread, NULL);
	return 1;
}
