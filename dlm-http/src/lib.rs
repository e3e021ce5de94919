//! HTTP and HTTPS sources for dlm.
