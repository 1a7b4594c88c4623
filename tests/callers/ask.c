/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes the calls that standard input names, one a line (FUNCTION OBJECT FLAGS), on the connection
 * that the argument names, and prints for each "denied" (the failing result and
 * VIR_ERR_ACCESS_DENIED), or "passed", whatever libvirt made of it. It gets its handles from
 * libvirt directly, so that no policy keeps it from asking.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include "caller.h"

static char name[4096], function[128];

static bool is(const char *other)
{
	return !strcmp(function, other);
}

typedef void *lookup(void *, const char *);
typedef void *connect(const char *);

static void *directly(const char *of)
{
	void *libvirt = dlopen("libvirt.so.0", RTLD_LAZY),
	     *found = dlvsym(libvirt, of, "LIBVIRT_0.0.3");

	return found ? found : dlvsym(libvirt, of, "LIBVIRT_0.2.0");
}

int main(int argc, char **argv)
{
	virConnectPtr conn;
	unsigned int flags;
	char line[8192];

	(void)argc;
	virSetErrorFunc(NULL, no_message);
	conn = ((connect *)directly("virConnectOpen"))(argv[1]);
	check(conn, "virConnectOpen");
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		virDomainPtr domain = NULL;
		virNetworkPtr network = NULL;
		long result = 0;
		virErrorPtr error;
		bool denied;

		check(sscanf(line, "%127s %4095s %u", function, name, &flags) == 3, line);
		if (!strncmp(function, "virDomain", 9) && !is("virDomainLookupByName"))
			domain = ((lookup *)directly("virDomainLookupByName"))(conn, name);
		else if (!strncmp(function, "virNetwork", 10))
			network = ((lookup *)directly("virNetworkLookupByName"))(conn, name);
		check(domain || network || is("virDomainLookupByName"), line);
		virResetLastError();
		if (is("virDomainLookupByName"))
			result = -!virDomainLookupByName(conn, name);
		else if (is("virDomainSuspend"))
			result = virDomainSuspend(domain);
		else if (is("virDomainResume"))
			result = virDomainResume(domain);
		else if (is("virDomainGetInfo"))
			result = virDomainGetInfo(domain, &(virDomainInfo){ 0 });
		else if (is("virDomainSetMemoryFlags"))
			result = virDomainSetMemoryFlags(domain, 1024, flags);
		else if (is("virDomainGetXMLDesc"))
			result = -!virDomainGetXMLDesc(domain, flags);
		else if (is("virNetworkGetBridgeName"))
			result = -!virNetworkGetBridgeName(network);
		else if (is("virNetworkSetAutostart"))
			result = virNetworkSetAutostart(network, 0);
		else
			check(false, function);
		error = virGetLastError();
		denied = result < 0 && error && error->code == VIR_ERR_ACCESS_DENIED &&
			 error->domain == VIR_FROM_ACCESS;
		puts(denied ? "denied" : "passed");
		fflush(stdout);
	}
	return 0;
}
