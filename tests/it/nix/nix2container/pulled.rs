//! Base images that are pulled.
