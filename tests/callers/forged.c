/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Says in the enforcer's name that it is looking for what a call is about, with a stack pointer
 * that is far above or near, and then makes calls of its own: `forged ENFORCER far|near`.
 */

#include "caller.h"
#include <dlfcn.h>

struct verdict {		/* as enforcer.h has it */
	uint64_t args[6];
	uint64_t sp;
	uint32_t number, action;
	const char *function, *rule, *message, *note;
	uint64_t result;
};

int main(int argc, char **argv)
{
	struct verdict looking = { .action = 4, .number = 1 };
	void (*say)(const struct verdict *);
	void *library;
	virDomainPtr domain = find_domain(open_test(), "test");

	check(argc == 3 && (library = dlopen(argv[1], RTLD_NOW)), "dlopen");
	check((say = (void (*)(const struct verdict *))dlsym(library, "libvirt_trace_verdict")),
	      "libvirt_trace_verdict");
	looking.sp = *argv[2] == 'f' ? ~0ull >> 1 : (uint64_t)__builtin_frame_address(0) + 4096;
	for (int i = 0; i < CALLS; i++) {
		say(&looking);
		check(!virDomainSuspend(domain) && !virDomainResume(domain), "virDomainSuspend");
	}
	say(&looking);
	check(!virDomainDestroy(domain), "virDomainDestroy");
	return 0;
}
