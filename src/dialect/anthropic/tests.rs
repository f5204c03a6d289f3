//! The traps of FORMATS, on Anthropic.
