/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/* empty: see linux/kconfig.h */
