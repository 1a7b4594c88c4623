/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loads HOW PLUGIN: runs work() of a plugin that is linked to libvirt, or finds libvirt's functions
 * itself; prints what suspending gave.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static int by_itself(void *(*find)(void *, const char *))
{
	void *libvirt = dlopen("libvirt.so.0", RTLD_LAZY);
	void *(*open_it)(const char *) = (void *(*)(const char *))find(libvirt, "virConnectOpen");
	void *(*look)(void *, const char *) =
		(void *(*)(void *, const char *))find(libvirt, "virDomainLookupByName");
	int (*suspend)(void *) = (int (*)(void *))find(libvirt, "virDomainSuspend");

	return suspend(look(open_it("test:///default"), "test"));
}

static void *find_version(void *libvirt, const char *name)
{
	return dlvsym(libvirt, name, "LIBVIRT_0.0.3");
}

int main(int argc, char **argv)
{
	const char *how = argv[1];
	void *plugin = NULL;

	if (!strcmp(how, "dlsym")) {
		printf("%d\n", by_itself(dlsym));
	} else if (!strcmp(how, "dlvsym")) {
		printf("%d\n", by_itself(find_version));
	} else {
		if (!strcmp(how, "namespace"))
			plugin = dlmopen(LM_ID_NEWLM, argv[2], RTLD_NOW);
		else
			plugin = dlopen(argv[2], RTLD_NOW |
						 (strcmp(how, "deep") ? 0 : RTLD_DEEPBIND) |
						 (strcmp(how, "global") ? 0 : RTLD_GLOBAL));
		if (!plugin) {
			puts(dlerror());
			return 1;
		}
		printf("%d\n", ((int (*)(void))dlsym(plugin, "work"))());
	}
	return argc < 2;
}
