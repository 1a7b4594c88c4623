/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A directory of users (libnss_slow.so.2) that is down: it answers after 20 s, or as soon as there
 * is the file that NSS_SLOW names.
 */

#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum nss_status _nss_slow_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size,
				     int *error)
{
	const struct timespec moment = { .tv_nsec = 10 * 1000 * 1000 };
	const char *answers = getenv("NSS_SLOW");
	int i;

	for (i = 0; i < 2000 && (!answers || access(answers, F_OK)); i++)
		nanosleep(&moment, NULL);
	(void)buffer;
	(void)size;
	if (uid != 70000) {
		*error = ENOENT;
		return NSS_STATUS_NOTFOUND;
	}
	*entry = (struct passwd){ "carol", "x", uid, uid, "", "/", "/bin/sh" };
	return NSS_STATUS_SUCCESS;
}
