/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loads the plugin (the first argument, which is linked to libvirt) with local scope, lets it make
 * a call, unloads it, and all that again. Prints what each call returned; then whether a function
 * that this libvirt lacks can be found.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	for (int i = 0; i < 3; i++) {
		void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
		int (*call)(void) = plugin ? (int (*)(void))dlsym(plugin, "plugin_call") : NULL;

		if (!call) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		printf("%d\n", call());
		dlclose(plugin);
	}
	for (int i = 2; i < argc; i++)
		printf("%s %s\n", argv[i], dlsym(RTLD_DEFAULT, argv[i]) ? "found" : "missing");
	return 0;
}
