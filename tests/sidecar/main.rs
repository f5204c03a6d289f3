//! The integration tests: the real binary, real sockets, and a scripted provider; one module for each promise.

mod support;

mod admin;
mod auth_api_key;
mod auth_oauth2;
mod chat;
mod cli;
mod config;
mod degrade;
mod edits;
mod embeddings;
mod faults;
mod format_azure;
mod format_mistral;
mod formats;
mod golden;
mod headers;
mod inbound;
mod journeys;
mod lifecycle;
mod limits;
mod proxy;
mod readme;
mod refusals;
mod relay;
mod reload;
mod rotation;
mod routing;
mod stop;
mod stream;
mod tls;
