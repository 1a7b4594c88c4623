/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded: calls of virDomainGetName come in; each goes on to libvirt and, as a line that is
 * flushed, to the file BENCH_LOG.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libvirt/libvirt.h>
#include <stdio.h>
#include <stdlib.h>

static const char *(*real)(virDomainPtr domain);
static FILE *out;

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("BENCH_LOG");

	out = fopen(path ? path : "/dev/null", "w");
	real = dlsym(RTLD_NEXT, "virDomainGetName");
}

const char *virDomainGetName(virDomainPtr domain)
{
	const char *name = real(domain);

	if (out) {
		fprintf(out,
			"<event>virDomainGetName</event><state>%d</state><param><name>%s</name>"
			"</param>\n",
			name != NULL, name ? name : "");
		fflush(out);
	}
	return name;
}
