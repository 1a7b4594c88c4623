/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* xml.c: what xml_name.c and xml_has.c read documents with. */
#ifndef XML_H
#define XML_H
#include "enforcer.h"

#define BYTES_MAX (1 << 20)

struct reader {
	const char *at, *end;
};

struct tag {
	const char *name;	/* of the element */
	size_t length;
	const char *attributes, *end;	/* what is between the name and the closing bracket */
	bool closes;		/* </name> */
	bool is_empty;		/* <name/> */
};

bool is_blank(char c);
bool starts(const struct reader *r, const char *text);
bool skip_past(struct reader *r, const char *text);
bool read_prolog(struct reader *r);
bool read_tag(struct reader *r, struct tag *tag);
bool is_named(const struct tag *tag, const char *name);
const char *local_name(const char *name, const char *end);
enum certainty read_attribute(const struct tag *tag, const char *name, const char **value,
			      size_t *length);
bool has_namespace(const struct tag *tag);
bool is_plain_text(const char *text, size_t length);

#endif
