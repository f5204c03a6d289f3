//! The certificate of our own listeners: loaded at the start, renewed when the content of its files changes.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::valid::Server;
use crate::files::{self, Prints};
use crate::tls::Inbound;

/// `server.tls`, and what its files were when they were last tried.
#[derive(Debug, Default)]
pub(super) struct Door {
    inbound: Option<Arc<Inbound>>,
    seen: Prints,
}

impl Door {
    /// Loads it, if there is one.
    ///
    /// # Errors
    ///
    /// What is wrong with its files: there is nothing to serve without them.
    pub(super) fn load(server: &Server) -> Result<Self, String> {
        let Some(files) = server.tls.clone() else { return Ok(Self::default()) };
        let inbound = Inbound::load(files).map_err(|why| format!("server.tls: {why}"))?;
        let mut door = Self { inbound: Some(Arc::new(inbound)), seen: Prints::new() };
        door.seen = door.prints();
        Ok(door)
    }

    /// What the listeners speak.
    pub(super) fn inbound(&self) -> Option<&Arc<Inbound>> {
        self.inbound.as_ref()
    }

    /// What must be looked at.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.inbound.iter().map(|inbound| inbound.files());
        files.flat_map(|files| {
            [Some(&files.cert_file), Some(&files.key_file), files.client_ca_file.as_ref()]
                .into_iter()
                .flatten()
                .cloned()
        })
    }

    /// The files are so now. What was refused is tried again when it changes.
    pub(super) fn looked(&mut self, now: &Prints) {
        let now: Prints =
            self.files().filter_map(|path| now.get(&path).map(|print| (path, *print))).collect();
        if now.iter().any(|(path, print)| self.seen.get(path) != Some(print)) {
            self.seen.extend(now);
            self.renew();
        }
    }

    /// SIGHUP.
    pub(super) fn reload(&mut self) {
        self.seen = self.prints();
        self.renew();
    }

    fn renew(&self) {
        match self.inbound.as_ref().map(|inbound| inbound.renew()) {
            Some(Ok(true)) => tracing::info!("server.tls renewed: new connections use it"),
            Some(Err(why)) => tracing::error!("server.tls: {why}; the old certificate stays in use"),
            Some(Ok(false)) | None => {}
        }
    }

    fn prints(&self) -> Prints {
        self.files().map(|path| (path.clone(), files::print(&path))).collect()
    }
}
