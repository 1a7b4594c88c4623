/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finds the connection that a call works on: its handle and its URI go out. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "handles.h"

/*
 * A struct _virURI, joined the way libvirt does, without the fragment; `bare`: also without what
 * doesn't change whose driver it is.
 */
static bool join_uri(char *buffer, size_t size, const void *uri, bool bare)
{
	const char *scheme = text_at(uri, URI_SCHEME), *server = text_at(uri, URI_SERVER);
	const char *user = text_at(uri, URI_USER), *path = text_at(uri, URI_PATH);
	const char *query = text_at(uri, URI_QUERY);
	int port = *(const int *)((const char *)uri + URI_PORT);
	bool has_server = server && *server, is_v6 = has_server && strchr(server, ':');
	size_t n = 0;

	if (!scheme)
		return false;
	n = append(buffer, size, n, scheme);
	/* on this host, how it is reached makes no difference */
	if (bare && !has_server && strchr(buffer, '+'))
		n = strchr(buffer, '+') - buffer;
	n = append(buffer, size, n, "://");
	if (!bare && user && *user) {
		n = append(buffer, size, n, user);
		n = append(buffer, size, n, "@");
	}
	n = append(buffer, size, n, is_v6 ? "[" : "");
	n = append(buffer, size, n, server ? server : "");
	n = append(buffer, size, n, is_v6 ? "]" : "");
	if (port > 0 && has_server) {
		n = append(buffer, size, n, ":");
		n = append_number(buffer, size, n, port);
	}
	n = append(buffer, size, n, path ? path : "");
	if (!bare && query && *query) {
		n = append(buffer, size, n, "?");
		n = append(buffer, size, n, query);
	}
	return n + 1 < size;	/* else it may be cut */
}

static size_t append_part(char *buffer, size_t size, size_t n, const char *from, const char *to)
{
	while (from < to && n < size - 1)
		buffer[n++] = *from++;
	buffer[n] = 0;
	return n;
}

/*
 * The same for a URI that a connection is to be opened with; false: libvirt may make another one of
 * it.
 */
bool strip_uri(char *buffer, size_t size, const char *uri)
{
	const char *scheme_end = strstr(uri, "://"), *server, *server_end, *end, *user, *plus;
	size_t n;

	if (!scheme_end)
		return false;	/* a short name from the client's configuration */
	server = scheme_end + 3;
	server_end = server + strcspn(server, "/?#");
	end = server_end + strcspn(server_end, "?#");
	if (memchr(uri, '%', end - uri))
		return false;
	user = memrchr(server, '@', server_end - server);
	server = user ? user + 1 : server;
	plus = memchr(uri, '+', scheme_end - uri);
	n = append_part(buffer, size, 0, uri, plus && server == server_end ? plus : scheme_end);
	n = append(buffer, size, n, "://");
	n = append_part(buffer, size, n, server, end);
	return n + 1 < size;
}

/* As is_known(), for connections: whether libvirt's own URI begins with the scheme found there. */
static void *known_connection(struct question *ask, void *conn)
{
	uint64_t class, known = atomic_load_explicit(&classes[CONNECT], memory_order_relaxed);
	uint64_t get_uri = real_of(NUMBER_virConnectGetURI);
	const char *const *uri;
	char *text;

	if (known == 1 || is_handle(CONNECT, conn) != YES)
		return NULL;
	class = *(const uint64_t *)conn;
	if (known)
		return class == known ? conn : NULL;
	if (!get_uri)
		return NULL;
	begin_looking(ask);
	text = ((char *(*)(void *))get_uri)(conn);
	if (!text)
		return NULL;
	uri = (const char *const *)text_at(conn, CONNECT_URI);
	if (!is_readable(uri) || !is_readable(*uri) || strncmp(text, *uri, 3))
		class = 1;
	free(text);
	atomic_store(&classes[CONNECT], class);
	return class == 1 ? NULL : conn;
}

/* The connection that the call works on, for its error and its URI; NULL: it can't be told. */
void *connection_of(struct question *ask)
{
	const struct source *source = at(ask->head, ask->row->sources);

	for (unsigned i = 0; i < ask->row->source_count; i++, source++) {
		const void *handle = (const void *)argument(ask->call, source->argument);
		enum object_type type = source->type;

		if (source->kind == BY_HANDLES) {
			if (!is_readable(handle))
				return NULL;
			handle = *(const void *const *)handle;
		} else if (source->kind != BY_HANDLE && source->kind != BY_CONNECTION &&
			   source->kind != IN_POOL)
			continue;
		if (type == CONNECT)
			return known_connection(ask, (void *)handle);
		while (is_known(ask, type, handle) && !layouts[type].conn && layouts[type].parent) {
			handle = (const void *)text_at(handle, layouts[type].parent);
			type = layouts[type].parent_type;
		}
		if (is_known(ask, type, handle) && layouts[type].conn)
			return known_connection(ask, (void *)text_at(handle, layouts[type].conn));
	}
	return NULL;
}

/*
 * Whether the connection's driver is one that its URI names. A client says by which URI its daemon
 * is to connect ("?name="): one with a server leads the daemon to itself or another one, as its own
 * client; and root's daemon has one driver for both qemu:///system and qemu:///session.
 */
static bool is_own_driver(char *bare_uri)
{
	char *path = strstr(bare_uri, "://");

	if (!is_daemon)
		return true;
	if (!path || (path[3] && path[3] != '/'))
		return false;
	if (!strcmp(path, ":///session") && geteuid() == 0)
		memcpy(path + 4, "system", sizeof("system"));
	return true;
}

/* What rules on `uri` and `readonly` ask for. */
void find_connection(struct question *ask)
{
	const struct function *function = &functions[ask->call->number];
	const char *conn, *uri;

	if (ask->have_uri)
		return;
	ask->have_uri = true;
	ask->has_uri = ask->is_readonly = UNKNOWN;
	if (!strncmp(function->name, "virConnectOpen", 14)) {
		const char *name = string_at(ask->call->args[0]);

		if (name && append(ask->uri, sizeof(ask->uri), 0, name) + 1 < sizeof(ask->uri) &&
		    strip_uri(ask->bare_uri, sizeof(ask->bare_uri), name) &&
		    is_own_driver(ask->bare_uri))
			ask->has_uri = YES;
		if (!strcmp(function->name, "virConnectOpen"))
			ask->is_readonly = NO;
		else if (!strcmp(function->name, "virConnectOpenReadOnly"))
			ask->is_readonly = YES;
		else if (!strcmp(function->name, "virConnectOpenAuth"))
			ask->is_readonly = ask->call->args[2] & 1 ? YES : NO;
		return;
	}
	conn = connection_of(ask);
	if (!conn)
		return;
	ask->is_readonly = *(const uint32_t *)(conn + CONNECT_FLAGS) & 1 ? YES : NO;
	uri = text_at(conn, CONNECT_URI);
	if (uri && join_uri(ask->uri, sizeof(ask->uri), uri, false) &&
	    join_uri(ask->bare_uri, sizeof(ask->bare_uri), uri, true) &&
	    is_own_driver(ask->bare_uri))
		ask->has_uri = YES;
}
