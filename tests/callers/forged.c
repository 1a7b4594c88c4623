/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Says in the enforcer's name that the function of that number was denied, and then that it is
 * looking for what a call is about, with a stack pointer that is far above or near; and makes calls
 * of its own: `forged ENFORCER far|near NUMBER`.
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
	struct verdict denied = { .action = 3 }, looking = { .action = 4 };
	void (*say)(const struct verdict *);
	void *library;
	virDomainPtr domain = find_domain(open_test(), "test");

	check(argc == 4 && (library = dlopen(argv[1], RTLD_NOW)), "dlopen");
	check((say = (void (*)(const struct verdict *))dlsym(library, "libvirt_trace_verdict")),
	      "libvirt_trace_verdict");
	denied.number = looking.number = atoi(argv[3]);
	denied.sp = (uint64_t)__builtin_frame_address(0) + 4096;
	say(&denied);
	looking.sp = *argv[2] == 'f' ? ~0ull >> 1 : (uint64_t)__builtin_frame_address(0) + 4096;
	for (int i = 0; i < CALLS; i++) {
		say(&looking);
		check(!virDomainSuspend(domain) && !virDomainResume(domain), "virDomainSuspend");
	}
	say(&looking);
	check(!virDomainDestroy(domain), "virDomainDestroy");
	return 0;
}
