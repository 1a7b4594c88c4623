/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds for whom a call is made: in a daemon the client, as libvirt's identity of the thread has it, in a client the process.
 * A daemon's thread without a client, and one that acts for the daemon itself, is the daemon.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "enforcer.h"

typedef void *current(void);
typedef int get_number(void *, int *);
typedef int get_id(void *, uint32_t *);
typedef int get_text(void *, const char **);
typedef void unref(void *);

void find_who(struct who *who)
{
	current *get_current;
	get_number *get_pid;
	get_id *get_uid, *get_gid;
	get_text *get_sasl, *get_x509;

	*who = (struct who){ .daemon = is_daemon, .uid = -1, .gid = -1, .pid = -1 };
	if (!is_daemon) {
		who->is_known = true;
		who->pid = 0;	/* this one; its user when somebody asks: that takes system calls */
		return;
	}
	get_current = (current *)symbol("virIdentityGetCurrent");
	get_pid = (get_number *)symbol("virIdentityGetProcessID");
	get_uid = (get_id *)symbol("virIdentityGetUNIXUserID");
	get_gid = (get_id *)symbol("virIdentityGetUNIXGroupID");
	get_sasl = (get_text *)symbol("virIdentityGetSASLUserName");
	get_x509 = (get_text *)symbol("virIdentityGetX509DName");
	if (!get_current)
		return;
	who->hold = get_current();
	if (!who->hold)
		return;
	/* each returns 1 when there is such a thing; a client over TCP has no process and no user */
	if (!get_pid || get_pid(who->hold, &who->pid) != 1)
		who->pid = -1;
	if (!get_uid || get_uid(who->hold, &who->uid) != 1)
		who->uid = -1;
	if (!get_gid || get_gid(who->hold, &who->gid) != 1)
		who->gid = -1;
	if (!get_sasl || get_sasl(who->hold, &who->sasl) != 1)
		who->sasl = NULL;
	if (!get_x509 || get_x509(who->hold, &who->x509) != 1)
		who->x509 = NULL;
	who->is_known = who->pid != getpid();
}

void find_user(struct who *who)
{
	if (who->daemon || who->uid != (uint32_t)-1)
		return;
	who->uid = geteuid();
	who->gid = getegid();
}

void forget_who(struct who *who)
{
	static unref *_Atomic object_unref;

	if (!who->hold)
		return;
	if (!atomic_load(&object_unref)) {
		void *handle = dlopen("libgobject-2.0.so.0", RTLD_LAZY | RTLD_NOLOAD);

		atomic_store(&object_unref, handle ? (unref *)dlsym(handle, "g_object_unref") : NULL);
	}
	if (atomic_load(&object_unref))
		atomic_load(&object_unref)(who->hold);
	who->hold = NULL;
}

/* The program; "": it can't be told. */
void find_exe(struct question *ask)
{
	char path[40] = "/proc/self/exe";
	ssize_t length;

	if (ask->have_exe)
		return;
	ask->have_exe = true;
	if (ask->who.pid < 0)
		return;
	if (ask->who.pid > 0) {
		char digits[12] = { 0 }, *digit = digits + sizeof(digits) - 1;
		size_t n;

		for (int pid = ask->who.pid; pid; pid /= 10)
			*--digit = '0' + pid % 10;
		n = append(path, sizeof(path), 0, "/proc/");
		n = append(path, sizeof(path), n, digit);
		append(path, sizeof(path), n, "/exe");
	}
	length = readlink(path, ask->exe, sizeof(ask->exe));
	ask->exe[length > 0 && length < (ssize_t)sizeof(ask->exe) ? length : 0] = 0;
}
