/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a call is what a rule asks for: a condition comes in; yes, no, or that it can't be told
 * goes out.
 */
#include <string.h>
#include "enforcer.h"

/*
 * A list with what matches first and then what must not: does it match, if item i does when
 * matches(i)?
 */
#define LIST(c, matches)						\
	({								\
		bool yes_ = !(c)->yes, no_ = false;			\
		for (uint32_t i = 0; !yes_ && i < (c)->yes; i++)	\
			yes_ = (matches);				\
		for (uint32_t i = (c)->yes; yes_ && !no_ && i < (c)->yes + (c)->no; i++) \
			no_ = (matches);				\
		yes_ && !no_ ? YES : NO;				\
	})

/* `unseen`: what a glob for "PARENT/NAME" makes of a parent that can't be told. */
static bool object_is(const struct object *object, const char *glob, bool unseen)
{
	char full[2 * NAME_MAX_BYTES];
	size_t n;

	if (!object->parent_is_name && glob_matches(glob, object->name, object->length))
		return true;
	if (!strchr(glob, '/'))
		return false;
	if (object->misses_parent)
		return unseen;
	if (!object->parent)
		return false;
	/* libvirt's names are file names or shorter; what doesn't fit matches nothing but "*" */
	n = append(full, sizeof(full), 0, object->parent);
	n = append(full, sizeof(full), n, "/");
	if (n + object->length >= sizeof(full))
		return false;
	memcpy(full + n, object->name, object->length);
	return glob_matches(glob, full, n + object->length);
}

/*
 * `inner`: the snapshot of this domain, or the like, that the call is about; NULL: there is none.
 * Either has names of the same thing.
 */
static enum certainty object_matches(const struct head *head, const struct condition *c,
				     const struct object *object, const struct object *inner)
{
	const uint32_t *globs = at(head, c->items);
	enum certainty found;

	if (object->has_name != YES)
		return object->has_name;
	/* at worst what can't be seen matches only what must not match, at best the other way */
	found = LIST(c, object_is(object, at(head, globs[i]), i >= c->yes) ||
				(inner && object_is(inner, at(head, globs[i]), false)));
	if (!object->misses_parent)
		return found;
	if (found != LIST(c, object_is(object, at(head, globs[i]), i < c->yes)))
		return UNKNOWN;
	return found;
}

static enum certainty uuid_matches(const struct head *head, const struct condition *c,
				   const struct object *object)
{
	const uint8_t (*uuids)[16] = at(head, c->items);

	if (object->has_uuid != YES)
		return object->has_uuid;
	return LIST(c, !memcmp(uuids[i], object->uuid, 16));
}

static enum certainty both(enum certainty a, enum certainty b)
{
	if (a == NO || b == NO)
		return NO;
	return a == UNKNOWN || b == UNKNOWN ? UNKNOWN : YES;
}

static enum certainty either(enum certainty a, enum certainty b)
{
	if (a == YES || b == YES)
		return YES;
	return a == UNKNOWN || b == UNKNOWN ? UNKNOWN : NO;
}

/* `all`: of all objects, else of one. A snapshot counts together with its domain. */
static enum certainty objects_match(struct question *ask, const struct condition *c, bool all)
{
	enum certainty result = all ? YES : NO;
	bool any = false;

	find_objects(ask);
	if (ask->is_uncertain_list)
		return UNKNOWN;
	for (unsigned i = 0; i < ask->object_count; i++)
		any |= !ask->objects[i].only_parent;
	if (!any)
		return NO;
	for (unsigned i = 0; i < ask->object_count; i++) {
		const struct object *object = &ask->objects[i], *inner = NULL;
		enum certainty one;

		if (object->only_parent)
			continue;
		if (i + 1 < ask->object_count && ask->objects[i + 1].parent_is_name)
			inner = &ask->objects[++i];
		one = c->kind == IS_UUID ? uuid_matches(ask->head, c, object)
					 : object_matches(ask->head, c, object, inner);
		if (all)
			result = both(result, one);
		else
			result = either(result, one);
	}
	return result;
}

static bool is_principal(const struct head *head, const struct who *who, const struct principal *p)
{
	switch (p->kind) {
	case UID:
		return who->uid == p->value && who->uid != (uint32_t)-1;
	case GID:
		return who->gid == p->value && who->gid != (uint32_t)-1;
	case SASL:
		return who->sasl && glob_matches(at(head, p->value), who->sasl, strlen(who->sasl));
	default:
		return who->x509 && glob_matches(at(head, p->value), who->x509, strlen(who->x509));
	}
}

static enum certainty text_matches(const struct head *head, const struct condition *c,
				   const char *text)
{
	const uint32_t *globs = at(head, c->items);
	size_t length = strlen(text);

	return LIST(c, glob_matches(at(head, globs[i]), text, length));
}

static bool is_uri(const struct question *ask, const char *glob)
{
	return glob_matches(glob, ask->uri, strlen(ask->uri)) ||
	       glob_matches(glob, ask->bare_uri, strlen(ask->bare_uri));
}

/*
 * Networks, pools and devices of a host have one driver each, whatever hypervisor's connection they
 * are reached by: where the rule would say something else for another one, it can't be told.
 */
static enum certainty uri_matches(struct question *ask, const struct condition *c)
{
	static const char *const schemes[] = {
		"qemu", "lxc", "xen", "ch", "network", "storage", "nodedev", "secret", "nwfilter",
		"interface"
	};
	static const char *const families[] = {
		"virNetwork", "virStorage", "virNodeDevice", "virSecret", "virNWFilter",
		"virInterface"
	};
	const uint32_t *globs = at(ask->head, c->items);
	const char *name = functions[ask->call->number].name, *path = strstr(ask->bare_uri, ":///");
	enum certainty said = LIST(c, is_uri(ask, at(ask->head, globs[i])));
	bool is_shared = false, is_host = false;
	size_t length = path ? path - ask->bare_uri : 0;
	char uri[sizeof(ask->bare_uri) + 16];

	for (unsigned i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		is_shared |= !strncmp(name, families[i], strlen(families[i]));
	for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		is_host |= length == strlen(schemes[i]) &&
			   !memcmp(schemes[i], ask->bare_uri, length);
	if (!is_shared || !is_host || (strcmp(path, ":///system") && strcmp(path, ":///session")))
		return said;
	for (unsigned k = 0; k < sizeof(schemes) / sizeof(schemes[0]); k++) {
		size_t n = append(uri, sizeof(uri), 0, schemes[k]);

		n = append(uri, sizeof(uri), n, path);
		if (said != LIST(c, glob_matches(at(ask->head, globs[i]), uri, n)))
			return UNKNOWN;
	}
	return said;
}

static enum certainty contains(struct question *ask, const struct condition *c)
{
	const char *text = document_of(ask->call, c->argument);
	const uint32_t *strings = at(ask->head, c->items);
	bool uncertain = false;

	if (!text)
		return NO;	/* libvirt refuses the call, or there is none that could have it */
	for (uint32_t i = 0; i < c->yes; i++) {
		const char *sought = at(ask->head, strings[i]);

		if (strstr(text, sought))
			return YES;
		uncertain |= c->kind == CONTAINS_XML && !is_plain_xml(text, sought);
	}
	return uncertain ? UNKNOWN : NO;
}

static enum certainty has_one_of(struct question *ask, const struct condition *c)
{
	const char *xml = document_of(ask->call, c->argument);
	const uint32_t *strings = at(ask->head, c->items);
	enum certainty result = NO;

	for (uint32_t i = 0; xml && i < c->yes && result != YES; i++) {
		enum certainty one = has_element(xml, at(ask->head, strings[i]));

		result = one == NO ? result : one;
	}
	return result;
}

static uint32_t number_at(const struct question *ask, const struct condition *c)
{
	return argument(ask->call, c->argument);
}

enum certainty holds(struct question *ask, const struct condition *c, bool allows)
{
	const struct head *head = ask->head;
	struct who *who = &ask->who[ask->turn];
	const char *exe;

	switch (c->kind) {
	case IS_OBJECT:
	case IS_UUID:
		return objects_match(ask, c, allows);
	case IS_USER:
		find_user(who);
		return LIST(c, is_principal(head, who,
					    (const struct principal *)at(head, c->items) + i));
	case IS_URI:
		find_connection(ask);
		return ask->has_uri == YES ? uri_matches(ask, c) : UNKNOWN;
	case IS_READONLY:
		find_connection(ask);
		if (ask->is_readonly == UNKNOWN)
			return UNKNOWN;
		return (ask->is_readonly == YES) == (c->value != 0) ? YES : NO;
	case IS_EXE:
		exe = find_exe(ask, who);
		return *exe ? text_matches(head, c, exe) : UNKNOWN;
	case FLAGS_ANY:
		return number_at(ask, c) & c->value ? YES : NO;
	case FLAGS_ALL:
		return (number_at(ask, c) & c->value) == c->value ? YES : NO;
	case FLAGS_NONE:
		return number_at(ask, c) & c->value ? NO : YES;
	case ARG_EQUALS:
		return number_at(ask, c) == c->value ? YES : NO;
	case ARG_DIFFERS:
		return number_at(ask, c) != c->value ? YES : NO;
	case HAS_ELEMENT:
		return has_one_of(ask, c);
	default:
		return contains(ask, c);
	}
}
