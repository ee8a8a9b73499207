//! Anycast networks out of Linux network namespaces.
