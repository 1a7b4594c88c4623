/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a stub's call arrives: the address to go on with goes out, 0: it returns at once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "enforcer.h"

extern char **environ;

void read_environment(void);

bool is_daemon;
atomic_bool started;

/*
 * A daemon passes LD_PRELOAD on to QEMU, hooks and ssh, which are no business of ours. Our entry is
 * taken out in place: what others preload stays.
 */
static void leave_environment(const char *self)
{
	static const char *const own[] = { "LIBVIRT_TRACE_POLICY=", "LIBVIRT_TRACE_ON_ERROR=" };
	char *list = getenv("LD_PRELOAD"), *to = list;
	char **keep = environ, **each;

	for (char *word = list; word && *word;) {
		size_t length = strcspn(word, ": ");
		size_t with_separator = length + (word[length] != 0);

		if (length != strlen(self) || memcmp(word, self, length)) {
			memmove(to, word, with_separator);
			to += with_separator;
		}
		word += with_separator;
	}
	if (to)
		*to = 0;
	for (each = environ; each && *each; each++) {
		bool is_own = list == to && !strncmp(*each, "LD_PRELOAD=", 11);

		for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
			is_own |= !strncmp(*each, own[i], strlen(own[i]));
		if (!is_own)
			*keep++ = *each;
	}
	if (keep)
		*keep = NULL;
}

/*
 * Everything that calls need; any number of threads may do this at once. Without libvirt there is
 * nothing to do yet.
 */
void start(void)
{
	int saved = errno;

	resolve();
	look_for_changes();
	if (has_libvirt())
		atomic_store(&started, true);
	errno = saved;
}

__attribute__((constructor)) static void begin(void)
{
	struct link_map *program = dlopen(NULL, RTLD_LAZY | RTLD_NOLOAD);
	Dl_info self;
	void *libvirt;

	read_environment();
	/* or virNetDaemonNewPostExecRestart */
	is_daemon = program && imports(program, "virNetDaemonNew");
	if (is_daemon && dladdr(enforcer_stubs, &self))
		leave_environment(self.dli_fname);
	/*
	 * not to be loaded yet costs nothing; a program that was linked to it gets ready before it
	 * has threads
	 */
	libvirt = dlopen("libvirt.so.0", RTLD_LAZY | RTLD_NOLOAD);
	if (libvirt)
		start();
	else if (has_own_policy())
		/* a call that gets past us can be told from one that nobody forbids */
		look_for_changes();
}

/* A stub whose function libvirt lacks: found before libvirt was loaded, or its library is not. */
static uint64_t missing(struct call *call)
{
	int saved = errno;

	resolve();
	errno = saved;
	call->result = (int64_t)functions[call->number].failure;
	return real_of(call->number);
}

__attribute__((visibility("hidden"))) uint64_t enforcer_decide(struct call *call)
{
	unsigned number = call->number;
	uint64_t real;

	if (UNLIKELY(!atomic_load_explicit(&started, memory_order_acquire)))
		start();
	look_for_changes();
	real = real_of(number);
	if (UNLIKELY(!real))
		return missing(call);
	if (UNLIKELY(is_daemon && number == NUMBER_virConnectSetIdentity))
		speak_for_peer(call);
	if (UNLIKELY(atomic_load_explicit(&problem_due, memory_order_relaxed)))
		tell_problem(call);
	if (LIKELY(!atomic_load_explicit(&ruled[number], memory_order_relaxed)))
		return real;
	return judge(call);
}
