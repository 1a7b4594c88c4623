/* empty: everything that BCC needs of it is in linux/kconfig.h */
