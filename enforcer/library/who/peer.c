/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is at the other end of a daemon's connection: libvirt's object of it comes in; what the
 * kernel said of the process there, when the connection was made, goes out.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "peer.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77	/* Linux 6.5 */
#endif
#define PEER_KEY "libvirt-trace-peer"

bool reads(const char *path, char *buffer, size_t size)
{
	ssize_t length = readlink(path, buffer, size);

	buffer[length > 0 && length < (ssize_t)size ? length : 0] = 0;
	return buffer[0];
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static void proc_path(char *path, size_t size, int pid, const char *rest)
{
	size_t n = append(path, size, 0, "/proc/");

	n = append_number(path, size, n, pid);
	append(path, size, n, rest);
}

/*
 * The program of a process, by its path; "": it can't be told. Whoever can mount in a namespace of
 * his own can put any file at any path: there a path counts only where the same file is at it here.
 */
void read_exe(int pid, char *exe, size_t size, struct stat *file)
{
	char path[48], own_namespace[64], its_namespace[64];
	struct stat here;

	proc_path(path, sizeof(path), pid, "/exe");
	if (!reads(path, exe, size) || stat(path, file)) {
		exe[0] = 0;
		return;
	}
	if (!stat(exe, &here) && is_same_file(&here, file))
		return;
	proc_path(path, sizeof(path), pid, "/ns/mnt");
	if (!reads(path, its_namespace, sizeof(its_namespace)) ||
	    !reads("/proc/self/ns/mnt", own_namespace, sizeof(own_namespace)) ||
	    strcmp(its_namespace, own_namespace))
		exe[0] = 0;
}

/* Whether the file is one of libvirt's daemons: in one folder, and only root may write to them. */
static bool is_daemon_file(const struct stat *file)
{
	static const char *const names[] = {
		"virtproxyd", "libvirtd", "virtqemud", "virtlxcd", "virtchd", "virtxend",
		"virtvboxd", "virtvzd", "virtbhyved", "virtnetworkd", "virtstoraged",
		"virtnwfilterd", "virtsecretd", "virtnodedevd", "virtinterfaced"
	};
	char path[600];
	struct stat one;
	char *name;

	if (file->st_uid != 0 || file->st_mode & 022 || !reads("/proc/self/exe", path, 512))
		return false;
	name = strrchr(path, '/') + 1;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		append(path, sizeof(path), name - path, names[i]);
		if (!stat(path, &one) && is_same_file(&one, file))
			return true;
	}
	return false;
}

/* Whether the process, one of libvirt's daemons, has this library. */
static bool has_this_library(int pid)
{
	static const char name[] = "/" LIBRARY_FILE;
	char path[48], part[4096];
	bool found = false;
	size_t kept = 0;
	ssize_t length;
	int fd;

	proc_path(path, sizeof(path), pid, "/maps");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && !found && (length = read(fd, part + kept, sizeof(part) - kept)) > 0) {
		kept += length;
		found = memmem(part, kept, name, sizeof(name) - 1);
		/* it may begin in this part and end in the next one */
		length = kept < sizeof(name) ? kept : sizeof(name);
		memmove(part, part + kept - length, length);
		kept = length;
	}
	if (fd >= 0)
		close(fd);
	return found;
}

/* Whether the process that made the connection is still the one of its number: it has not ended. */
static bool is_still_there(int fd)
{
	struct pollfd end = { .fd = -1, .events = POLLIN };
	socklen_t size = sizeof(end.fd);
	bool ended;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &end.fd, &size))
		return errno == ENOPROTOOPT;	/* an older kernel can't say */
	ended = poll(&end, 1, 0) != 0;
	close(end.fd);
	return !ended;
}

static void read_peer(struct peer *peer, int fd)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	struct stat file = { 0 };
	struct ucred peercred;

	peer->uid = peer->gid = -1;
	peer->pid = -1;
	if (fd < 0 || getsockname(fd, (struct sockaddr *)&address, &size) ||
	    address.ss_family != AF_UNIX)
		return;
	size = sizeof(peercred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peercred, &size))
		return;
	peer->uid = peercred.uid;
	peer->gid = peercred.gid;
	if (peercred.pid <= 0)
		return;
	peer->pid = peercred.pid;
	read_exe(peer->pid, peer->exe, sizeof(peer->exe), &file);
	peer->is_libvirt = peer->exe[0] && (peer->uid == 0 || peer->uid == geteuid()) &&
			   is_daemon_file(&file);
	peer->is_enforced = peer->is_libvirt && has_this_library(peer->pid);
	if (!is_still_there(fd)) {
		peer->exe[0] = 0;
		peer->is_libvirt = peer->is_enforced = false;
	}
}

static void free_peer(void *data)
{
	void (*free_params)(void *, int) = (void *)real_of(NUMBER_virTypedParamsFree);
	struct peer *peer = data;

	if (peer->params && free_params)
		free_params(peer->params, peer->param_count);
	if (peer->identity && inner.unref)
		inner.unref(peer->identity);
	free(peer);
}

/* The peer of libvirt's connection; NULL: there is no memory. */
struct peer *peer_of(void *client)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct peer *peer = inner.get_data ? inner.get_data(client, PEER_KEY) : NULL;
	int saved = errno;

	if (peer || !inner.set_data || !inner.client_fd)
		return peer;
	/* mostly done when the connection is made, by one thread */
	pthread_mutex_lock(&lock);
	peer = inner.get_data(client, PEER_KEY);
	if (!peer && (peer = calloc(1, sizeof(*peer)))) {
		read_peer(peer, inner.client_fd(client));
		inner.set_data(client, PEER_KEY, peer, free_peer);
	}
	pthread_mutex_unlock(&lock);
	errno = saved;
	return peer;
}
