//! How settings print: only what cannot hold a secret. Queries, parameters, constructor arguments and the user's own
//! tables may, whatever they are called.

use std::fmt;

use super::{Aws, AwsKeys, Edits, Gcp, GcpSource, Handler, Integration, OAuth2, SecretSource, Variables};

impl fmt::Debug for Integration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Integration")
            .field("name", &self.name)
            .field("origin", &self.origin)
            .field("format", &self.format)
            .field("endpoint", &self.endpoint)
            .field("authorization", &self.authorization)
            .field("models", &self.models)
            .field("limits", &self.limits)
            .field("world", &self.world)
            .finish_non_exhaustive()
    }
}

/// A path may be a secret that was written into the wrong key.
impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inline(_) => "Inline(***)",
            Self::File(_) => "File(***)",
            Self::Token { .. } => "Token(***)",
        })
    }
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth2")
            .field("token_host", &self.token_url.host())
            .field("client_auth", &self.client_auth)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match self.keys {
            AwsKeys::Fixed { .. } => "fixed",
            AwsKeys::WebIdentity(_) => "of a web identity",
        };
        f.debug_struct("Aws").field("keys", &keys).finish_non_exhaustive()
    }
}

impl fmt::Debug for Gcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            GcpSource::File(_) => "a file",
            GcpSource::Metadata(_) => "the machine",
        };
        f.debug_struct("Gcp").field("source", &source).finish_non_exhaustive()
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("file_name", &self.file_name)
            .field("class_name", &self.class_name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl fmt::Debug for Edits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.defaults.iter().map(|(name, _)| name).collect();
        f.debug_struct("Edits")
            .field("defaults", &names)
            .field("rename", &self.rename)
            .field("drop", &self.drop)
            .finish()
    }
}
