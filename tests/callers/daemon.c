/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Says what the enforcer takes it for, "daemon" or "program", and waits until its input ends. With
 * -DDAEMON it imports what makes a daemon. In a daemon the enforcer takes its own words out of the
 * environment.
 */
#include <stdio.h>
#include <stdlib.h>
#include <libvirt/libvirt.h>

void *virNetDaemonNew(void);

int main(int argc, char **argv)
{
	(void)argv;
#ifdef DAEMON
	if (argc > 99)
		virNetDaemonNew();
#endif
	if (argc > 99)
		virInitialize();
	puts(getenv("LIBVIRT_TRACE_POLICY") ? "program" : "daemon");
	fflush(stdout);
	return getchar() == EOF ? 0 : 1;
}
