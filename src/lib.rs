//! Outrider: a sidecar that lets a Galileo runner call any LLM as if it were OpenAI.
//!
//! The rooms below stand in floor order: a module may name only modules that stand above it
//! (`tests/architecture.rs` checks that). One request walks through them like this:
//!
//! ```text
//! server::listen -> shell (catch panic, request id)
//!  -> proxy::answer(request, registry snapshot)
//!       intake      body read, scanned once            -> openai::Envelope
//!       registry    path or model                      -> integration::Integration
//!       permit      a slot, held to the last byte
//!       edit        defaults, rename, drop             -> openai::Envelope
//!       prepare     dialect                            -> outbound::Unsigned + Decoder
//!       dress       path, query, headers               -> outbound::Unsigned
//!       sign        auth                               -> outbound::Signed
//!       send        egress                             -> response head and body
//!       relay/reply Decoder                            -> OpenAI-shaped answer, stream or fault
//! ```

// words: values; no I/O, no async
pub mod echo;
pub mod hop;
pub mod names;
pub mod secret;

pub mod outbound;

pub mod openai;

pub mod framing;

// read by settings, by TLS and by what watches them
pub mod files;

// grammar: pure translation, pure settings
pub mod dialect;

pub mod tls;

pub mod config;

// hands: sockets, processes, time
pub mod joined;

pub mod tasks;

pub mod observe;

pub mod egress;

pub mod workers;

pub mod auth;

// one integration assembled
pub mod integration;

// the journey
pub mod proxy;

// the house itself
pub mod server;

pub mod app;

pub mod cli;
