//! The integration tests: the real binary, real sockets, and a scripted provider; one module for each promise.

mod support;

mod chat;
